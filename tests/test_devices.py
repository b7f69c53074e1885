"""Names of devices, what is missing for one, and models that are moved: with stand-ins for CuPy where there is none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
from stand_ins import GPU, cupy_with, on_host, use_cupy_of_strict
from tiny_models import ALL_CLASSES, tiny, tokens

import minineo
from minineo import cli, devices
from minineo.classes import GPTNeoForCausalLM
from minineo.device_names import gpu_number
from minineo.devices import all_to_device, check_device, device_name, library_name, to_device
from minineo.generation import generate_steps


@pytest.mark.parametrize(
    ("name", "number"), [("cpu", None), ("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:12", 12)]
)
def test_names(name: str, number: int | None) -> None:
    assert gpu_number(name) == number


@pytest.mark.parametrize("name", ["gpu", "CUDA", "cuda:", "cuda:-1", "cuda:1.0", "cpu:0", "", "mps", "cuda:0 "])
def test_other_names_are_refused_with_a_list_of_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=r"received '.*', expected 'cpu', 'cuda' \(the first GPU\) or 'cuda:N'"):
        gpu_number(name)


@pytest.mark.parametrize("value", [0, None, np.zeros(1)])
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="expected 'cpu', 'cuda'"):
        gpu_number(value)


class TestWhatIsMissing:
    """Each of these is said by every way to name a device, before anything is read."""

    @pytest.fixture(params=["to_device", "check_device", "load", "generate", "stream", "from_pretrained", "to"])
    def use(self, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
        nowhere = tmp_path / "nothing"
        return {
            "to_device": lambda device: to_device(np.zeros(2), device),
            "check_device": check_device,
            "load": lambda device: minineo.load(nowhere, device=device),
            "generate": lambda device: minineo.generate("x", device=device),
            "stream": lambda device: minineo.stream("x", device=device),
            "from_pretrained": lambda device: GPTNeoForCausalLM.from_pretrained(nowhere, device=device),
            "to": lambda device: tiny(GPTNeoForCausalLM).to(device),
        }[request.param]

    def test_cupy(self, use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("minineo.devices.import_module", _fails(ModuleNotFoundError("no", name="cupy")))
        with pytest.raises(ImportError, match=r"CuPy is not installed.*minineo\[cuda12\].*minineo\[cuda13\]"):
            use("cuda")

    def test_a_gpu(self, use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("minineo.devices.import_module", lambda name: cupy_with(0))
        with pytest.raises(OSError, match="CuPy is installed, but finds no GPU"):
            use("cuda")

    def test_a_driver(self, use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        cupy = cupy_with(0)
        cupy.cuda.runtime = SimpleNamespace(getDeviceCount=_fails(RuntimeError("cudaErrorInsufficientDriver")))
        monkeypatch.setattr("minineo.devices.import_module", lambda name: cupy)
        with pytest.raises(OSError, match=r"no GPU, or no driver.*cudaErrorInsufficientDriver.*nvidia-smi"):
            use("cuda")

    def test_a_broken_cupy_is_not_taken_for_a_missing_one(self, use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("minineo.devices.import_module", _fails(ImportError("libcuda.so.1: no such file")))
        with pytest.raises(ImportError, match=r"installed but cannot be imported \(libcuda"):
            use("cuda")

    @pytest.mark.parametrize(("count", "there"), [(1, "'cuda:0' is the only GPU"), (3, "GPUs 'cuda:0' to 'cuda:2'")])
    def test_the_gpu_of_that_number(self, use: Any, count: int, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("minineo.devices.import_module", lambda name: cupy_with(count))
        with pytest.raises(ValueError, match=f"received 'cuda:7', but .*{there}"):
            use("cuda:7")


def _fails(error: Exception) -> Any:
    def fail(*_: Any) -> None:
        raise error

    return fail


def test_the_command_line_says_it_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("minineo.devices.import_module", lambda name: cupy_with(0))
    text = tmp_path / "text.txt"
    text.write_text("one two three")
    for command in (["generate", "x"], ["score", str(text)]):
        assert cli.main([*command, "--device", "cuda"]) == 1
        assert "finds no GPU" in capsys.readouterr().err
        assert cli.main([*command, "--device", "gpu"]) == 1
        assert "expected 'cpu', 'cuda'" in capsys.readouterr().err


def test_what_is_there_already_is_not_copied() -> None:
    array = np.arange(3)
    assert to_device(array, "cpu") is array
    model = tiny(GPTNeoForCausalLM)
    before = dict(model.params)
    assert model.to("cpu", dtype="float32") is model
    assert all(model.params[name] is array for name, array in before.items())


def test_names_of_devices_and_libraries() -> None:
    assert (device_name(np.zeros(1)), library_name(np.zeros(1))) == ("cpu", "numpy")
    array = strict.zeros(1, device=GPU)
    assert library_name(array) == "array_api_strict"
    assert "device1" in device_name(array)


@pytest.fixture
def _cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    use_cupy_of_strict(monkeypatch)


@pytest.mark.usefixtures("_cuda")
class TestOnADevice:
    @pytest.mark.parametrize("cls", ALL_CLASSES)
    def test_a_model_goes_there_and_back(self, cls: Any, tmp_path: Path) -> None:
        model = tiny(cls)
        before = dict(model.params)
        assert model.to("cuda") is model
        assert all(array.device == GPU for array in model.params.values())
        model.save_pretrained(tmp_path)
        model.to("cpu")
        assert model.device == "cpu"
        again = cls.from_pretrained(tmp_path)
        there = cls.from_pretrained(tmp_path, device="cuda")
        for name, array in before.items():
            for other in (model.params[name], again.params[name], on_host(there.params[name])):
                np.testing.assert_array_equal(other, array)
            assert there.params[name].device == GPU

    def test_dtypes(self) -> None:
        model = tiny(GPTNeoForCausalLM).to("cuda", dtype="float64")
        assert model.dtype == strict.float64
        with pytest.raises(ValueError, match=r"dtype: received 'float16', which .*array_api_strict"):
            model.to(dtype="float16")
        with pytest.raises(ValueError, match="expected float16, float32 or float64"):
            model.to(dtype="int8")
        assert model.to("cpu", "float16").params["transformer.wpe.weight"].dtype == np.float16

    @pytest.mark.parametrize("options", [{"do_sample": False}, {"seed": 3}, {"num_beams": 2, "do_sample": False}])
    def test_texts(self, options: dict[str, Any]) -> None:
        prompts = ["Once upon", "The king said to the"]
        expected = minineo.generate(prompts, max_new_tokens=4, **options)
        model, tokenizer = minineo.load(device="cuda")
        loaded = {"model": model, "tokenizer": tokenizer, "max_new_tokens": 4, **options}
        assert minineo.generate(prompts, **loaded) == expected
        assert minineo.generate(prompts, device="cuda", max_new_tokens=4, **options) == expected
        if "num_beams" not in options:
            [text] = minineo.generate(prompts[:1], max_new_tokens=4, **options)
            assert prompts[0] + "".join(minineo.stream(prompts[0], **loaded)) == text

    def test_a_score(self) -> None:
        model, tokenizer = minineo.load(device="cuda")
        text = "Once upon a time there was a king"
        here, there = minineo.score(text), minineo.score(text, model, tokenizer)
        assert there.loss == pytest.approx(here.loss, rel=1e-6)

    def test_commands(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        printed = []
        for device in ("cpu", "cuda"):
            assert cli.main(["generate", "Once", "--max-new-tokens", "3", "--seed", "1", "--device", device]) == 0
            printed.append(capsys.readouterr().out)
        assert printed[0] == printed[1]

    def test_a_device_beside_a_loaded_model_has_to_be_its_own(self) -> None:
        model, tokenizer = minineo.load()
        with pytest.raises(
            ValueError, match=r"received 'cuda' beside a model that is loaded, on cpu.*model\.to\('cuda'\)"
        ):
            minineo.generate("x", model=model, tokenizer=tokenizer, device="cuda")
        assert minineo.generate("x", model=model, tokenizer=tokenizer, device="cpu", max_new_tokens=1)


class TestTheCurrentDevice:
    """CuPy makes results on the current device, and refuses arrays of others: it has to be the model's meanwhile."""

    @pytest.fixture
    def entered(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """The arrays whose devices are current ones, the latest last."""
        arrays: list[Any] = []

        @contextmanager
        def current(array: Any) -> Iterator[None]:
            arrays.append(array)
            yield
            arrays.pop()

        for module in (devices, import_module("minineo.generation.generate")):
            monkeypatch.setattr(module, "current_device", current)
        return arrays

    def test_is_a_device_of_cupy_or_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with devices.current_device(np.zeros(1)):
            pass
        array = SimpleNamespace(device=nullcontext("the device"))
        monkeypatch.setattr("minineo.devices.is_cupy_array", lambda other: other is array)
        with devices.current_device(array) as current:
            assert current == "the device"

    @pytest.mark.parametrize(
        "use",
        [
            lambda model, ids, seen: model(ids, tap=seen),
            lambda model, ids, seen: model(ids, edits={"embed": lambda value: seen("", value)}),
            lambda model, ids, seen: model.trace(ids, edits={"embed": lambda value: seen("", value)}),
            lambda model, ids, seen: model.generate(ids, streamer=SimpleNamespace(put=seen, end=str)),
            lambda model, ids, seen: model.generate(ids, num_beams=2, edits={"embed": lambda value: seen("", value)}),
            lambda model, ids, seen: model.loss_and_grads(ids, labels=ids, masks=lambda *_: seen("", None)),
        ],
    )
    def test_is_the_models_while_it_computes(self, use: Any, entered: list[Any]) -> None:
        model, ids, count = tiny(GPTNeoForCausalLM), tokens(1, 4), 0

        def seen(name: Any, value: Any = None) -> Any:
            nonlocal count
            assert any(entered[-1] is weight for weight in model.params.values())
            count += 1
            return value

        use(model, ids, seen)
        assert count > 0
        assert not entered

    def test_is_the_callers_between_the_steps_of_a_stream(self, entered: list[Any]) -> None:
        inside: list[int] = []

        def seen(value: Any) -> Any:
            inside.append(len(entered))
            return value

        steps = generate_steps(tiny(GPTNeoForCausalLM), tokens(1, 4), max_new_tokens=3, edits={"embed": seen})
        for count, _ in enumerate(steps, start=1):
            assert not entered
            assert len(inside) == count
        assert min(inside) > 0


def test_arrays_of_a_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    use_cupy_of_strict(monkeypatch)
    moved = all_to_device({"a": np.arange(3), "b": np.ones(2)}, "cuda")
    assert [array.device for array in moved.values()] == [GPU, GPU]
    back = all_to_device(moved, "cpu")
    assert [type(array) for array in back.values()] == [np.ndarray, np.ndarray]


def test_only_one_module_places_arrays_and_only_one_picks_fast_functions() -> None:
    """No other asks whether arrays are CuPy's."""
    root = Path(devices.__file__).parent
    asks = re.compile(r"is_cupy|import cupy|import_module\(\"cupy\"\)|\.get\(\) if")
    asking = {path.relative_to(root).as_posix() for path in root.rglob("*.py") if asks.search(path.read_text())}
    assert asking == {"devices.py", "fast/choose.py", "fast_cupy/kernels.py", "fast_cupy/decoding.py"}
