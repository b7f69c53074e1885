"""The training loop: what it computes, what it leaves behind, and what it does when something is wrong."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require
from tiny_models import tiny
from training_runs import everything_learned, tiny_options, write_text

import minineo
from minineo.classes import GPTNeoForCausalLM
from minineo.cli import main
from minineo.scoring import score
from minineo.tokenizer import GPT2Tokenizer
from minineo.training import loop, output_directory, run
from minineo.training.checkpoint import read_checkpoint
from minineo.training.checkpoint_files import checkpoints
from minineo.training.data import open_token_file, write_token_file
from minineo.training.evaluation import evaluate
from minineo.training.log import LOG_FILE, SAMPLES_FILE, read_log
from minineo.training.output_directory import held
from minineo.training.plots import PICTURE_FILE
from minineo.training.step import TrainingStep
from minineo.training.stop_request import StopRequest


@pytest.fixture(autouse=True)
def without_a_picture(request, monkeypatch):
    """Drawing takes longer than these runs."""
    if "picture" not in request.node.name:
        monkeypatch.setattr(loop, "plot_losses", lambda *_: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The options of a run that has learned something in 60 steps."""
    options = tiny_options(tmp_path_factory.mktemp("finished"), steps=60, eval_every=30, sample_every=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "plot_losses", lambda *_: None)
        assert loop.train(options) == Path(options.output)
    return options


def test_the_loss_falls(finished):
    losses = [line["loss"] for line in read_log(Path(finished.output)) if "loss" in line]
    assert losses[0] == pytest.approx(math.log(270), abs=0.5)  # a new model gives every token the same chance
    assert losses[-1] < losses[0] - 1.5


def test_what_the_log_says(finished):
    lines = read_log(Path(finished.output))
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(3, 61, 3))
    assert [line["tokens"] for line in steps] == [step * 6 * 16 for step in range(3, 61, 3)]
    assert [line["learning_rate"] for line in steps[:2]] == pytest.approx([0.01, 0.01], rel=0.01)
    last = 0.01 * (1.0 - math.cos(math.pi / 58)) / 2.0  # of 58 steps down a cosine
    assert steps[-1]["learning_rate"] == pytest.approx(last)
    assert all(line["gradient_norm"] > 0.0 and line["tokens_per_second"] > 0.0 for line in steps)
    assert [line["seconds"] for line in steps] == sorted(line["seconds"] for line in steps)
    measured = [line for line in lines if "validation_loss" in line]
    assert [line["step"] for line in measured] == [30, 60]
    assert measured[1]["validation_loss"] < measured[0]["validation_loss"]


def test_samples_are_the_prompts_continued(finished):
    text = (Path(finished.output) / SAMPLES_FILE).read_text(encoding="utf-8")
    assert text.count("=== step") == 2
    assert text.count("Once upon a time") == 2


def test_the_output_is_a_model(finished):
    model, tokenizer = minineo.load(finished.output)
    assert model.config.vocab_size == len(tokenizer) == 270
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert minineo.generate("the king", model=finished.output, max_new_tokens=4, seed=0).startswith("the king")
    best = everything_learned(finished, 60)
    assert all(np.array_equal(model.params[name], best[name]) for name in model.params)


@pytest.mark.oracle
def test_transformers_reads_the_output(finished):
    transformers, torch = require("transformers"), require("torch")
    ids = np.arange(12)[None, :]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(finished.output)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids)).logits.numpy()
    found = minineo.load(finished.output)[0](ids).logits
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    tokenizer = transformers.AutoTokenizer.from_pretrained(finished.output)
    assert tokenizer("the old wolf").input_ids == minineo.load(finished.output)[1]("the old wolf").input_ids


def test_weights_of_16_bits(finished, tmp_path):
    options = tiny_options(Path(finished.output).parent, str(tmp_path / "half"), steps=2, dtype="float16")
    loop.train(options)
    model = GPTNeoForCausalLM.from_pretrained(options.output, dtype="float16")
    whole = everything_learned(options, 2)
    assert all(value.dtype == np.float16 for value in model.params.values())
    assert all(np.array_equal(value, whole[name].astype(np.float16)) for name, value in model.params.items())
    assert json.loads((Path(options.output) / "config.json").read_text())["dtype"] == "float16"


def test_without_a_vocabulary_of_its_own_and_from_token_files(finished, tmp_path):
    tokenizer = GPT2Tokenizer.from_pretrained(finished.output)
    folder = Path(finished.output).parent
    files = {name: tmp_path / f"{name}.npy" for name in ("train", "valid")}
    for name, path in files.items():
        write_token_file(folder / f"{name}.txt", tokenizer, path, progress=False)
    data = {"train": files["train"], "validation": files["valid"], "tokenizer": finished.output}
    options = tiny_options(folder, str(tmp_path / "again"), **data, steps=60, eval_every=30, sample_every=30)
    loop.train(options)
    assert not (tmp_path / "again" / "data").exists()
    expected, found = everything_learned(finished, 60), everything_learned(options, 60)
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_validation_is_what_score_finds(finished):
    """One text in windows as long as the context that do not overlap: the same tokens from the same text before."""
    folder = Path(finished.output).parent
    model, tokenizer = minineo.load(finished.output)
    text = "the king went home. " * 30
    (folder / "one.txt").write_text(text, encoding="utf-8")
    file = write_token_file(folder / "one.txt", tokenizer, folder / "one.npy", progress=False)
    found = evaluate(model, file, tokenizer, workers=2)
    ids = np.array(file.tokens, np.int64)
    assert ids[-1] == file.end_id
    losses = []
    for begin in range(0, len(ids) - 1, 16):
        window = ids[begin : begin + 17]
        logits = model(window[None, :-1]).logits[0].astype(np.float64)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        losses += list(-log_p[np.arange(len(window) - 1), window[1:]])
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)
    predicted = text.rstrip()[len(tokenizer.decode(ids[:1])) :]  # the first token has nothing before it
    assert found.bits_per_byte == pytest.approx(sum(losses[:-1]) / math.log(2.0) / len(predicted.encode()), rel=1e-5)
    assert found.bits_per_byte == pytest.approx(
        score(text.rstrip(), model, tokenizer, stride=16).bits_per_byte, rel=0.1
    )


def test_some_windows_of_the_validation_data_stand_for_all(finished):
    folder = Path(finished.output)
    model, tokenizer = minineo.load(folder)
    file = open_token_file(folder / "data" / "validation.npy", tokenizer)
    whole, half = (evaluate(model, file, tokenizer, most) for most in (None, 20))
    assert evaluate(model, file, tokenizer, 10_000) == whole
    assert half.loss != whole.loss
    assert half.loss == pytest.approx(whole.loss, rel=0.2)


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 9])
def test_pieces_give_the_gradients_of_the_whole_batch(pieces):
    model = tiny(GPTNeoForCausalLM)
    batch = np.random.default_rng(0).integers(18, size=(7, 9))
    expected_loss, expected = reference(model, batch)
    with TrainingStep(model) as loss_and_grads:
        loss, grads = loop.batch_gradients(loss_and_grads, batch, range(7), 0, pieces)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert sorted(grads) == sorted(expected)
    for name, value in expected.items():
        assert np.abs(grads[name] - value).max() <= 1e-5 * np.abs(value).max(), name


def reference(model: GPTNeoForCausalLM, batch: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
    """Loss and gradients of predicting batch[:, 1:]: the labels are shifted inside, so one more position is read."""
    loss, grads = model.loss_and_grads(batch, labels=batch)
    return float(loss), grads


def test_a_step_is_the_optimisers_with_clipped_gradients(tmp_path):
    options = tiny_options(tmp_path, max_grad_norm=0.01, optimizer="sgd", momentum=0.0, weight_decay=0.0, steps=2)
    begun = run.begin(options)
    before = {name: value.copy() for name, value in begun.model.params.items()}
    with TrainingStep(begun.model) as loss_and_grads, StopRequest() as request:
        found = loop.training_step(begun, loss_and_grads, loop.Alone(), request)
    changed = math.sqrt(sum(float(np.sum((value - before[name]) ** 2)) for name, value in begun.model.params.items()))
    assert found.gradient_norm > 0.01
    assert changed == pytest.approx(0.01 * found.learning_rate, rel=1e-3)
    assert begun.position.step == 1


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, monkeypatch):
    options = tiny_options(tmp_path)
    original = loop.training_step

    def training_step(begun: Any, *others: Any) -> Any:
        if begun.position.step == 12:
            begun.model.params["transformer.ln_f.bias"][3] = np.nan
        return original(begun, *others)

    monkeypatch.setattr(loop, "training_step", training_step)
    with pytest.raises(
        FloatingPointError, match=r"after step 12, the loss is nan.* at a learning rate of 0.00\d+. .* a lower learning"
    ):
        loop.train(options)
    assert list(checkpoints(Path(options.output))) == [8, 10]
    assert not (Path(options.output) / "model.safetensors").exists()
    monkeypatch.setattr(loop, "training_step", original)
    loop.train(options, resume=True)
    assert np.isfinite(read_log(Path(options.output))[-1]["validation_loss"])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the overflow
@pytest.mark.parametrize("due", ["save_every", "eval_every", "sample_every"])
def test_parameters_that_an_update_ruined_are_never_written(tmp_path, due):
    later = {"save_every": 1000, "eval_every": 1000, "sample_every": 1000}
    options = tiny_options(tmp_path, learning_rate=1e38, warmup_steps=0, log_every=1, **(later | {due: 1}))
    with pytest.raises(FloatingPointError, match=r"after step 1, .* holds numbers that are infinite or none"):
        loop.train(options)
    assert not checkpoints(Path(options.output))
    assert "validation_loss" not in str(read_log(Path(options.output)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_run_that_diverges_goes_on_with_a_lower_learning_rate(tmp_path):
    options = tiny_options(tmp_path, steps=10, warmup_steps=0, save_every=5)
    loop.train(tiny_options(tmp_path, steps=5, warmup_steps=0, save_every=5))
    fast = dataclasses.replace(options, learning_rate=1e38)
    with pytest.warns(UserWarning, match="steps, learning_rate: not what"), pytest.raises(FloatingPointError):
        loop.train(fast, resume=True)
    with pytest.warns(UserWarning, match="steps, warmup_steps, max_grad_norm: not what"):
        loop.train(dataclasses.replace(options, warmup_steps=2, max_grad_norm=0.5), resume=True)
    assert max(checkpoints(Path(options.output))) == 10


def test_a_loss_that_is_no_number_is_not_the_lowest(tmp_path, monkeypatch):
    losses = iter([math.nan, 3.0, math.nan])
    monkeypatch.setattr(
        "minineo.training.reporter.evaluate", lambda *_: type("Found", (), {"loss": next(losses), "bits_per_byte": 1.0})
    )
    options = tiny_options(tmp_path, steps=6, eval_every=2)
    loop.train(options)
    position = read_checkpoint(checkpoints(Path(options.output))[6]).position
    assert (position.best_step, position.best_loss) == (4, 3.0)


def test_epochs_are_passes_over_the_tokens(tmp_path):
    options = tiny_options(tmp_path, steps=None, epochs=1.5)
    begun = run.begin(options)
    assert begun.steps == round(1.5 * len(begun.corpus.train.tokens) / (6 * 16))
    assert run.number_of_steps(tiny_options(tmp_path, steps=None), 960) == 10


@pytest.mark.oracle
def test_a_picture_of_the_losses(tmp_path):
    require("matplotlib")
    options = tiny_options(tmp_path, steps=4)
    loop.train(options)
    assert (Path(options.output) / PICTURE_FILE).read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_a_line_says_how_to_get_the_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    loop.train(tiny_options(tmp_path, steps=2), progress=True)
    assert 'pip install "minineo[plot]"' in capsys.readouterr().err


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"train": "nothing.txt"}, "nothing.txt"),
        ({"train": "empty.txt"}, "0 bytes of text are too few for one window of 16 tokens"),
        ({"train": "tiny.txt"}, "a window of length 16 needs 17"),
        ({"train": "blank.txt"}, "no text in blank.txt"),
        ({"train": "latin1.txt"}, "not UTF-8"),
        ({"train": "tokens.npy"}, "pass the tokenizer that wrote it"),
        ({"train": "tokens.npy", "tokenizer": "tokenizer"}, "written with another vocabulary"),
        ({"train": "nothing.npy", "tokenizer": "tokenizer"}, "nothing.npy"),
        ({"tokenizer": "no-such-folder"}, "no-such-folder"),
        ({"validation": "nothing.txt"}, "nothing.txt"),
        ({"validation": "blank.txt"}, "no text in blank.txt"),
        ({"validation": "letters.txt"}, "none to predict but the ends"),
        ({"warmup_steps": 3000, "steps": None}, "warmup_steps, hold_steps: received 3000 and 0 for a run of .* steps"),
        ({"activation_function": "sine"}, "sine"),
        ({"sample_prompts": ["x" * 40]}, "expected fewer than max_position_embeddings, which is 16"),
        ({"output": "train.txt"}, "is a file, expected a directory"),
        ({"output": "model"}, "holds a model, which would be overwritten"),
        ({"output": "mine"}, "samples.txt is of no training run, and would be overwritten"),
        ({"output": "train.txt/deep/out"}, "train.txt is a file, expected a directory"),
        ({"train": "texts", "output": "texts/out"}, "texts/out is part of texts, and train reads all .txt files"),
        ({"validation": "texts", "output": "texts"}, "is part of texts, and validation reads"),
    ],
)
def test_what_cannot_be_is_said_before_the_first_step(tmp_path, monkeypatch, changed, words):
    monkeypatch.chdir(tmp_path)
    options = tiny_options(tmp_path)
    contents = {
        "empty": b"",
        "letters": b"a",
        "tiny": b"ab ab ab ab ab ab",
        "blank": b"\n \n" * 20,
        "latin1": b"\xe4" * 200,
    }
    for name, content in contents.items():
        Path(f"{name}.txt").write_bytes(content)
    for name, text in (("tokenizer", "abc"), ("other", "abd")):
        GPT2Tokenizer.train([text * 9], vocab_size=260, progress=False).save_pretrained(name)
    write_token_file("train.txt", GPT2Tokenizer.from_pretrained("other"), "tokens.npy", progress=False)
    tiny(GPTNeoForCausalLM).save_pretrained("model")
    Path("texts").mkdir()
    write_text(Path("texts/a.txt"), 400)
    Path("mine").mkdir()
    Path("mine/samples.txt").write_text("of cloth\n")
    before = sorted(tmp_path.rglob("*"))
    options = tiny_options(tmp_path, **changed)
    with pytest.raises((ValueError, OSError), match=words):
        loop.train(options)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "name",
    [
        "checkpoints",
        "data",
        "vocab.json",
        "merges.txt",
        "model.safetensors",
        "loss.png",
        "data/train.npy",
        "data/validation.npy",
    ],
)
def test_files_of_the_users_are_not_overwritten(tmp_path, name):
    options = tiny_options(tmp_path)
    path = Path(options.output) / name
    path.parent.mkdir(parents=True)
    np.save(path.with_suffix(".npy"), np.arange(3.0))
    path.with_suffix(".npy").rename(path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=f"{path.name} (would be overwritten|is a file)"):
        loop.train(options)
    assert path.read_bytes() == before
    assert [found for found in Path(options.output).rglob("*") if found.is_file()] == [path]


def test_a_directory_holds_one_run_at_a_time(tmp_path, monkeypatch):
    pytest.importorskip("fcntl")
    monkeypatch.setattr(output_directory, "PATIENCE", 0.2)
    options = tiny_options(tmp_path, steps=2)
    with held(Path(options.output)):
        for resume in (False, True):
            with pytest.raises(BlockingIOError, match="another run is writing to"):
                loop.train(options, resume=resume)
    assert not Path(options.output).exists()  # nothing was written
    loop.train(options)


def test_a_run_is_not_begun_where_another_is(finished):
    with pytest.raises(FileExistsError, match=r"holds the checkpoints of a run\. Continue it with --resume"):
        loop.train(finished)


def test_texts_that_have_changed_are_encoded_again(tmp_path):
    options = tiny_options(tmp_path, steps=2)
    first = run.begin(options).corpus.train
    written = first.path.stat().st_mtime_ns
    assert run.begin(options).corpus.train.path.stat().st_mtime_ns == written
    write_text(tmp_path / "train.txt", 1000, seed=3)
    again = run.begin(options).corpus.train
    assert again.sources != first.sources


# -- the command line --------------------------------------------------------------------------------------------------

SMALL = ["--vocab-size", "270", "--hidden-size", "16", "--num-layers", "1", "--num-heads", "2", "--workers", "1"]
SMALL += ["--max-position-embeddings", "16", "--batch-size", "2"]


def test_train_then_generate(tmp_path, capsys, monkeypatch):
    text = write_text(tmp_path / "text.txt", 400)
    output = str(tmp_path / "out")
    arguments = ["--train", str(text), "--output", output, "--steps", "6", "--eval-every", "3", *SMALL]
    assert main(["train", *arguments, "--validation", str(text)]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "step 3: validation loss" in shown.err
    assert "the model of step" in shown.err
    assert main(["generate", "the king", "--model", output, "--max-new-tokens", "3"]) == 0
    assert capsys.readouterr().out.startswith("the king")


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    text, output = write_text(tmp_path / "text.txt", 400), tmp_path / "out"
    arguments = ["--train", str(text), "--output", str(output), "--steps", "1000000", "--log-every", "1", *SMALL]
    command = [sys.executable, "-m", "minineo", "train", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8") as process:
        while not (output / LOG_FILE).exists() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    step = max(checkpoints(output))
    assert error == (f"stopped after step {step} of 1000000; to go on: minineo train --resume --output {output}\n")
    assert read_log(output)[-1]["step"] == step
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the learning rate, which follows the new length
        assert main(["train", "--resume", "--output", str(output), "--steps", str(step + 2)]) == 0
    assert max(checkpoints(output)) == step + 2


def test_a_closed_standard_error_does_not_stop_a_run(tmp_path):
    text, output = write_text(tmp_path / "text.txt", 400), tmp_path / "out"
    arguments = ["--train", str(text), "--validation", str(text), "--output", str(output), "--steps", "6", *SMALL]
    command = [sys.executable, "-m", "minineo", "train", *arguments, "--eval-every", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stderr is not None
        process.stderr.close()
        assert process.wait(timeout=100) == 0
    assert max(checkpoints(output)) == 6
    assert (output / "model.safetensors").exists()


def test_a_second_ctrl_c_ends_at_once():
    with StopRequest() as request:
        signal.raise_signal(signal.SIGINT)
        assert request.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_resume_needs_a_run(tmp_path, capsys):
    assert main(["train", "--resume", "--output", str(tmp_path)]) == 1
    assert "no checkpoint to resume from" in capsys.readouterr().err
    assert main(["train", "--resume"]) == 1
    assert "pass the --output of the run" in capsys.readouterr().err
