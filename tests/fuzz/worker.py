"""A process that runs one case after the other and says on standard output which it begins and what came of it.

python -m fuzz.worker FORMAT FIRST STOP
"""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path

from fuzz.cases import SECRET, make_case
from fuzz.judge import judge

MOST_ADDRESSES = 2 * 2**30
"""More memory than this, and the process is refused it: an ordinary case takes a hundredth."""


WARM_UP = 12  # cases of a format that are not judged: what is imported or compiled at first use is so then


def run_case(format_: str, number: int, root: Path) -> dict[str, object]:
    """Make a case, judge it and remove it."""
    folder = root / "case"
    gc.collect()
    what = make_case(format_, number, folder)
    try:
        verdict = judge(format_, folder, thorough=number % 8 == 0)
        left = sorted(set(os.listdir(root)) - {SECRET, "case"})
    finally:
        shutil.rmtree(folder)
    problems = [*verdict.problems, *(f"left {name} behind" for name in left)]
    return {**verdict._asdict(), "problems": problems, "what": what}


def main() -> None:
    """Run the cases that the command line lists as JSON; before each there is a line `null`, after it its result."""
    cases = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="minineo-fuzz-") as temporary:
        root = Path(temporary).resolve()
        (root / SECRET).write_bytes(b"nothing in the folder of a case may lead here")
        os.chdir(root)
        b"\xff".decode("cp437")  # names in zips; Python imports an encoding when it is first used
        for format_ in dict.fromkeys(format_ for format_, _ in cases):
            for number in range(-WARM_UP, 0):
                run_case(format_, number, root)
        gc.freeze()  # the seeds and all modules, so that collecting garbage is soon done
        resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, MOST_ADDRESSES))
        for format_, number in cases:
            print("null", flush=True)
            print(json.dumps(run_case(format_, number, root)), flush=True)


if __name__ == "__main__":
    main()
