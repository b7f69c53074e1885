"""Fixtures and options that all tests share."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from minineo.model.heads import REFERENCE


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test counts as a failure (used in CI)")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    outcome = yield
    report = outcome.get_result()
    if report.skipped and item.config.getoption("--no-skips"):
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
        pytest.skip(f"{name} is not installed: {hint}")
