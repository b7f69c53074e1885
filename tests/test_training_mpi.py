"""Training on several processes: MPI's ranks together do what one process does alone."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_runs import everything_learned, tiny_options

from minineo.training import loop
from minineo.training.checkpoint_files import checkpoints
from minineo.training.distributed import LAUNCHED, SIZES, Alone, join, share
from minineo.training.log import read_log
from minineo.training.options import usable_cores

# few steps: where there are fewer cores than work, ranks that wait for each other keep the others from working
SHORT: dict[str, Any] = {"steps": 6, "save_every": 2, "log_every": 1, "eval_every": 6, "sample_every": 6}
# AdamW divides tiny gradients by their size. What is nothing but rounding would become as large as any other update, if
# the least denominator were not larger than that.
SHORT["epsilon"] = 1e-3

MPIEXEC = Path(sys.executable).parent / "mpiexec"

HEAD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from training_runs import tiny_options
from minineo.training import loop
loop.plot_losses = print
def options(output, **changed):
    return tiny_options(Path({folder!r}), output, **{short!r} | changed)
rank = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")))
original = loop.training_step
def at_step(number, action):
    def training_step(run, *others):
        if rank == 1 and run.position.step == number:
            action()
        return original(run, *others)
    loop.training_step = training_step
def fail():
    raise RuntimeError("something is wrong in here")
"""


def on_two_ranks(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run a script on two processes, for five minutes at most."""
    if importlib.util.find_spec("mpi4py") is None or not MPIEXEC.exists():
        pytest.skip('mpi4py and mpiexec are not installed: pip install -e ".[mpi]"')
    script = folder / "script.py"
    script.write_text(
        HEAD.format(tests=str(Path(__file__).parent), folder=str(folder), short=SHORT) + code, encoding="utf-8"
    )
    command = [str(MPIEXEC), "-n", "2", sys.executable, str(script)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300, stdin=subprocess.DEVNULL)


@pytest.fixture(autouse=True)
def without_a_picture(monkeypatch):
    monkeypatch.setattr(loop, "plot_losses", lambda *_: None)


@pytest.mark.oracle
@pytest.mark.parametrize("changed", [{}, {"gradient_accumulation": 2, "resid_dropout": 0.1, "batch_size": 5}])
def test_two_ranks_give_what_one_process_gives(tmp_path, changed):
    alone = tiny_options(tmp_path, "alone", **SHORT, **changed)
    loop.train(alone)
    result = on_two_ranks(tmp_path, f"loop.train(options('together', **{changed}), progress=True)")
    assert result.returncode == 0, result.stderr
    together = tiny_options(tmp_path, "together", **SHORT, **changed)
    expected, found = (everything_learned(run, 6) for run in (alone, together))
    assert list(expected) == list(found)
    for name, value in expected.items():
        assert np.abs(found[name] - value).max() <= 1e-5 * np.abs(value).max(), name
    lines = [read_log(Path(run.output)) for run in (alone, together)]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]]
    np.testing.assert_allclose(*([line["loss"] for line in log if "loss" in line] for log in lines), rtol=1e-5)
    assert result.stderr.count("the model of step 6") == 1  # the first process alone says something


@pytest.mark.oracle
def test_ctrl_c_on_one_rank_stops_both_at_the_same_step(tmp_path):
    code = """
at_step(2, lambda: signal.raise_signal(signal.SIGINT))
try:
    loop.train(options("out"))
except KeyboardInterrupt:
    sys.exit(0)
sys.exit(1)
"""
    result = on_two_ranks(tmp_path, code)
    assert result.returncode == 0, result.stderr
    options = tiny_options(tmp_path, **SHORT)
    assert max(checkpoints(Path(options.output))) == 3
    loop.train(options, resume=True)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("action", "words"),
    [("os.kill(os.getpid(), signal.SIGKILL)", "KILLED"), ("fail()", "something is wrong in here")],
)
def test_a_rank_that_dies_ends_the_run_and_leaves_the_last_checkpoint(tmp_path, action, words):
    result = on_two_ranks(tmp_path, f"at_step(3, lambda: {action})\nloop.train(options('out'))")
    assert result.returncode != 0
    assert words.lower() in (result.stdout + result.stderr).lower()
    options = tiny_options(tmp_path, **SHORT)
    assert max(checkpoints(Path(options.output))) == 2
    loop.train(options, resume=True)


@pytest.mark.oracle
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what stands unread in a pipe")
def test_the_reason_arrives_though_mpiexec_reads_late(tmp_path):
    """On a busy machine mpiexec may hear of the end before it has read why."""
    code = """
import subprocess
def fail_unheard():
    reader = os.getppid()
    os.kill(reader, signal.SIGSTOP)
    command = ["sh", "-c", f"sleep 5; kill -CONT {reader}"]
    subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    fail()
at_step(1, fail_unheard)
loop.train(options("out"))
"""
    result = on_two_ranks(tmp_path, code)
    assert result.returncode != 0
    assert "something is wrong in here" in result.stderr


@pytest.mark.oracle
def test_what_is_wrong_for_all_is_said_once(tmp_path):
    result = on_two_ranks(tmp_path, "loop.train(options('out', batch_size=1))")
    assert result.returncode != 0
    assert result.stderr.count("batch_size: received 1 for 2 processes") == 1
    assert not (tmp_path / "out").exists()


def test_mpiexec_without_mpi4py_says_what_to_install(monkeypatch):
    for name in SIZES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r"minineo\[mpi\]"):
        join()


@pytest.mark.parametrize(
    ("environment", "is_alone"),
    [
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, True),
        ({"PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "1"}, True),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, False),
        ({"PMI_RANK": "0", "PMI_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}, False),
    ],
)
def test_the_only_process_needs_no_mpi4py(monkeypatch, environment, is_alone):
    for name in (*LAUNCHED, *SIZES):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    if is_alone:
        assert type(join()) is Alone
    else:
        with pytest.raises(ImportError, match=r"minineo\[mpi\]"):
            join()


def test_without_mpiexec_a_process_is_alone(monkeypatch):
    for name in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"):
        monkeypatch.delenv(name, raising=False)
    processes = join()
    assert type(processes) is Alone
    assert (processes.rank, processes.size, processes.broadcast("x")) == (0, 1, "x")


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 7])
def test_shares_hold_every_row_once(parts):
    shares = [share(7, part, parts) for part in range(parts)]
    assert [row for rows in shares for row in rows] == list(range(7))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_cores_are_shared_with_the_other_processes(monkeypatch):
    monkeypatch.delenv("MPI_LOCALNRANKS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert usable_cores() == 8
    monkeypatch.setenv("MPI_LOCALNRANKS", "4")
    assert usable_cores() == 2
    monkeypatch.setenv("MPI_LOCALNRANKS", "16")
    assert usable_cores() == 1
