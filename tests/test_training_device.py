"""Training on a device: array_api_strict stands in for a GPU, and the results are those of the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_ins import GPU, on_host, use_cupy_of_strict
from tiny_models import tiny, tokens
from training_runs import tiny_options

from minineo import cli
from minineo.arrays import beside
from minineo.classes import GPTNeoForCausalLM
from minineo.devices import all_to_device
from minineo.training import loop
from minineo.training.device_step import DeviceTrainingStep
from minineo.training.log import read_log
from minineo.training.step import TrainingStep


@pytest.mark.parametrize("fields", [{}, {"tie_word_embeddings": False}, {"resid_dropout": 0.2, "embed_dropout": 0.1}])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_is_that_of_the_threads(
    fields: dict[str, Any], checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cupy_of_strict(monkeypatch)
    model = tiny(GPTNeoForCausalLM, "gl", **fields)
    windows = tokens(3, 8)
    windows[1, 4:] = -100
    seed = 3 if "resid_dropout" in fields else None
    with TrainingStep(model, 1, checkpointing, seed) as step:
        loss, grads = step(windows, 2, 1)
        expected = {name: gradient.copy() for name, gradient in grads.items()}
    with DeviceTrainingStep(model.to("cuda"), checkpointing, seed) as step:
        found_loss, found = step(windows, 2, 1)
    assert found_loss == pytest.approx(loss, rel=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert found[name].device == GPU
        np.testing.assert_allclose(on_host(found[name]), gradient, rtol=0, atol=1e-5 * np.abs(gradient).max())


def run(folder: Path, device: str, **changed: Any) -> Path:
    options = {"steps": 4, "log_every": 1, "eval_every": 2, "save_every": 2, "sample_tokens": 3, **changed}
    return loop.train(tiny_options(folder, f"out-{device}", device=device, **options))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_is_that_of_the_processor(optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_cupy_of_strict(monkeypatch)
    outputs = [run(tmp_path, device, optimizer=optimizer) for device in ("cpu", "cuda")]
    logs = [read_log(output) for output in outputs]
    for one, other in zip(*logs, strict=True):
        for name in ("loss", "gradient_norm", "validation_loss", "bits_per_byte"):
            assert other.get(name) == (None if name not in one else pytest.approx(one[name], rel=1e-4))
    models = [GPTNeoForCausalLM.from_pretrained(output) for output in outputs]
    for name, array in models[0].params.items():
        np.testing.assert_allclose(models[1].params[name], array, rtol=0, atol=1e-3)


def test_it_goes_on_on_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_cupy_of_strict(monkeypatch)
    output = run(tmp_path, "cuda")
    changed = {"steps": 6, "log_every": 1, "eval_every": 2, "save_every": 2, "sample_tokens": 3}
    with pytest.warns(UserWarning, match="steps"):
        loop.train(tiny_options(tmp_path, "out-cuda", device="cpu", **changed), resume=True)
    with pytest.warns(UserWarning, match="steps"):
        loop.train(tiny_options(tmp_path, "out-cuda", device="cuda", **(changed | {"steps": 8})), resume=True)
    assert max(record["step"] for record in read_log(output)) == 8


def test_a_device_that_is_not_there_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("no", name="cupy")

    monkeypatch.setattr("minineo.devices.import_module", missing)
    options = tiny_options(tmp_path)
    with pytest.raises(ImportError, match="CuPy is not installed"):
        run(tmp_path, "cuda")
    assert not (tmp_path / "out-cuda").exists()
    command = ["train", "--train", options.train[0], "--output", str(tmp_path / "new"), "--device", "cuda"]
    assert cli.main(command) == 1
    assert "CuPy is not installed" in capsys.readouterr().err
    assert cli.main([*command[:-1], "tpu"]) == 1
    assert "--device: received 'tpu', expected 'cpu', 'cuda'" in capsys.readouterr().err


def test_arrays_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    use_cupy_of_strict(monkeypatch)
    moved = all_to_device({"x": np.ones(2)}, "cuda")["x"]
    assert beside(np.arange(2), like=moved).device == GPU
