"""Fuzzing in short: some cases of each format, and proof that what is promised of them would not be broken unseen.

The long form is `python -m tests.fuzz` (see `fuzz/__main__.py`).
"""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fuzz import judge as judge_module
from fuzz.cases import FORMATS, SECRET, make_case
from fuzz.judge import Step, judge
from fuzz.run import run, table

from minineo.checkpoints import CheckpointError

CASES = 20  # of each format

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the cases have named pipes and links in them")


def test_some_cases_of_each_format(capsys: pytest.CaptureFixture[str]) -> None:
    tallies = run([(format_, number) for format_ in FORMATS for number in range(CASES)])
    with capsys.disabled():
        print(f"\n{table(tallies)}")
    assert [problem for tally in tallies for problem in tally.problems] == []
    assert {tally.format: tally.cases for tally in tallies} == dict.fromkeys(FORMATS, CASES)
    assert all(tally.accepted < CASES for tally in tallies)
    assert sum(tally.accepted for tally in tallies) > 2 * CASES  # what is accepted is tried further


def test_a_case_is_the_same_each_time(tmp_path: Path) -> None:
    for format_ in FORMATS:
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir(exist_ok=True)
            make_case(format_, 3, tmp_path / folder / format_)
        a, b = (
            {path.name: path.read_bytes() for path in (tmp_path / folder / format_).iterdir() if path.is_file()}
            for folder in "ab"
        )
        assert a == b


# What no reader may do ------------------------------------------------------------------------------------------------


def opens_another_file() -> None:
    (Path(SECRET)).read_bytes()


def recursion() -> None:
    recursion()


def takes_memory() -> None:
    np.ones(100 * 2**20, np.uint8)


def takes_long() -> None:
    began = time.process_time()
    while time.process_time() < began + 2.2:
        pass


def raises(error: Exception) -> Callable[[], None]:
    def step() -> None:
        raise error

    return step


MISTAKES = {
    "opens a file outside": (
        lambda: Path("../../outside").exists() or open("/etc/hostname").close(),
        "open ('/etc/hos",
    ),
    "lists a folder outside": (lambda: os.listdir("/"), "os.listdir"),
    "runs a command": (lambda: os.system("true"), "os.system"),
    "starts a process": (lambda: subprocess.run(["true"], check=True), "subprocess.Popen"),
    "runs code": (lambda: exec("1 + 1"), "exec"),
    "unpickles": (lambda: pickle.loads(pickle.dumps(print)), "pickle.find_class"),
    "imports": (lambda: __import__("antigravity_of_no_module"), "import ('antigravity_of_no_module'"),
    "calls into C": (lambda: ctypes.CDLL(None), "ctypes.dlopen"),
    "recursion": (recursion, "RecursionError, which is not documented"),
    "memory": (takes_memory, "took "),
    "time": (takes_long, "took "),
    "another error": (raises(KeyError("x")), "KeyError, which is not documented"),
    "a kin of a documented error": (raises(UnicodeDecodeError("utf-8", b"", 0, 1, "x")), "UnicodeDecodeError, which"),
    "an error that names no file": (raises(CheckpointError("broken")), "names no file: 'broken'"),
    "an error without end": (raises(CheckpointError("FOLDER" + 5000 * "x")), "a message of 5,0"),
    "an error that cannot be printed": (raises(CheckpointError("FOLDER \ud800")), "a message that cannot be printed"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_it_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    call, problem = MISTAKES[mistake]
    folder = tmp_path / "case"
    folder.mkdir()

    def step() -> None:
        try:
            call()
        except CheckpointError as error:
            raise CheckpointError(str(error).replace("FOLDER", str(folder))) from None

    monkeypatch.setattr(judge_module, "_steps", lambda format_, folder: [Step("read", step, (CheckpointError,))])
    problems = judge("safetensors", folder, thorough=True).problems
    if mistake == "memory" and not sys.platform.startswith("linux"):
        pytest.skip("how much memory a process had at most is told by Linux only")
    assert any(found.startswith(f"read: {problem}") for found in problems), problems


def test_a_process_that_dies_is_a_problem_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import fuzz.cases, os\n"
        "make = fuzz.cases.make_case\n"
        "def make_case(format_, number, folder):\n"
        "    if number == 1: os.abort()\n"
        "    return make(format_, number, folder)\n"
        "fuzz.cases.make_case = make_case\n"
    )
    monkeypatch.setattr("fuzz.run.TESTS", tmp_path / "tests")
    (tmp_path / "tests").symlink_to(Path(__file__).parent)
    (tally,) = run([("merges.txt", number) for number in range(3)])
    assert tally.cases == 3
    (problem,) = tally.problems
    assert problem.startswith("merges.txt, case 1 (?): the process ended (-6): Fatal Python error: Aborted")
