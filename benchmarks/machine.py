"""Where and when figures were taken: the machine and the versions of what ran."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("minineo", "numpy", "cupy-cuda12x", "cupy-cuda13x", "torch", "transformers", "tokenizers", "tiktoken")


def describe(threads: int) -> dict[str, Any]:
    """Machine, versions, threads and date, as JSON."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": sys.version.split()[0],
        "blas": _blas(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "commit": _commit(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,  # over 1 means that somebody else computes
    }


def summary(machine: dict[str, Any]) -> str:
    """One line for a caption."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    cores = f"{machine['threads']} of {machine['cores']} cores"
    return f"{machine['processor']}, {cores}; Python {machine['python']}, {versions}; {machine['date'][:10]}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The model's name, with the instructions that matter for matrix products."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags", "").split()
    special = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if flag in flags]
    return " ".join([fields.get("model name", platform.machine()), *([f"({', '.join(special)})"] if special else [])])


def _memory() -> str | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"


def _blas() -> str:
    import numpy as np

    build: Any = np.show_config(mode="dicts")
    blas = build["Build Dependencies"]["blas"]
    return f"{blas.get('name')} {blas.get('version')}"


def _commit() -> str | None:
    try:
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
