"""Speculative decoding against plain greedy decoding: prompt lookup, and a draft model.

How much it gains depends on how much of the text can be guessed. Random weights write nothing worth guessing, so a
text that a model would write is dictated to a model of full size (`peers/script.py`): a code edit, and a summary that
quotes. The bundled model writes its own. A draft model is shown at its best, where it is always right.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import minineo
from benchmarks.options import Options
from benchmarks.parts.agree import check_tokens
from benchmarks.parts.prompts import random_ids
from benchmarks.peers import FLOAT32, MININEO, models, only, started
from benchmarks.peers.decoded import Decoded
from benchmarks.report import Report
from benchmarks.shapes import checkpoint, main_shape
from benchmarks.texts import PASSAGE, bundled_tokenizer
from benchmarks.timing import alternate
from benchmarks.workers import Worker, WorkerError

GOAL = 1.5  # times plain greedy decoding
LEAST_CODE = 600  # characters, and on to the end of a function
LOOKUP = {"prompt_lookup_num_tokens": 10}
CODE = Path(minineo.__file__).parent / "layers" / "losses.py"
SUMMARY = """

In short: High above the city, on a tall column, stood the statue of the Happy Prince, gilded all over with thin leaves
of fine gold. One of the Town Councillors remarked that he is as beautiful as a weathercock, only not quite so useful.
A sensible mother told her little boy that the Happy Prince never dreams of crying for anything, and a disappointed man
was glad that there is someone in the world who is quite happy."""


def run(options: Options) -> Report:
    """Measure dictated texts, a draft model, and the bundled model."""
    report = Report("speculative", "Speculative decoding", quick=options.quick)
    shape = main_shape(options)
    path = checkpoint(shape, options)
    with started(only(models(str(path), options), (MININEO, FLOAT32)), options, report) as workers:
        if MININEO in workers and not _supported(workers[MININEO], "prompt_lookup_num_tokens", 10, report):
            return report
        for name, prompt, continuation in _dictated():
            work = f"{shape.name}, {name}"
            _measure(work, workers, prompt, LOOKUP, len(continuation), options, report, continuation)
    layers = min(2, shape.num_layers)
    draft = replace(shape, name=f"{shape.name}, first {layers} layers", num_layers=layers)
    idle, short = _draft_pair(shape, draft, options)
    with started(only(models(str(idle), options), (MININEO, FLOAT32)), options, report) as workers:
        if MININEO not in workers or _supported(workers[MININEO], "assistant", str(short), report):
            work = f"{shape.name}, draft model of {layers} layers that is always right"
            ids, tokens = random_ids(shape.vocab_size, 1, 32).tolist()[0], 8 if options.quick else 96
            _measure(work, workers, ids, {"assistant": str(short)}, tokens, options, report)
    with started(only(models(str(_bundled()), options), (MININEO, FLOAT32)), options, report) as workers:
        ids = bundled_tokenizer().encode(
            '"Who is there?" said the king. "It is I," said the frog. "Who is there?" said'
        )
        _measure("the bundled model, its own text", workers, ids, LOOKUP, 8 if options.quick else 128, options, report)
    return report


def _supported(worker: Worker, argument: str, value: Any, report: Report) -> bool:
    try:
        worker.call("decode", random_ids(256, 1, 8), 2, **{argument: value})
    except WorkerError as error:
        if not str(error).startswith("TypeError"):
            raise
        report.note(f"minineo has no {argument} yet: {error}")
        return False
    return True


def _dictated() -> list[tuple[str, list[int], list[int]]]:
    """Texts that repeat their prompt: name, prompt and continuation."""
    encode = bundled_tokenizer().encode
    code, passage = CODE.read_text(encoding="utf-8"), PASSAGE.read_text(encoding="utf-8")
    begin = code.index("def mean_squared_error")
    code = code[begin : code.index("\n\n\n", begin + LEAST_CODE)]
    instruction = "\n\n# The same with `differences` in place of `difference` and `answers` in place of `labels`:\n\n"
    edited = code.replace("difference", "differences").replace("labels", "answers")
    return [
        ("code edit", encode(code + instruction), encode(edited)),
        ("summary that quotes", encode(passage), encode(SUMMARY)),
    ]


def _measure(
    work: str,
    workers: dict[str, Worker],
    prompt: list[int],
    speculative: dict[str, Any],
    tokens: int,
    options: Options,
    report: Report,
    continuation: list[int] | None = None,
) -> None:
    """Plain and speculative decoding of every peer, in turn."""
    ids = np.array([prompt], np.int64)
    script = None if continuation is None else prompt + continuation
    calls = {}
    for name, worker in workers.items():
        calls[f"{name}, speculative"] = partial(worker.call, "decode", ids, tokens, script=script, **speculative)
        calls[f"{name}, plain"] = partial(worker.call, "decode", ids, tokens, script=script)
    results: dict[str, list[Decoded]] = alternate(calls, options.rounds, report.failed)
    check_tokens({name.removesuffix(", speculative"): runs for name, runs in results.items()}, report)
    report.add(work, {name: [run.each * tokens for run in runs] for name, runs in results.items()}, tokens, "tok")
    for name, runs in results.items():
        if runs and name.endswith("speculative"):
            report.note(f"{work}: {name}, {runs[0].new_tokens / runs[0].steps:.2f} tokens a step")
    plain, fast = (report.best(work, f"{MININEO}, {kind}") for kind in ("plain", "speculative"))
    if plain and fast:
        goal = GOAL if continuation is not None else 1.0
        report.claim(f"{work}: speed against plain decoding", plain / fast, goal)


def _draft_pair(shape: Any, draft: Any, options: Options) -> tuple[Path, Path]:
    """A model whose later layers add nothing, and one that has only the others: they always agree."""
    model = minineo.GPTNeoForCausalLM.from_pretrained(checkpoint(shape, options))
    kept = [f"transformer.h.{i}." for i in range(draft.num_layers)]
    params = dict(model.params)
    for name, array in params.items():
        last = ("out_proj.weight", "out_proj.bias", "c_proj.weight", "c_proj.bias")
        if name.endswith(last) and not name.startswith(tuple(kept)):
            params[name] = 0.0 * array
    idle, short = options.workspace / "idle", options.workspace / "draft"
    minineo.GPTNeoForCausalLM(shape.config(), params).save_pretrained(idle)
    small = minineo.GPTNeoForCausalLM.parameter_shapes(draft.config())
    minineo.GPTNeoForCausalLM(draft.config(), {name: params[name] for name in small}).save_pretrained(short)
    return idle, short


def _bundled() -> Path:
    return Path(minineo.__file__).parent / "assets"
