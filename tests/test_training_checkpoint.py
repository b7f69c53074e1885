"""Checkpoints: what is resumed is what was interrupted, bit for bit, whenever and however it was interrupted."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from training_runs import assert_identical, everything_learned, interrupted_at, tiny_options, write_text

import minineo
from minineo.tokenizer import GPT2Tokenizer
from minineo.training import checkpoint_files, loop
from minineo.training.checkpoint import newest_checkpoint
from minineo.training.checkpoint_files import checkpoints
from minineo.training.log import LOG_FILE, SAMPLES_FILE, read_log
from minineo.training.options import TrainingOptions

TIMES = ("tokens_per_second", "seconds")


def told(output: Path) -> list[dict[str, float]]:
    """The log, without what depends on the clock."""
    return [{name: value for name, value in line.items() if name not in TIMES} for line in read_log(output)]


@pytest.fixture(autouse=True)
def without_a_picture(monkeypatch):
    """Drawing takes longer than these runs."""
    monkeypatch.setattr(loop, "plot_losses", lambda *_: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted."""
    options = tiny_options(tmp_path_factory.mktemp("whole"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "plot_losses", lambda *_: None)
        loop.train(options)
    return options


def assert_same_run(one: TrainingOptions, other: TrainingOptions) -> None:
    """The same parameters and moments, the same log and samples, the same model left behind."""
    assert_identical(everything_learned(one, 20), everything_learned(other, 20))
    outputs = [Path(options.output) for options in (one, other)]
    assert told(outputs[0]) == told(outputs[1])
    for name in (SAMPLES_FILE, "model.safetensors"):
        assert (outputs[0] / name).read_bytes() == (outputs[1] / name).read_bytes()


def halves_of(options: TrainingOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train 10 steps, stop, and train the others."""
    interrupted_at(10, options, monkeypatch)
    assert 10 in checkpoints(Path(options.output))
    assert not (Path(options.output) / "model.safetensors").exists()
    loop.train(options, resume=True)


def test_20_steps_are_10_and_resume_and_10(whole, tmp_path, monkeypatch):
    halves = tiny_options(tmp_path)
    halves_of(halves, monkeypatch)
    assert_same_run(whole, halves)


@pytest.mark.parametrize(
    "changed",
    [
        {
            "optimizer": "muon",
            "decay": "linear",
            "resid_dropout": 0.1,
            "embed_dropout": 0.1,
            "attention_dropout": 0.1,
            "gradient_accumulation": 4,
            "workers": 2,
        },
        {"optimizer": "sgd", "tie_word_embeddings": False, "validation": [], "gradient_checkpointing": True},
    ],
    ids=["muon, dropout, pieces, threads", "sgd, untied, no validation"],
)
def test_so_are_runs_of_all_kinds(tmp_path, monkeypatch, changed):
    one, other = (tiny_options(tmp_path, name, **changed) for name in ("one", "other"))
    loop.train(one)
    halves_of(other, monkeypatch)
    assert_same_run(one, other)


# What a child process does in place of an innocent function of `place` when it is called for the n-th time.
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from training_runs import tiny_options
from minineo.training import checkpoint, checkpoint_files, loop
calls = 0
original = {place}
def killed(*arguments, **named):
    global calls
    calls += 1
    if calls == {n}:
        {first}
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **named)
{place} = killed
loop.plot_losses = print
loop.train(tiny_options(Path({folder!r}), "killed"))
"""


@pytest.mark.parametrize(
    ("place", "n", "first", "survivor"),
    [
        # in the middle of the moments' file, of the second checkpoint
        ("checkpoint.write_safetensors", 2, "arguments[1].write_bytes(b'half')", 5),
        # everything written, nothing renamed
        ("checkpoint.flush_files", 2, "original(*arguments)", 5),
        # renamed, and the oldest checkpoint not yet, or half, removed
        ("checkpoint.flush", 2, "original(*arguments)", 8),
        ("checkpoint_files.shutil.rmtree", 4, "(arguments[0] / 'model.safetensors').unlink()", 10),
        # before there is any checkpoint
        ("checkpoint.write_safetensors", 1, "pass", None),
    ],
    ids=["while writing", "before the renaming", "after it", "while removing an old one", "the first one"],
)
def test_a_run_that_is_killed_while_it_writes_a_checkpoint_resumes(whole, tmp_path, place, n, first, survivor):
    code = KILLED.format(tests=str(Path(__file__).parent), place=place, n=n, first=first, folder=str(tmp_path))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=100)
    assert result.returncode == -9, result.stderr
    killed = tiny_options(tmp_path, "killed")
    assert max(checkpoints(Path(killed.output)), default=None) == survivor
    loop.train(killed, resume=survivor is not None)
    assert_same_run(whole, killed)
    names = [path.name for path in (Path(killed.output) / checkpoint_files.FOLDER).iterdir()]
    assert not [name for name in names if name.endswith(".tmp")]


def test_what_was_left_unfinished_is_removed_and_nothing_else(tmp_path):
    for name in ("checkpoints/.step-00000005.0a1b2c3d.tmp/config.json", "data/.train.npy.0a1b2c3d.tmp"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("half")
    others = ["checkpoints/step-00000005", "data/train.npy", ".mine.tmp", "data/.mine.tmp", "checkpoints/.mine"]
    for name in [".model.safetensors.0a1b2c3d.tmp", *others]:
        (tmp_path / name).write_text("x")
    checkpoint_files.remove_unfinished(tmp_path)
    left = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(left) == sorted(others)


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """The options of a run that stopped after 12 of its 20 steps."""
    options = tiny_options(tmp_path)
    interrupted_at(12, options, monkeypatch)
    return options


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path, monkeypatch):
    losses = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(
        "minineo.training.reporter.evaluate", lambda *_: type("Found", (), {"loss": next(losses), "bits_per_byte": 1.0})
    )
    options = tiny_options(tmp_path, eval_every=7, save_every=2)
    loop.train(options)
    assert list(checkpoints(Path(options.output))) == [14, 18, 20]
    best = everything_learned(options, 14)
    exported = minineo.load(options.output)[0].params
    assert_identical({name: best[name] for name in exported}, exported)


def test_a_checkpoint_is_a_model_directory(stopped):
    path = checkpoints(Path(stopped.output))[12]
    assert minineo.generate("the king", model=path, max_new_tokens=3, seed=0).startswith("the king")


def test_a_damaged_checkpoint_is_passed_over(stopped):
    for name in ("model.safetensors", "optimizer.safetensors", "training.json", "vocab.json"):
        shutil.copytree(stopped.output, f"{stopped.output}-{name}")
        folder = Path(f"{stopped.output}-{name}")
        damaged = checkpoints(folder)[12]
        for path in [damaged / name, *([damaged / "tokenizer.json"] if name == "vocab.json" else [])]:
            path.write_bytes(path.read_bytes()[:100])
        with pytest.warns(UserWarning, match="step-00000012 is damaged"):
            assert newest_checkpoint(folder).position.step == 10


def damage(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def test_a_damaged_checkpoint_is_replaced_when_its_step_is_made_again(stopped):
    output = Path(stopped.output)
    damage(checkpoints(output)[12])
    longer = dataclasses.replace(stopped, save_every=6, keep_checkpoints=9)
    with pytest.warns(UserWarning, match="step-00000012 is damaged"):
        loop.train(longer, resume=True)
    assert list(checkpoints(output)) == [8, 10, 12, 16, 18, 20]
    assert everything_learned(stopped, 12)


def test_a_damaged_best_checkpoint_leaves_the_last_model(tmp_path, monkeypatch):
    losses = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(
        "minineo.training.reporter.evaluate", lambda *_: type("Found", (), {"loss": next(losses), "bits_per_byte": 1.0})
    )
    options = tiny_options(tmp_path)
    interrupted_at(12, options, monkeypatch)
    damage(checkpoints(Path(options.output))[8])
    with pytest.warns(UserWarning, match="step-00000008, the best one, is damaged"):
        loop.train(options, resume=True)
    last = everything_learned(options, 20)
    exported = minineo.load(options.output)[0].params
    assert_identical({name: last[name] for name in exported}, exported)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"hidden_size": 32}, "another configuration: hidden_size is 16 there, and 32 was asked for"),
        ({"seed": 6}, "seed is 5 there, and 6"),
        ({"optimizer": "sgd"}, "optimizer is 'adamw' there, and 'sgd'"),
        ({"weight_decay": 0.02}, "weight_decay is 0.1 there"),
        ({"attention_types": [[["global"], 2]]}, "attention_types is None there"),
        ({"steps": 11}, "steps: received 11, but .* has made 12"),
    ],
)
def test_a_checkpoint_of_another_configuration_is_not_resumed(stopped, tmp_path, changed, words):
    with pytest.raises(ValueError, match=words):
        loop.train(tiny_options(tmp_path, **changed), resume=True)


def test_a_configuration_that_was_edited_is_found(stopped):
    path = checkpoints(Path(stopped.output))[12] / "config.json"
    fields = json.loads(path.read_text()) | {"window_size": 5}
    path.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="window_size is 5 there, and 4"):
        loop.train(stopped, resume=True)


def test_a_checkpoint_from_before_an_option_was_there_has_its_default(stopped):
    path = checkpoints(Path(stopped.output))[12] / "training.json"
    record = json.loads(path.read_text())
    del record["options"]["beta1"]
    path.write_text(json.dumps(record))
    loop.train(stopped, resume=True)


@pytest.mark.parametrize("name", ["train", "valid"])
def test_a_checkpoint_of_other_data_is_not_resumed(stopped, tmp_path, name):
    write_text(tmp_path / f"{name}.txt", 1200, seed=2)
    with pytest.raises(ValueError, match=f"another data set: {name}"):
        loop.train(stopped, resume=True)


def test_a_checkpoint_of_another_vocabulary_is_not_resumed(stopped, tmp_path):
    GPT2Tokenizer.train(["the old king. " * 9], vocab_size=262, progress=False).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="another vocabulary"):
        loop.train(tiny_options(tmp_path, tokenizer=tmp_path / "other"), resume=True)
    loop.train(tiny_options(tmp_path, tokenizer=checkpoints(Path(stopped.output))[12]), resume=True)


def test_a_run_may_go_on_for_longer_than_was_planned(stopped, tmp_path):
    with pytest.warns(UserWarning, match="steps: not what the run was begun with"):
        loop.train(tiny_options(tmp_path, steps=25), resume=True)
    assert max(checkpoints(Path(stopped.output))) == 25


def test_the_log_of_steps_that_are_made_again_is_cut(stopped):
    output = Path(stopped.output)
    with (output / LOG_FILE).open("a") as file:
        file.write('{"step": 15, "loss": 1.0}\n{"step"')  # the process was killed in the middle of a line
    with (output / SAMPLES_FILE).open("a") as file:
        file.write("=== step 15\n")
    loop.train(stopped, resume=True)
    assert [line["step"] for line in read_log(output) if "loss" in line] == [3, 6, 9, 12, 15, 18, 20]
    assert (output / SAMPLES_FILE).read_text().count("=== step 15") == 0


def test_a_finished_run_that_is_resumed_leaves_its_model_again(tmp_path):
    options = tiny_options(tmp_path, steps=5)
    loop.train(options)
    before = (Path(options.output) / "model.safetensors").read_bytes()
    (Path(options.output) / "model.safetensors").unlink()
    loop.train(options, resume=True)
    assert (Path(options.output) / "model.safetensors").read_bytes() == before


def test_nothing_to_resume(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint to resume from"):
        loop.train(tiny_options(tmp_path), resume=True)


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from training_runs import tiny_options
from minineo.training import checkpoint, loop
original = checkpoint.save_checkpoint
def limited(output, model, tokenizer, moments, position, *others):
    if position.step == 10:
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
    return original(output, model, tokenizer, moments, position, *others)
checkpoint.save_checkpoint = limited
loop.train(tiny_options(Path({folder!r}), "full", validation=()))
"""


@pytest.mark.parametrize("limit", [30_000, 70_000])
def test_a_full_disk_leaves_the_checkpoints_before_and_nothing_else(tmp_path, limit):
    """A limit on the size of files stands for the full disk: the weights have 38 kB, the moments 77 kB."""
    pytest.importorskip("resource")
    code = FULL.format(tests=str(Path(__file__).parent), folder=str(tmp_path), limit=limit)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=100)
    assert "OSError" in result.stderr
    assert "the checkpoint could not be written" in result.stderr
    assert "--resume" in result.stderr
    options = tiny_options(tmp_path, "full", validation=())
    assert [path.name for path in (Path(options.output) / "checkpoints").iterdir()] == ["step-00000005"]
    loop.train(options, resume=True)
