"""Run notebooks from top to bottom and save what they print and draw: `python notebooks/run.py 03 04`; all by default.

Needs `pip install minineo[notebooks]`. What differs from run to run without telling a reader anything, such as times of
execution in the metadata, is not saved, so that a change of a notebook is a small difference of files.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
LIMIT = 600  # seconds that one cell may take, also on a machine that is busy with other work
LOCAL = ("127.0.0.1", "::1", "localhost", None)
KEPT_METADATA = {"tags", "alt"}
METADATA = {
    "kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3", "file_extension": ".py"},
}


def execute(path: Path):
    """Run a notebook in a fresh kernel, in its folder and without a network, and return it with its outputs."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=LIMIT,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        coalesce_streams=True,
        extra_arguments=[
            "--IPKernelApp.log_level=40",
            f"--IPKernelApp.exec_lines=import sys; sys.path.insert(0, {str(HERE)!r})",
            "--IPKernelApp.exec_lines=import run; run.refuse_network(); del run; del sys.path[0], sys",
        ],
    )
    # one thread: sums come out the same on machines with more or fewer cores
    client.execute(env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    return tidied(notebook)


def tidied(notebook):
    """Give cells names that stay the same, and drop metadata other than tags and the alternative texts of pictures."""
    notebook.metadata = METADATA
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
        cell.metadata = {name: value for name, value in cell.metadata.items() if name in KEPT_METADATA}
    return notebook


def refuse_network() -> None:
    """Let every connection from this process to another machine fail; called in the kernel."""

    def refuse(event: str, arguments: tuple) -> None:
        if event not in ("socket.connect", "socket.getaddrinfo"):
            return
        address = arguments[1] if event == "socket.connect" else arguments
        if isinstance(address, tuple) and address[0] not in LOCAL:  # the address of a Unix socket is a str
            raise OSError(f"notebooks run without a network, and this one asked for {address[0]}")

    sys.addaudithook(refuse)


def main(names: list[str]) -> None:
    """Run the notebooks whose file names begin with one of these, and save each in its place."""
    import nbformat

    paths = [path for path in sorted(HERE.glob("*.ipynb")) if not names or path.name.startswith(tuple(names))]
    if not paths:
        sys.exit(f"no notebook in {HERE} has a name that begins with {' or '.join(names)}")
    for path in paths:
        start = time.perf_counter()
        notebook = execute(path)
        nbformat.write(notebook, path)
        print(f"{path.name:45} {time.perf_counter() - start:5.1f} s {path.stat().st_size / 1000:6.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
