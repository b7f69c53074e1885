"""How long a user waits before anything happens: `import minineo`, and the first token on the command line."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import minineo
from benchmarks.options import Options
from benchmarks.peers import FLOAT32, INSTALL
from benchmarks.report import Report
from benchmarks.timing import alternate

IMPORT_GOAL, FIRST_TOKEN_GOAL = 0.25, 0.6  # seconds
PROMPT = "Once upon a time"
ASSETS = Path(minineo.__file__).parent / "assets"
HUGGING_FACE = f"""
from transformers import GPT2TokenizerFast, GPTNeoForCausalLM
import torch
model = GPTNeoForCausalLM.from_pretrained({str(ASSETS)!r}, dtype=torch.float32)
tokenizer = GPT2TokenizerFast.from_pretrained({str(ASSETS)!r})
inputs = tokenizer({PROMPT!r}, return_tensors="pt")
ids = model.generate(**inputs, max_new_tokens=1, do_sample=True)
print(tokenizer.decode(ids[0]), flush=True)
"""


def run(options: Options) -> Report:
    """Measure wall clocks of whole processes, and list what is slow to import."""
    report = Report("startup", "Start-up", limit="import numpy", quick=options.quick)
    imports = {
        "minineo": partial(_run, "import minineo"),
        "python alone": partial(_run, "pass"),
        "import numpy": partial(_run, "import numpy"),
    }
    generate = [sys.executable, "-m", "minineo", "generate", PROMPT, "--max-new-tokens", "20", "--seed", "0"]
    first = {"minineo": partial(_first_output, generate, len(PROMPT))}
    if not options.wants(FLOAT32):
        pass
    elif find_spec("torch") and find_spec("transformers"):
        imports[FLOAT32] = partial(_run, "import torch; from transformers import GPTNeoForCausalLM")
        first[FLOAT32] = partial(_first_output, [sys.executable, "-c", HUGGING_FACE], 0)
    else:
        report.note(f"{FLOAT32} is left out, since torch or transformers cannot be imported: {INSTALL}")
    report.add("import", alternate(imports, options.rounds, report.failed))
    work = "first token of `minineo generate`"
    report.add(work, alternate(first, options.rounds, report.failed))
    report.claim("`import minineo`", report.best("import"), IMPORT_GOAL, at_least=False, unit="s")
    report.claim(work, report.best(work), FIRST_TOKEN_GOAL, at_least=False, unit="s")
    report.data["slowest imports, us"] = slowest = _slowest_imports()
    print("\n  slowest imports, each without what it imports itself (python -X importtime)")
    for name, microseconds in slowest.items():
        print(f"  {microseconds / 1e3:8.1f} ms  {name}")
    return report


def _run(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def _first_output(command: list[str], shown_before: int) -> float:
    """Seconds until a process has printed more than that many bytes."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0) as process:
        assert process.stdout is not None
        seen = 0
        while seen <= shown_before:
            piece = process.stdout.read(4096)
            if not piece:
                raise ValueError(f"{' '.join(command[:5])} ended without a token")
            seen += len(piece)
        seconds = time.perf_counter() - start
        process.stdout.read()
    return seconds


def _slowest_imports(count: int = 10) -> dict[str, int]:
    command = [sys.executable, "-X", "importtime", "-c", "import minineo"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()
    fields = [line.removeprefix("import time:").split("|") for line in lines if line.startswith("import time:")]
    own = {name.strip(): int(microseconds) for microseconds, _, name in fields[1:]}
    return dict(sorted(own.items(), key=lambda item: -item[1])[:count])
