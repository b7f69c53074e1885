"""What a run tells while it goes on: a progress bar, the log, validation, samples of text, and checkpoints."""

from __future__ import annotations

import io
import math
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from tqdm import tqdm

from minineo import text
from minineo.training import log
from minineo.training.evaluation import evaluate
from minineo.training.run import Run


class Step(NamedTuple):
    """What a training step found.

    The loss is in nats a token, the norm that of the gradients before clipping; `stop` says whether somebody pressed
    Ctrl-C.
    """

    loss: float
    gradient_norm: float
    learning_rate: float
    stop: bool = False


class Reporter:
    """Writes down how a run goes, and shows it on standard error if `progress`. Use it in a `with` statement."""

    def __init__(self, run: Run, workers: int, progress: bool) -> None:
        self.run, self.workers, self.progress = run, workers, progress
        options = run.options
        self.tokens_per_step = options.batch_size * options.max_position_embeddings
        self.saved = run.position.step  # the step of the last checkpoint
        # disable=None: no bar where standard error is a file
        self.bar = tqdm(total=run.steps, initial=self.saved, unit="step", disable=None if progress else True)
        self.started = time.perf_counter() - run.position.seconds
        self.idle_until = time.perf_counter()  # the end of what was last done beside training
        self.steps, self.seconds = 0, 0.0  # since the last line of the log: steps, and the time that they took
        self.speed = 0.0  # tokens per second in them

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show(self.bar.close)

    def say(self, line: str) -> None:
        """Show a line, above the bar."""
        if self.progress:
            self._show(lambda: tqdm.write(line, file=sys.stderr))

    def step(self, found: Step) -> None:
        """Write down what is due after a step."""
        options, position = self.run.options, self.run.position
        now = time.perf_counter()
        position.seconds = now - self.started
        self.steps, self.seconds = self.steps + 1, self.seconds + now - self.idle_until
        self.speed = self.steps * self.tokens_per_step / max(self.seconds, 1e-9)
        if self._due(options.log_every):
            self._log(found)
            self.steps, self.seconds = 0, 0.0
        self.bar.set_postfix_str(f"loss {found.loss:.3f}, {self.speed:,.0f} tokens/s", refresh=False)
        self._show(self.bar.update)
        if self._due(options.eval_every) or self._due(options.sample_every):  # saving checks for itself
            self.run.check()
        improved = self._due(options.eval_every) and self._evaluate()
        if self._due(options.sample_every):
            self._sample()
        if self._due(options.save_every) or improved:
            self.save()
        self.idle_until = time.perf_counter()

    def save(self) -> None:
        """Write a checkpoint, unless the last one is of this step."""
        if self.saved < self.run.position.step:
            self.run.save()
            self.saved = self.run.position.step

    def stopped(self) -> None:
        """Write a checkpoint, and say how to go on from it."""
        self.save()
        run = self.run
        self.say(
            f"stopped after step {run.position.step} of {run.steps}; to go on: "
            f"minineo train --resume --output {run.output}"
        )

    def _show(self, show: Callable[[], object]) -> None:
        """Show something; if standard error is closed (a terminal that is gone, `2>&1 | head -1`), go on in silence."""
        try:
            show()
        except OSError:
            self.progress, self.bar.disable = False, True
            sys.stderr = io.StringIO()  # what is left in the old one would fail again, be it at the end

    def _due(self, every: int) -> bool:
        step = self.run.position.step
        return step % every == 0 or step == self.run.steps

    def _log(self, found: Step) -> None:
        position = self.run.position
        record = {
            "step": position.step,
            "tokens": position.step * self.tokens_per_step,
            "loss": found.loss,
            "learning_rate": found.learning_rate,
            "gradient_norm": found.gradient_norm,
            "tokens_per_second": round(self.speed, 1),
            "seconds": round(position.seconds, 3),
        }
        log.append_log(self.run.output, record)

    def _evaluate(self) -> bool:
        """Measure the validation loss, if there is validation data; is it the lowest so far?"""
        run, position = self.run, self.run.position
        if run.corpus.validation is None:
            return False
        found = evaluate(run.model, run.corpus.validation, run.corpus.tokenizer, run.options.eval_windows, self.workers)
        record = {"step": position.step, "validation_loss": found.loss, "bits_per_byte": found.bits_per_byte}
        log.append_log(run.output, record)
        self.say(f"step {position.step}: validation loss {found.loss:.4f}, {found.bits_per_byte:.4f} bits per byte")
        improved = found.loss < (math.inf if position.best_loss is None else position.best_loss)  # NaN never is
        if improved:
            position.best_step, position.best_loss = position.step, found.loss
        return improved

    def _sample(self) -> None:
        """Let the model continue each prompt, with the same random numbers every time."""
        run, options = self.run, self.run.options
        for prompt in options.sample_prompts:
            room = options.max_position_embeddings - len(run.corpus.tokenizer.encode(prompt))
            sample = text.generate(
                prompt,
                max_new_tokens=min(options.sample_tokens, room),
                seed=options.seed,
                model=run.model,
                tokenizer=run.corpus.tokenizer,
            )
            log.append_sample(run.output, run.position.step, sample)
            self.say(f"step {run.position.step}: {sample}")
