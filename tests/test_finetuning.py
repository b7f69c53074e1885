"""Fine-tuning runs: a tiny model learns eight examples of each task by heart; what is written; what goes wrong."""

from __future__ import annotations

import json
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finetuning_cases import EXAMPLES, TEXTS, tiny_options, write_examples, write_model

from minineo.classes import GPTNeoForCausalLM
from minineo.cli import main
from minineo.tokenizer import GPT2Tokenizer
from minineo.training import finetuning
from minineo.training.finetuning import finetune
from minineo.training.finetuning_options import TASK_NAMES, FinetuningOptions
from minineo.training.output_directory import held
from minineo.training.tasks import TASKS

LABELLED = ["classification", "tokens", "answers"]


def test_the_tasks_are_those_of_the_options():
    assert tuple(TASKS) == TASK_NAMES


@pytest.mark.parametrize("task", LABELLED)
def test_a_tiny_model_learns_eight_examples_by_heart(task, tmp_path):
    outcome = finetune(tiny_options(tmp_path, task))
    assert set(outcome.scores["after"].values()) == {1.0}
    assert max(outcome.scores["before"].values()) < 1.0
    assert outcome.steps == 80


def test_a_tiny_model_learns_two_texts_by_heart(tmp_path):
    scores = finetune(tiny_options(tmp_path, "language")).scores
    assert scores["after"]["bits_per_byte"] < 0.25 * scores["before"]["bits_per_byte"]


@pytest.mark.parametrize("task", TASK_NAMES)
def test_what_is_written_predicts_as_what_was_measured(task, tmp_path):
    options = tiny_options(tmp_path, task, epochs=3)
    outcome = finetune(options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no parameter is missing
        model = TASKS[task].model_class.from_pretrained(options.output)
    tokenizer = GPT2Tokenizer.from_pretrained(options.output)
    assert TASKS[task].evaluate(model, tokenizer, EXAMPLES[task]) == outcome.scores["after"]
    output = Path(options.output)
    stored = json.loads((output / "scores.json").read_text())
    assert stored["scores"] == outcome.scores
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == outcome.steps
    assert model.config.pad_token_id == tokenizer.pad_token_id == tokenizer.eos_token_id


def test_labels_are_in_the_configuration(tmp_path):
    finetune(options := tiny_options(tmp_path, "classification", epochs=1))
    config = json.loads((Path(options.output) / "config.json").read_text())
    assert config["id2label"] == {"0": "animal", "1": "human"}
    assert config["label2id"] == {"animal": 0, "human": 1}
    assert config["problem_type"] == "single_label_classification"
    assert config["architectures"] == ["GPTNeoForSequenceClassification"]


def test_the_bundled_model_is_where_one_begins(tmp_path):
    options = tiny_options(tmp_path, "classification", model=None)
    model, tokenizer = finetuning.prepare(TASKS["classification"], options, EXAMPLES["classification"])
    assert model.params["score.weight"].shape == (2, model.config.hidden_size)
    assert tokenizer.pad_token_id == model.config.pad_token_id == model.config.eos_token_id


def test_the_same_seed_gives_the_same_model_and_another_another(tmp_path):
    def learned(name: str, **changed: Any) -> dict[str, np.ndarray]:
        options = tiny_options(tmp_path, "tokens", epochs=2, validation=None, output=tmp_path / name, **changed)
        finetune(options)
        return TASKS["tokens"].model_class.from_pretrained(options.output).params

    first, again = learned("a", dropout=0.1), learned("b", dropout=0.1)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    other = learned("c", dropout=0.1, seed=1)
    assert not np.array_equal(first["classifier.weight"], other["classifier.weight"])


@pytest.mark.parametrize("task", TASK_NAMES)
def test_threads_share_a_batch_without_changing_its_gradients(task, tmp_path):
    found = []
    for workers in (1, 3):
        options = tiny_options(
            tmp_path, task, epochs=1, validation=None, dropout=0.2, workers=workers, output=tmp_path / str(workers)
        )
        finetune(options)
        found.append([json.loads(line) for line in (tmp_path / str(workers) / "log.jsonl").read_text().splitlines()])
    for one, other in zip(*found, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-3)


def test_it_goes_on_from_a_fine_tuned_model(tmp_path):
    finetune(options := tiny_options(tmp_path, "classification"))
    again = tiny_options(tmp_path, "classification", model=options.output, output=tmp_path / "again", epochs=0.5)
    outcome = finetune(again)
    assert outcome.scores["before"] == {"accuracy": 1.0, "macro_f1": 1.0}
    assert outcome.steps == 1


def test_a_head_for_other_labels_is_not_taken_over(tmp_path):
    finetune(options := tiny_options(tmp_path, "classification", epochs=0.5))
    for labels in (["beast", "human"], ["animal", "human", "plant"]):
        texts = [{"text": "Once the king went home.", "label": label} for label in labels]
        data = write_examples(tmp_path / "other.jsonl", texts)
        again = tiny_options(
            tmp_path, "classification", model=options.output, train=data, validation=None, output=tmp_path / "again"
        )
        with pytest.raises(ValueError, match=f"is for the labels animal, human, the examples have {', '.join(labels)}"):
            finetune(again)
    # for another task it gets another head
    finetune(tiny_options(tmp_path, "tokens", model=options.output, output=tmp_path / "tokens", epochs=0.5))


def test_what_is_measured_is_what_was_written_in_16_bits(tmp_path):
    options = tiny_options(tmp_path, "language", epochs=2, dtype="float16")
    outcome = finetune(options)
    model, tokenizer = GPTNeoForCausalLM.from_pretrained(options.output), GPT2Tokenizer.from_pretrained(options.output)
    assert TASKS["language"].evaluate(model, tokenizer, EXAMPLES["language"]) == outcome.scores["after"]


def test_weights_can_be_written_in_16_bits(tmp_path):
    finetune(options := tiny_options(tmp_path, "language", epochs=1, dtype="float16", validation=None))
    assert json.loads((Path(options.output) / "config.json").read_text())["dtype"] == "float16"
    assert GPTNeoForCausalLM.from_pretrained(options.output).dtype == np.float32


def test_a_limit_takes_examples_from_all_of_the_file(tmp_path):
    assert len({example["label"] for example in EXAMPLES["classification"][:4]}) == 1  # too few to learn from
    outcome = finetune(tiny_options(tmp_path, "classification", limit=4, epochs=1, batch_size=1))
    assert outcome.steps == 4


# What goes wrong ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"task": "translation"}, "task: received 'translation', expected one of classification, tokens, answers"),
        ({"train": ""}, "train: received nothing"),
        ({"output": ""}, "output: received nothing"),
        ({"epochs": 0.0}, "epochs: received 0.0, expected a positive number"),
        ({"learning_rate": float("nan")}, "learning_rate: received nan"),
        ({"learning_rate": 0}, "learning_rate: received 0.0"),
        ({"batch_size": 0}, "batch_size: received 0"),
        ({"limit": 0}, "limit: received 0"),
        ({"workers": 0}, "workers: received 0"),
        ({"seed": -1}, "seed: received -1"),
        ({"dropout": 1.0}, "dropout: received 1.0"),
        ({"warmup": 1.0}, "warmup: received 1.0"),
        ({"weight_decay": -1.0}, "weight_decay: received -1.0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm: received 0.0"),
        ({"max_grad_norm": float("nan")}, "max_grad_norm: received nan"),
        ({"seed": 1 << 64}, "seed: received 18446744073709551616, expected at most 18446744073709551615"),
        ({"dtype": "int8"}, "dtype: received 'int8'"),
        ({"epochs": "many"}, "epochs: received 'many'"),
    ],
)
def test_an_option_that_no_run_can_have_is_named(changed, words):
    given = {"task": "tokens", "train": "a.jsonl", "output": "out"}
    with pytest.raises((ValueError, TypeError)) as raised:
        FinetuningOptions(**(given | changed))
    assert words in str(raised.value)


def test_gradients_need_not_be_shortened():
    options = FinetuningOptions(task="tokens", train="a.jsonl", output="out", max_grad_norm=float("inf"))
    assert options.max_grad_norm == float("inf")


def test_a_tokenizer_of_another_model_is_an_error(tmp_path):
    options = tiny_options(tmp_path, "language")
    GPT2Tokenizer.train(TEXTS, 300, progress=False).save_pretrained(str(options.model))
    with pytest.raises(ValueError, match="model has a tokenizer of 300 tokens, the model's vocabulary only 290"):
        finetune(options)


def test_an_unknown_label_is_found_before_anything_is_written(tmp_path):
    strange = write_examples(tmp_path / "strange.jsonl", [{"text": "Once.", "label": "ghost"}])
    with pytest.raises(
        ValueError, match=r"strange\.jsonl: unknown label 'ghost' of 'Once\.', expected one of animal, human"
    ):
        finetune(tiny_options(tmp_path, "classification", validation=strange))
    assert not (tmp_path / "out-classification").exists()


def test_one_label_is_nothing_to_learn(tmp_path):
    data = write_examples(tmp_path / "one.jsonl", [{"text": "Once.", "label": "animal"}])
    with pytest.raises(ValueError, match="all examples have the label 'animal'"):
        finetune(tiny_options(tmp_path, "classification", train=data))


def test_a_model_is_not_overwritten(tmp_path):
    finetune(options := tiny_options(tmp_path, "tokens", epochs=0.5, validation=None))
    with pytest.raises(FileExistsError, match="holds a model"):
        finetune(options)


def test_a_tokenizer_without_an_end_token_is_an_error(tmp_path):
    write_model(tmp_path / "model")
    tokenizer = GPT2Tokenizer.from_pretrained(tmp_path / "model", eos_token=None)
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="no eos_token"):
        finetune(tiny_options(tmp_path, "language"))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, for the overflow that is wanted here
def test_a_loss_that_is_no_number_stops_the_run_and_leaves_no_model(tmp_path):
    options = tiny_options(tmp_path, "classification", learning_rate=1e30, validation=None)
    with pytest.raises(FloatingPointError, match="Try a lower learning_rate"):
        finetune(options)
    assert not (Path(options.output) / "config.json").exists()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_last_step_that_ruins_the_parameters_leaves_no_model(tmp_path):
    options = tiny_options(tmp_path, "classification", learning_rate=1e6, epochs=0.5, dtype="float16", validation=None)
    with pytest.raises(FloatingPointError, match=r"in float16\. Try a lower learning_rate or dtype float32"):
        finetune(options)
    assert [path.name for path in Path(options.output).iterdir()] == ["log.jsonl"]


def test_two_runs_do_not_share_a_directory(tmp_path):
    options = tiny_options(tmp_path, "classification")
    with held(Path(options.output)), pytest.raises(BlockingIOError, match="another run is writing"):
        finetune(options)


def test_ctrl_c_writes_what_has_been_learned_and_stops(tmp_path, monkeypatch, capsys):
    computed = finetuning.loss_and_grads

    def interrupted(*arguments: Any) -> Any:
        if arguments[-1] == 1:  # in the middle of the second step
            signal.raise_signal(signal.SIGINT)
        return computed(*arguments)

    monkeypatch.setattr(finetuning, "loss_and_grads", interrupted)
    options = tiny_options(tmp_path, "classification")
    with pytest.raises(KeyboardInterrupt):
        finetune(options, progress=True)
    assert "stopped after step 2; " in capsys.readouterr().err
    TASKS["classification"].model_class.from_pretrained(options.output)
    assert not (Path(options.output) / "scores.json").exists()


# The command ----------------------------------------------------------------------------------------------------------


def _command(options: FinetuningOptions, **given: Any) -> list[str]:
    words = ["finetune", options.task]
    shown = {name: getattr(options, name) for name in ("train", "validation", "model", "output", "workers")} | given
    return words + [word for name, value in shown.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def test_the_command_prints_a_table(tmp_path, capsys):
    options = tiny_options(tmp_path, "classification")
    assert main(_command(options, epochs=40, batch_size=4, learning_rate=0.01)) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["accuracy", "macro_f1"]
    rows = {line[:20].strip(): line[20:].split() for line in printed[1:5]}
    assert list(rows) == ["commonest label", "naive Bayes", "before", "after"]
    assert rows["after"] == ["1.000", "1.000"]
    assert printed[-1].startswith("80 steps, ")


def test_the_command_says_which_line_is_wrong(tmp_path, capsys):
    options = tiny_options(tmp_path, "classification")
    write_examples(Path(options.train), [*EXAMPLES["classification"], {"text": "Once."}])
    assert main(_command(options)) == 1
    assert "classification.jsonl, line 9: has no label (it has text)" in capsys.readouterr().err


def test_the_command_names_options_as_they_were_typed(tmp_path, capsys):
    options = tiny_options(tmp_path, "classification")
    assert main(_command(options, batch_size=0)) == 1
    assert "--batch-size: received 0" in capsys.readouterr().err
    assert main(["finetune", "tokens", "--train", "a.jsonl"]) == 1
    assert "--train and --output are needed" in capsys.readouterr().err


def test_the_command_names_the_tasks(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["finetune", "translation"])
    assert raised.value.code == 2
    assert "'classification', 'tokens', 'answers', 'language'" in capsys.readouterr().err


def test_options_of_the_command_are_the_fields(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["finetune", "tokens", "--help"])
    text = capsys.readouterr().out
    assert all(
        f"--{name.replace('_', '-')}" in text for name in FinetuningOptions.__dataclass_fields__ if name != "task"
    )
