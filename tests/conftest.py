"""Fixtures and options that all tests share."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from minineo.model.heads import REFERENCE


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test counts as a failure (used in CI)")
    parser.addoption("--list-skipped", metavar="FILE", help="write the names of skipped tests to FILE (used in CI)")
    parser.addoption("--only-listed", metavar="FILE", help="run only the tests whose names FILE lists (used in CI)")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if file := config.getoption("--list-skipped"):
        skipped = {report.nodeid for report in terminalreporter.stats.get("skipped", [])}
        Path(file).write_text(json.dumps(sorted(skipped)), encoding="utf-8")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if file := config.getoption("--only-listed"):
        listed = set(json.loads(Path(file).read_text(encoding="utf-8")))
        items[:] = [item for item in items if not listed.isdisjoint({item.nodeid, item.nodeid.partition("::")[0]})]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    outcome = yield
    report = outcome.get_result()
    if report.skipped and item.config.getoption("--no-skips"):
        report.outcome = "failed"


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    outcome = yield
    report = outcome.get_result()
    if report.skipped and collector.config.getoption("--no-skips"):
        report.outcome = "failed"


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let models compute with the reference layers, bit for bit, and not with the fast ones, which round otherwise."""
    monkeypatch.setattr("minineo.fast.choose.FAST", REFERENCE)


def require(name: str, extra: str = "oracle") -> ModuleType:
    """Import what comes with an extra (an oracle), or skip the test with a reason that says what to install."""
    try:
        return importlib.import_module(name)
    except ImportError:
        hint = "pip install --no-deps openai-whisper" if name == "whisper" else f'pip install -e ".[{extra}]"'
        pytest.skip(f"{name} is not installed: {hint}", allow_module_level=True)
