"""The command line, run as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minineo
from minineo.cli import main

MINIMAL = [sys.executable, "-m", "minineo"]


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MINIMAL, *arguments], capture_output=True, encoding="utf-8", timeout=120, **options)


def test_generate_prints_the_prompt_and_the_same_story_for_the_same_seed():
    first = run("generate", "Once upon a time", "--max-new-tokens", "30", "--seed", "3")
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    expected = minineo.generate("Once upon a time", max_new_tokens=30, seed=3)
    assert first.stdout == expected + "\n"
    assert expected.startswith("Once upon a time")


def test_generate_reads_standard_input_when_there_is_no_prompt():
    result = run("generate", "--max-new-tokens", "5", "--temperature", "0", input="The king said\n")
    assert result.stdout == minineo.generate("The king said", max_new_tokens=5, temperature=0) + "\n"


def test_generate_with_beams(capsys):
    assert main(["generate", "The king", "--num-beams", "3", "--max-new-tokens", "6"]) == 0
    expected = minineo.generate("The king", num_beams=3, do_sample=False, max_new_tokens=6)
    assert capsys.readouterr().out == expected + "\n"


def test_generate_streams(tmp_path):
    """The first words are there long before the last."""
    command = [*MINIMAL, "generate", "Once", "--seed", "0", "--max-new-tokens", "200"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        pieces = 0
        while os.read(process.stdout.fileno(), 4096):
            pieces += 1
    assert process.returncode == 0
    assert pieces > 10


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["generate", "x", "--model", "no/such/place"], 1, "no/such/place"),
        (["generate", "x", "--device", "tpu"], 1, "'tpu'"),
        (["generate", "x", "--temperature", "-1"], 2, "temperature"),
        (["generate", "x", "--num-beams", "-5"], 1, "num_beams"),
        (["generate", "x " * 400], 1, "800 tokens"),
        (["generate", "x", "--max-new-tokens", "1000"], 1, "1000"),
        (["generate", "x", "--max-new-tokens", "many"], 2, "--max-new-tokens"),
        (["inspect", "no/such/place"], 1, "no/such/place"),
        (["tokenize", "x", "--model", "no/such/place"], 1, "no/such/place"),
        (["train-tokenizer", "no-such-file", "--output", "out"], 1, "no-such-file"),
        (["dance"], 2, "dance"),
        ([], 2, "COMMAND"),
    ],
)
def test_an_error_is_one_line_on_standard_error(arguments, status, words):
    result = run(*arguments)
    assert result.returncode == status
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["generate", "tokenize", "train-tokenizer", "inspect", "train"])
def test_help_shows_an_example_that_works(command, tmp_path, monkeypatch):
    shown = run(command, "--help")
    assert shown.returncode == 0
    example = shown.stdout.split("example:\n", 1)[1].strip()
    assert example.startswith(f"minineo {command}")
    (tmp_path / "stories.txt").write_text("Once upon a time there was a king. " * 20, encoding="utf-8")
    minineo.load()[0].save_pretrained(tmp_path / "path/to/checkpoint")
    command_line = example.replace("minineo", f"{sys.executable} -m minineo", 1)
    result = subprocess.run(command_line, shell=True, cwd=tmp_path, capture_output=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_ctrl_c_ends_quietly_with_130():
    command = [*MINIMAL, "generate", "Once", "--max-new-tokens", "250"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        os.read(process.stdout.fileno(), 1)  # it has begun
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert error == b""
    assert process.returncode == 130


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.2, 0.4])
def test_ctrl_c_is_as_quiet_while_it_starts(delay):
    command = [sys.executable, "-X", "importtime", "-m", "minineo", "generate", "Once"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        # before the program's first line an interruption is the interpreter's, which reports it
        while b"minineo.cli" not in process.stderr.readline():
            pass
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        error = process.stderr.read()
    assert b"Traceback" not in error
    # an extension module that is being imported may let the signal end the process: to a shell that is 130, too
    assert process.returncode in (0, 130, -signal.SIGINT)


def test_an_interruption_that_an_import_turned_into_another_error_is_one(monkeypatch, capsys):
    def wrapped(options):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interruption:
            raise RuntimeError("Error calling __set_name__") from interruption

    wrapped.__name__ = "inspect"
    monkeypatch.setattr("minineo.commands.inspect", wrapped)
    assert main(["inspect"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_closed_streams_are_no_crash(closed):
    command = f"{sys.executable} -m minineo generate Once --max-new-tokens 2 {closed}"
    result = subprocess.run(command, shell=True, capture_output=True, timeout=60)
    assert result.returncode == 0
    assert b"Traceback" not in result.stderr


def test_a_closed_pipe_is_no_error():
    command = [*MINIMAL, "generate", "Once", "--max-new-tokens", "250", "--seed", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        os.read(process.stdout.fileno(), 1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_tokenize_aligns_ids_tokens_bytes_and_text():
    result = run("tokenize", "The king said: 你好 🙂")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["id", "token", "bytes", "text"]
    rows = lines[1 : lines.index("")]
    _, tokenizer = minineo.load()
    ids = tokenizer.encode("The king said: 你好 🙂")
    assert [int(row.split()[0]) for row in rows] == ids
    shown = bytes.fromhex("".join("".join(_bytes_column(row)) for row in rows))
    assert shown.decode("utf-8") == "The king said: 你好 🙂"
    assert "b'\\xf0" in result.stdout  # a token that is part of a character shows its bytes
    assert f"{len(ids)} tokens, 19 characters, 26 bytes" in result.stdout


def _bytes_column(row: str) -> list[str]:
    """The two-digit words of a row: its bytes, as the token before them is no such word in this test."""
    head, _, _ = row.partition("'")
    return [word for word in head.split()[2:] if len(word) == 2]


def test_train_tokenizer_writes_a_tokenizer_that_loads(tmp_path):
    stories = tmp_path / "stories.txt"
    stories.write_text("the cat sat on the mat\n<|endoftext|>\nthe dog sat on the log\n" * 50, encoding="utf-8")
    result = run("train-tokenizer", str(stories), "--vocab-size", "280", "--output", str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    tokenizer = minineo.GPT2Tokenizer.from_pretrained(tmp_path / "out")
    assert len(tokenizer) <= 280
    assert len(tokenizer.encode("the cat sat on the log")) <= 7
    assert tokenizer.decode(tokenizer.encode("the cat sat<|endoftext|>on")) == "the cat sat<|endoftext|>on"


def test_a_file_that_is_not_text_is_named(tmp_path, capsys):
    file = tmp_path / "a.bin"
    file.write_bytes(b"abc\xff\xfe")
    assert main(["train-tokenizer", str(file), "--output", str(tmp_path / "out")]) == 1
    assert str(file) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_inspect_the_bundled_model(capsys):
    assert main(["inspect"]) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("transformer.wte.weight"))
    assert row.split() == ["transformer.wte.weight", "4096", "x", "192", "F16", "786,432", "1,572,864"]
    assert f"{minineo.load()[0].num_parameters():,} numbers" in out
    assert "window_size" in out


def test_inspect_reads_only_headers(tmp_path, capsys):
    """A file of 100 GB, nearly all of it a hole, is shown at once."""
    shape = [25_000_000, 1000]
    header = json.dumps({"wte.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, 100_000_000_000]}}).encode()
    header += b" " * (-len(header) % 8)
    path = tmp_path / "model.safetensors"
    try:
        with path.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + 100_000_000_000)
    except OSError:
        pytest.skip("this file system has no sparse files of 100 GB")
    assert main(["inspect", str(path)]) == 0
    assert "25,000,000,000" in capsys.readouterr().out


def test_inspect_shows_the_weights_of_another_kind_of_model(tmp_path):
    minineo.load()[0].save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    result = run("inspect", str(tmp_path))
    assert result.returncode == 0
    assert f"{minineo.load()[0].num_parameters():,} numbers" in result.stdout
    assert "model_type: received 'gpt2'" in result.stderr
    assert result.stderr.count("\n") == 1


def test_inspect_shows_what_is_wrong_in_one_line(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(np.uint64(1 << 40).tobytes() + b"{}")
    result = run("inspect", str(tmp_path))
    assert result.returncode == 1
    assert "model.safetensors" in result.stderr
    assert result.stderr.count("\n") == 1


def test_output_that_cannot_show_a_letter_shows_its_code(tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    result = run("tokenize", "你", "--model", str(whole_characters(tmp_path)), env=environment)
    assert result.returncode == 0, result.stderr
    assert "\\u4f60" in result.stdout  # the text column; the tokens' own spelling is escaped as well


def whole_characters(directory: Path) -> Path:
    """A tokenizer that has learned a character outside ASCII."""
    tokenizer = minineo.GPT2Tokenizer.train(["你 你 你 你"], vocab_size=260, progress=False)
    tokenizer.save_pretrained(directory)
    return directory


def test_version():
    assert run("--version").stdout == f"minineo {minineo.__version__}\n"
