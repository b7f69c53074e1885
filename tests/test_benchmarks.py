"""The benchmarks run, compare and write what they found. How fast anything is, no test says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PICOGPT = "picoGPT's way"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmarks are not installed with the package: they are found in the folder of the repository."""
    monkeypatch.syspath_prepend(ROOT)


def test_quick_run_measures_each_peer_against_the_limit_and_writes_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "decode", "--quick", "--threads", "1", "--output", str(tmp_path)]
    command += ["--peers", "minineo", PICOGPT]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads((tmp_path / "decode.json").read_text())
    assert {timing["peer"] for timing in found["timings"]} == {"minineo", PICOGPT, "matrix products alone"}
    assert all(seconds > 0 for timing in found["timings"] for seconds in timing["runs"])
    assert 0 <= found["data"]["difference of logits"][f"tiny, {PICOGPT}"] < 1e-4
    assert found["machine"]["threads"] == 1
    assert found["claims"] == []  # tiny shapes prove nothing
    assert "decode at position 16" in (tmp_path / "summary.md").read_text()


def test_steps_are_measured_before_and_after(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "steps", "--quick", "--threads", "1", "--output", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    found: dict[str, set[str]] = {}
    for timing in json.loads((tmp_path / "steps.json").read_text())["timings"]:
        assert all(seconds > 0 for seconds in timing["runs"])
        found.setdefault(timing["work"], set()).add(timing["peer"])
    assert "8 rows, c_fc: x @ weight.T -> product" in found
    assert all(peers == {"before", "minineo"} for peers in found.values())


def test_steps_whose_results_differ_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.peers import steps
    from benchmarks.shapes import TINY

    every = steps.Steps(TINY, quick=True)
    name = next(iter(every.names()))
    assert every.prepare(name) < 1e-4
    monkeypatch.setattr(steps.activations, "gelu_new", lambda x: 1.001 * x)
    with pytest.raises(ValueError, match=r"gelu.*before and after differ by"):
        every.prepare(name)


def test_without_a_gpu_its_part_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.__main__ import ON_REQUEST, PARTS, main

    def missing(name: str) -> None:
        raise ModuleNotFoundError("no", name="cupy")

    monkeypatch.setattr("minineo.devices.import_module", missing)
    assert main(["gpu", "--quick", "--threads", "1"]) == 1
    assert "gpu FAILED: nothing was measured: device 'cuda': CuPy is not installed" in capsys.readouterr().out
    assert set(ON_REQUEST) <= set(PARTS)


def test_claims_say_how_far_a_goal_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.report import Report

    report = Report("part", "Title")
    report.add("work", {"minineo": [0.2, 0.1], "peer": [0.3, 0.25]}, 10, "tok")
    assert report.ratio("work", "peer") == 2.5
    assert report.ratio("work", "somebody else") is None
    report.claim("enough", report.ratio("work", "peer"), 2.5)
    report.claim("too little", report.ratio("work", "peer"), 5.0)
    report.claim("too much", 0.7, 0.6, at_least=False)
    report.claim("did not run", report.ratio("work", "somebody else"), 1.0)
    assert [claim.reached for claim in report.claims] == [True, False, False]
    printed = capsys.readouterr().out
    assert "2.50 x as fast" in printed
    assert "NOT reached, 50% of it" in printed


def test_rounds_alternate_and_a_peer_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.timing import alternate
    from benchmarks.workers import WorkerError

    monkeypatch.setattr("benchmarks.timing.PAUSE", 0.0)
    order: list[str] = []
    failures: list[str] = []

    def call(name: str) -> float:
        order.append(name)
        if name == "broken":
            raise WorkerError("no")
        return 1.0

    calls = {name: lambda name=name: call(name) for name in ("one", "broken", "two")}
    results = alternate(calls, 2, lambda name, error: failures.append(f"{name}: {error}"))
    assert order == ["one", "broken", "two", "one", "two", "one", "two"]
    assert results == {"one": [1.0, 1.0], "two": [1.0, 1.0]}
    assert failures == ["broken: no"]


def test_worker_reports_what_went_wrong() -> None:
    from benchmarks.workers import Worker, WorkerError

    with Worker("fractions:Fraction", 3, 4, threads=1) as worker:
        assert worker.call("limit_denominator", 2) == 1
        with pytest.raises(WorkerError, match="max_denominator should be at least 1"):
            worker.call("limit_denominator", 0)
    with pytest.raises(WorkerError, match="ModuleNotFoundError"):
        Worker("no_such_module_at_all:Model")
