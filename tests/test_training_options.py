"""Options of a training run: their checks, and the way from a TOML file and the command line to a TrainingOptions."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from minineo.cli import main
from minineo.training import command, schedule
from minineo.training.options import DECAYS, FIELDS, TABLES, TrainingOptions, options_from, read_toml, usable_cores

NEEDED = {"train": "stories.txt", "output": "out"}


def test_defaults_are_a_run_that_can_be():
    options = options_from(NEEDED)
    assert options.train == ("stories.txt",)
    config = options.model_config(300, 299)
    assert config.attention_layers == ["global", "local"] * 3
    assert (config.vocab_size, config.eos_token_id, config.bos_token_id) == (300, 299, 299)


def test_an_odd_number_of_layers_ends_with_a_global_one():
    config = options_from(NEEDED | {"num_layers": 3}).model_config(300)
    assert config.attention_layers == ["global", "local", "global"]


def test_attention_types_are_those_of_the_configuration():
    options = options_from(NEEDED | {"num_layers": 3, "attention_types": [[["local"], 2], [["global"], 1]]})
    assert options.model_config(300).attention_layers == ["local", "local", "global"]


def test_decays_are_those_of_the_schedule():
    assert DECAYS == schedule.DECAYS


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("learning_rate", 0.0, "0.0, expected a positive number"),
        ("learning_rate", float("nan"), "received nan"),
        ("learning_rate", float("inf"), "received inf"),
        ("learning_rate", -1.0, "received -1.0"),
        ("learning_rate", "fast", "'fast' of type str, expected float"),
        ("min_learning_rate", 0.1, "from 0 to learning_rate, which is 0.001"),
        ("min_learning_rate", float("nan"), "min_learning_rate: received nan"),
        ("weight_decay", -0.1, "weight_decay: received -0.1"),
        ("weight_decay", float("nan"), "weight_decay: received nan"),
        ("beta1", 1.0, "beta1: received 1.0"),
        ("beta2", float("nan"), "beta2: received nan"),
        ("momentum", -0.1, "momentum: received -0.1"),
        ("epsilon", 0.0, "epsilon: received 0.0"),
        ("max_grad_norm", 0.0, "max_grad_norm: received 0.0"),
        ("hidden_size", 100, "divisor of hidden_size, which is 100"),
        ("hidden_size", 0, "hidden_size: received 0"),
        ("hidden_size", 64.0, "64.0 of type float, expected int"),
        ("hidden_size", True, "True of type bool"),
        ("num_layers", -1, "num_layers: received -1"),
        ("attention_types", [[["global"], 2]], "stands for 2 layers, but num_layers is 6"),
        ("attention_types", "global", "expected list"),
        ("resid_dropout", 1.0, "resid_dropout: received 1.0"),
        ("max_position_embeddings", 1, "at least 2"),
        ("vocab_size", 0, "vocab_size: received 0"),
        ("batch_size", 0, "batch_size: received 0"),
        ("gradient_accumulation", 17, "at most batch_size, which is 16"),
        ("seed", -1, "seed: received -1"),
        ("steps", 0, "steps: received 0"),
        ("epochs", 0.0, "epochs: received 0.0"),
        ("epochs", float("nan"), "epochs: received nan"),
        ("workers", 0, "workers: received 0"),
        ("log_every", 0, "log_every: received 0"),
        ("optimizer", "adam", "adamw, muon, sgd"),
        ("decay", "step", "cosine, linear, constant"),
        ("dtype", "bfloat16", "float32, float16"),
        ("device", "tpu", "cpu"),
        ("seed", 1 << 64, "expected at most 18446744073709551615"),
        ("max_grad_norm", float("nan"), "inf shortens nothing"),
        ("train", [], "train: received nothing"),
        ("train", "", "train: received an empty name"),
        ("validation", ["a.txt", ""], "validation: received an empty name"),
        ("tokenizer", "", "tokenizer: received an empty name"),
        ("train", [3], "expected a text or a list of texts"),
        ("output", "", "output: received nothing"),
    ],
)
def test_a_value_that_no_run_can_have_is_named(name, value, words):
    with pytest.raises((ValueError, TypeError), match=words) as raised:
        options_from(NEEDED | {name: value})
    assert name in str(raised.value) or words in str(raised.value)


def test_gradients_need_not_be_clipped():
    assert options_from(NEEDED | {"max_grad_norm": float("inf")}).max_grad_norm == float("inf")


def test_steps_and_epochs_exclude_each_other():
    with pytest.raises(ValueError, match="steps, epochs"):
        options_from(NEEDED | {"steps": 10, "epochs": 1})
    with pytest.raises(ValueError, match="warmup_steps, hold_steps: received 10 and 0 for a run of 10 steps"):
        options_from(NEEDED | {"steps": 10, "warmup_steps": 10})


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(ValueError, match=r"no option learning_rat; did you mean learning_rate\?"):
        options_from(NEEDED | {"learning_rat": 1.0})


def test_the_names_of_the_package_are_there():
    import minineo.training

    assert all(getattr(minineo.training, name) is not None for name in minineo.training.__all__)
    assert set(minineo.training.__all__) <= set(dir(minineo.training))
    with pytest.raises(AttributeError, match="no attribute 'AdamV'"):
        _ = minineo.training.AdamV


def test_paths_may_be_path_objects():
    options = options_from({"train": [Path("a.txt"), "b.txt"], "output": Path("out"), "tokenizer": Path("tok")})
    assert (options.train, options.output, options.tokenizer) == (("a.txt", "b.txt"), "out", "tok")


def test_options_survive_json():
    options = options_from(NEEDED | {"attention_types": [[["local"], 6]], "epochs": 2, "sample_prompts": ["a", "b"]})
    assert options_from(json.loads(json.dumps(asdict(options)))) == options


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_toml_file_groups_options_in_tables(tmp_path):
    path = toml(
        tmp_path,
        """
        [data]
        train = ["a.txt", "b"]
        [model]
        num_layers = 2
        attention_types = [[["global", "local"], 1]]
        [learning]
        learning_rate = 1
        [output]
        output = "out"
        """,
    )
    options = options_from(read_toml(path))
    assert options.train == ("a.txt", "b")
    assert options.num_layers == 2
    assert options.learning_rate == 1.0
    assert isinstance(options.learning_rate, float)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[model]\nhiden_size = 3", "no option hiden_size; did you mean hidden_size?"),
        ("[modle]\nhidden_size = 3", r"\[modle\] is no table of options; did you mean model?"),
        ("[run]\nhidden_size = 3", r"hidden_size stands under \[run\]; it belongs under \[model\]"),
        ("hidden_size = 3", r"hidden_size stands outside of a table; put it under \[model\]"),
        ("[model\n", "not valid TOML"),
        ("model = 3", r"\[model\] is no table"),
    ],
)
def test_a_mistake_in_a_toml_file_is_named_with_the_file(tmp_path, text, words):
    with pytest.raises(ValueError, match=words) as raised:
        read_toml(toml(tmp_path, text))
    assert "run.toml" in str(raised.value)


def test_a_toml_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no-such-file"):
        read_toml(tmp_path / "no-such-file")


@pytest.fixture
def received(monkeypatch):
    """The options that `minineo train` would run with."""
    runs: list[tuple[TrainingOptions, bool]] = []
    monkeypatch.setattr("minineo.training.loop.train", lambda options, resume, progress: runs.append((options, resume)))
    monkeypatch.setattr(command, "limit_threads", lambda workers: None)
    return runs


def test_the_command_line_wins_over_the_file(tmp_path, received):
    path = toml(tmp_path, '[data]\ntrain = "a.txt"\n[model]\nnum_layers = 2\nnum_heads = 2\n[output]\noutput = "out"\n')
    assert main(["train", "--config", str(path), "--num-layers", "4", "--learning-rate", "0.5"]) == 0
    options, resume = received[0]
    assert (options.num_layers, options.num_heads, options.learning_rate, resume) == (4, 2, 0.5, False)


def test_a_length_in_epochs_wins_over_one_in_steps(tmp_path, received):
    path = toml(tmp_path, '[data]\ntrain = "a.txt"\n[run]\nsteps = 9\n[output]\noutput = "out"\n')
    assert main(["train", "--config", str(path), "--epochs", "2"]) == 0
    assert (received[0][0].steps, received[0][0].epochs) == (None, 2.0)


def test_every_option_can_be_given_on_the_command_line(received):
    values = {
        "train": ["a.txt", "b.txt"],
        "tokenizer": "tok",
        "attention_types": [[["local"], 6]],
        "activation_function": "relu",
        "tie_word_embeddings": False,
        "optimizer": "muon",
        "decay": "linear",
        "steps": 3,
        "warmup_steps": 1,
        "hold_steps": 1,
        "gradient_checkpointing": True,
        "output": "out",
        "dtype": "float16",
        "sample_prompts": ["A", "B c"],
    }
    words = ["train"]
    for name, option in FIELDS.items():
        if name == "epochs":
            continue
        flag, value = f"--{name.replace('_', '-')}", values.setdefault(name, _other(option.default))
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        elif name == "attention_types":
            words += [flag, json.dumps(value)]
        else:
            words += [flag, *map(str, value if isinstance(value, list) else [value])]
    assert main(words) == 0
    assert received[0][0] == options_from(values)


def _other(default):
    """Another value of the same type, which fits the rest."""
    if default == "cpu":
        return default
    if isinstance(default, float):
        return default / 2 + 1e-4
    return 6 if isinstance(default, int) else "7" if default == () else 6 if default is None else default


def test_an_option_that_does_not_exist_ends_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["train", "--hiden-size", "3"])
    assert raised.value.code == 2
    assert "did you mean --hidden-size?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "beginning"),
    [
        (["--learning-rate", "nan"], "--learning-rate: received nan"),
        (["--steps", "3", "--epochs", "1"], "--steps, --epochs: received 3 and 1.0"),
        (["--steps", "3", "--warmup-steps", "7"], "--warmup-steps, hold_steps: received 7 and 0"),
    ],
)
def test_an_error_names_the_flag_that_was_typed(words, beginning, capsys):
    assert main(["train", "--train", "a.txt", "--output", "out", *words]) == 1
    assert capsys.readouterr().err.startswith(f"minineo: {beginning}")


@pytest.mark.parametrize("words", [[], ["--train", "a.txt"], ["--output", "out"]])
def test_what_is_needed_is_said_with_an_example(words, capsys):
    assert main(["train", *words]) == 1
    error = capsys.readouterr().err
    assert "--train and --output are needed" in error
    assert "minineo train --train stories.txt --output my-model" in error


@pytest.mark.parametrize(
    "words", [["--learning-rate", "nan"], ["--hidden-size", "100"], ["--steps", "3", "--epochs", "1"]]
)
def test_a_wrong_value_is_one_line_and_writes_nothing(words, tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["train", "--train", "a.txt", "--output", str(output), *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("minineo: ")
    assert error.count("\n") == 1
    assert not output.exists()


def test_help_lists_every_option_with_its_table(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = capsys.readouterr().out
    assert all(f"[{table}]:" in shown for table in TABLES)
    assert all(f"--{name.replace('_', '-')}" in shown for name in FIELDS)


def _child(code: str, **environment: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_numpy_is_not_imported_before_its_threads_are_limited():
    code = """
import sys
from minineo.cli import main
import minineo.training.command as command
command.limit_threads = lambda workers: (print("numpy" in sys.modules), sys.exit())
main(["train", "--train", "a.txt", "--output", "out"])
"""
    assert _child(code) == "False"


@pytest.mark.parametrize(
    ("workers", "set_before", "expected"), [(2, None, "1"), (1, None, "None"), (2, "3", "3"), (None, None, "?")]
)
def test_matrix_products_keep_to_their_thread_unless_the_user_says_otherwise(workers, set_before, expected):
    code = f"""
import os
from minineo.training.command import limit_threads
from minineo.training.options import options_from
limit_threads(options_from({NEEDED | {"workers": workers}}).workers)
print(os.environ.get("OPENBLAS_NUM_THREADS"))
"""
    found = _child(code, **({} if set_before is None else {"OPENBLAS_NUM_THREADS": set_before}))
    assert found == (expected if workers else "1" if usable_cores() > 1 else "None")
