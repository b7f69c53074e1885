"""The Flax models: as `transformers` 4 had them (frozen), jitted and differentiated by JAX, on NumPy without it."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require
from golden.flax_parameters import drawn
from tiny_models import tiny, tiny_config, tokens

import minineo
from minineo.checkpoints import CheckpointError, describe, save_safetensors
from minineo.checkpoints.flax_names import flatten, from_flax, to_flax, unflatten
from minineo.checkpoints.msgpack_file import open_msgpack
from minineo.classes import GPTNeoForCausalLM, GPTNeoModel
from minineo.config import GPTNeoConfig
from minineo.flax.classes import FlaxGPTNeoForCausalLM, FlaxGPTNeoModel
from minineo.flax.randomness import masks_for

GOLDEN = Path(__file__).parent / "golden"
CASES: dict[str, Any] = json.loads((GOLDEN / "flax.json").read_text(encoding="utf-8"))["cases"]
BOTH = [FlaxGPTNeoModel, FlaxGPTNeoForCausalLM]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "flax.npz") as file:
        return dict(file)


def model_of(case: dict[str, Any]) -> Any:
    model = getattr(minineo, case["class"])(GPTNeoConfig(**case["config"]))
    shapes = {name: array.shape for name, array in flatten(model.params).items()}
    model.params = unflatten(drawn(shapes, case["seed"]))
    return model


def below(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def fields_of(output: Any) -> dict[str, Any]:
    """Every array of an output by the name that it has in the file, such as `hidden_states.1`."""
    fields: dict[str, Any] = {}
    for name, value in output.items():
        if isinstance(value, dict):
            fields |= {f"past/{key}": array for key, array in flatten(value).items()}
        elif isinstance(value, tuple):
            fields |= {f"{name}.{i}": item for i, item in enumerate(value)}
        else:
            fields[name] = value
    return fields


def assert_close(ours: Any, theirs: Any, name: str) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, name
    assert ours.dtype == theirs.dtype, name
    assert np.max(np.abs(ours - theirs)) <= 1e-5 * np.max(np.abs(theirs)), name


def replay(model: Any, call: Any, case: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Compare each call of a case, which continue each other's cache, with what Flax gave."""
    cache = model.init_cache(3, case["length"]) if case["length"] else None
    for piece in range(1 + max(int(name.partition("/")[0]) for name in arrays)):
        expected = below(arrays, f"{piece}/")
        inputs = below(expected, "input/")
        output = call(inputs, cache)
        cache = output.get("past_key_values")
        found = fields_of(output)
        theirs = {name: array for name, array in expected.items() if not name.startswith("input/")}
        assert {name for name in theirs if "past" not in name} == {name for name in found if "past" not in name}
        for name, array in theirs.items():
            assert_close(found[name], array, name)


@pytest.mark.parametrize("name", CASES)
def test_as_flax_computed(golden: dict[str, np.ndarray], name: str) -> None:
    model = model_of(CASES[name])

    def call(inputs: dict[str, Any], cache: Any) -> Any:
        return model(**inputs, past_key_values=cache, output_attentions=True, output_hidden_states=True)

    replay(model, call, CASES[name], below(golden, f"{name}/"))


@pytest.mark.parametrize("name", ["tied head", "untied head", "base"])
def test_fast_functions_give_the_same(golden: dict[str, np.ndarray], name: str) -> None:
    output = model_of(CASES[name])(golden[f"{name}/0/input/input_ids"])
    assert len(output) == 1
    field = next(iter(output))
    assert_close(output[0], golden[f"{name}/0/{field}"], name)


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_file_that_flax_wrote(golden: dict[str, np.ndarray]) -> None:
    ids, logits = golden["tied head/0/input/input_ids"], golden["tied head/0/logits"]
    for cls in (GPTNeoForCausalLM, FlaxGPTNeoForCausalLM):
        assert_close(cls.from_pretrained(GOLDEN / "flax_model")(ids).logits, logits, cls.__name__)
    base = FlaxGPTNeoModel.from_pretrained(GOLDEN / "flax_model")
    assert base.params.keys() == {"wte", "wpe", "h", "ln_f"}
    assert np.shares_memory(
        base.params["h"]["0"]["mlp"]["c_fc"]["kernel"], base.params["h"]["0"]["mlp"]["c_fc"]["kernel"]
    )


def test_saved_again_it_is_the_same_file(tmp_path: Path) -> None:
    FlaxGPTNeoForCausalLM.from_pretrained(GOLDEN / "flax_model").save_pretrained(tmp_path)
    theirs = open_msgpack(GOLDEN / "flax_model" / "flax_model.msgpack")
    ours = open_msgpack(tmp_path / "flax_model.msgpack")
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, strict=True)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["GPTNeoForCausalLM"]


@pytest.mark.parametrize("shard_size", ["10GB", "2KB"])
@pytest.mark.parametrize("cls", BOTH)
def test_saved_and_loaded(tmp_path: Path, cls: Any, shard_size: str) -> None:
    model = tiny(cls.counterpart)
    flax = cls(model.config)
    flax.params = to_flax(model.params)
    flax.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "flax_model.msgpack").is_file() == (shard_size == "10GB")
    for loaded in (cls.from_pretrained(tmp_path), cls.counterpart.from_pretrained(tmp_path, from_flax=True)):
        params = from_flax(loaded.params) if isinstance(loaded, cls) else loaded.params
        assert params.keys() == model.params.keys()
        for name, array in model.params.items():
            np.testing.assert_array_equal(params[name], array, strict=True)


def test_from_either_format(tmp_path: Path) -> None:
    first, second = tiny(GPTNeoForCausalLM, seed=1), tiny(GPTNeoForCausalLM, seed=2)
    first.save_pretrained(tmp_path)
    name = "transformer.wte.weight"

    def table(model: Any) -> np.ndarray:
        return (from_flax(model.params) if isinstance(model, FlaxGPTNeoForCausalLM) else model.params)[name]

    assert (table(FlaxGPTNeoForCausalLM.from_pretrained(tmp_path)) == first.params[name]).all()
    flax = FlaxGPTNeoForCausalLM(second.config)
    with pytest.warns(
        UserWarning, match=r"holds model\.safetensors .* which GPTNeo\.\.\.\.from_pretrained reads instead"
    ):
        flax.save_pretrained(tmp_path, params=to_flax(second.params))
    assert (table(FlaxGPTNeoForCausalLM.from_pretrained(tmp_path)) == second.params[name]).all()
    assert (table(FlaxGPTNeoForCausalLM.from_pretrained(tmp_path, from_pt=True)) == first.params[name]).all()
    assert (table(GPTNeoForCausalLM.from_pretrained(tmp_path)) == first.params[name]).all()
    assert (table(GPTNeoForCausalLM.from_pretrained(tmp_path, from_flax=True)) == second.params[name]).all()


def test_older_weights_of_another_format_are_named(tmp_path: Path) -> None:
    """They stay, since they may be all that there is of a model, and would be read instead of what was saved."""
    flax, model = FlaxGPTNeoForCausalLM(tiny_config()), tiny(GPTNeoForCausalLM)
    flax.save_pretrained(tmp_path)
    for save in (model.save_pretrained, partial(flax.save_pretrained, safe_serialization=True)):
        with pytest.warns(UserWarning, match=r"holds flax_model\.msgpack .* Remove it, or pass from_pt=True") as warned:
            save(tmp_path)
        assert warned[0].filename == __file__
    for name in ("model.safetensors", "flax_model.msgpack"):
        (tmp_path / name).unlink()
    (tmp_path / "pytorch_model.bin.index.json").write_text("{}")
    model.save_pretrained(tmp_path)  # is read before what is there
    with pytest.warns(UserWarning, match=r"holds model\.safetensors"):
        flax.save_pretrained(tmp_path)


def test_safetensors_under_the_names_of_flax(tmp_path: Path) -> None:
    """As transformers 4 wrote them with `safe_serialization=True`."""
    model = tiny(GPTNeoForCausalLM)
    model.config.save_pretrained(tmp_path)
    arrays = {name.replace("/", "."): np.array(leaf) for name, leaf in flatten(to_flax(model.params)).items()}
    assert arrays["transformer.h.0.mlp.c_fc.kernel"].shape == (12, 48)
    save_safetensors(arrays, tmp_path / "model.safetensors", {"format": "flax"})
    for cls in (GPTNeoForCausalLM, FlaxGPTNeoForCausalLM):
        loaded = cls.from_pretrained(tmp_path)
        params = from_flax(loaded.params) if cls is FlaxGPTNeoForCausalLM else loaded.params
        assert params.keys() == model.params.keys()
        for name, array in model.params.items():
            np.testing.assert_array_equal(params[name], array, strict=True)
    assert {(info.name, info.shape) for info in describe(tmp_path)} == {
        (name, array.shape) for name, array in model.params.items()
    }
    for more, message in [
        ({"x.kernel": np.ones(3)}, r"x/kernel: .* expected two dimensions"),
        ({"a/b": np.ones(3)}, "unexpected"),
    ]:
        save_safetensors(arrays | more, tmp_path / "model.safetensors", {"format": "flax"})
        with pytest.raises(CheckpointError, match=message):
            GPTNeoForCausalLM.from_pretrained(tmp_path)


def test_safe_serialization(tmp_path: Path) -> None:
    model = FlaxGPTNeoForCausalLM(tiny_config())
    model.save_pretrained(tmp_path, safe_serialization=True)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    ids = tokens(2, 5)
    assert_close(FlaxGPTNeoForCausalLM.from_pretrained(tmp_path)(ids).logits, model(ids).logits, "logits")


# Parameters -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", BOTH)
def test_initial_parameters(cls: Any) -> None:
    config = tiny_config(hidden_size=48, vocab_size=300, initializer_range=0.1)
    model = cls(config, seed=3)
    for name, array in flatten(model.params).items():
        kind = name.rpartition("/")[2]
        if kind in ("bias", "scale"):
            assert (array == (kind == "scale")).all(), name
        else:
            assert abs(array.std() - 0.1) < 0.01, name
        assert array.dtype == np.float32
    assert model.required_params == {tuple(name.split("/")) for name in flatten(model.params)}
    again = model.init_weights(3)
    assert all(
        (again[name] == array).all() for name, array in flatten(model.params).items() if (again := flatten(again))
    )


def test_missing_parameters_are_drawn() -> None:
    model = FlaxGPTNeoForCausalLM(tiny_config())
    given = flatten(model.init_weights(7))
    del given["transformer/h/1/mlp/c_fc/kernel"]
    filled = flatten(model.init_weights(8, params=unflatten(given)))
    assert filled.keys() == flatten(model.params).keys()
    assert all(filled[name] is array for name, array in given.items())


def test_params_are_checked() -> None:
    model = FlaxGPTNeoForCausalLM(tiny_config())
    flat = flatten(model.params)
    with pytest.raises(ValueError, match="params has no 'transformer/ln_f/scale'"):
        model.params = unflatten({name: array for name, array in flat.items() if name != "transformer/ln_f/scale"})
    with pytest.raises(ValueError, match="params has 'lm_head/kernel'"):
        model(tokens(1, 2), params=unflatten(flat | {"lm_head/kernel": flat["transformer/wte/embedding"].T}))
    name = "transformer/h/0/mlp/c_fc/kernel"
    with pytest.raises(ValueError, match=rf"{name}: received shape \(48, 12\), expected \(12, 48\)"):
        model.params = unflatten(flat | {name: flat[name].T})
    with pytest.raises(TypeError, match="params: received a list, expected nested dictionaries"):
        model.params = list(flat)


def test_without_initialisation(tmp_path: Path) -> None:
    model = FlaxGPTNeoForCausalLM(tiny_config(), _do_init=False)
    for use in (lambda: model.params, lambda: setattr(model, "params", {}), lambda: model(tokens(1, 2))):
        with pytest.raises(ValueError, match="made with _do_init=False"):
            use()
    params = model.init_weights(0)
    logits = model(tokens(1, 2), params=params).logits
    model.save_pretrained(tmp_path, params=params)
    loaded, loaded_params = FlaxGPTNeoForCausalLM.from_pretrained(tmp_path, _do_init=False)
    assert_close(loaded(tokens(1, 2), params=loaded_params).logits, logits, "logits")
    with pytest.raises(ValueError, match="made with _do_init=False"):
        _ = loaded.params


# Calls ----------------------------------------------------------------------------------------------------------------


def test_equals_the_other_classes() -> None:
    for flax_class, cls in [(FlaxGPTNeoModel, GPTNeoModel), (FlaxGPTNeoForCausalLM, GPTNeoForCausalLM)]:
        other = tiny(cls, "glgl")
        model = flax_class(other.config)
        model.params = to_flax(other.params)
        ids = tokens(2, 9)
        assert_close(model(ids)[0], other(ids)[0], flax_class.__name__)


def test_outputs() -> None:
    model = FlaxGPTNeoForCausalLM(tiny_config())
    cache = model.init_cache(2, 5)
    arguments = {"position_ids": np.arange(3)[None, :], "past_key_values": cache, "output_attentions": True}
    output = model(tokens(2, 3), **arguments)
    assert list(output) == ["logits", "past_key_values", "attentions"]
    assert [type(value) for value in model(tokens(2, 3), **arguments, return_dict=False)] == [np.ndarray, dict, tuple]
    before, after = flatten(cache), flatten(output.past_key_values)
    assert all((array == 0).all() for array in before.values())  # nothing is written into it
    assert [int(after[name]) for name in after if name.endswith("cache_index")] == [3, 3]


def test_dtype_is_for_computing() -> None:
    model = FlaxGPTNeoForCausalLM(tiny_config(), dtype=np.float64)
    assert model(tokens(1, 3)).logits.dtype == np.float64
    assert model.init_cache(1, 2)["transformer"]["h"]["0"]["attn"]["attention"]["cached_key"].dtype == np.float64
    assert model.params["transformer"]["wte"]["embedding"].dtype == np.float32
    half = FlaxGPTNeoForCausalLM(tiny_config(), dtype="float16")
    assert half(tokens(1, 3)).logits.dtype == np.float16
    with pytest.raises(ValueError, match="dtype"):
        FlaxGPTNeoForCausalLM(tiny_config(), dtype="int32")
    with pytest.raises(ValueError, match="bfloat16"):
        FlaxGPTNeoForCausalLM(tiny_config(), dtype="bfloat16")(tokens(1, 3))


def test_dropout_on_numpy() -> None:
    model = FlaxGPTNeoForCausalLM(tiny_config(resid_dropout=0.5))
    ids = tokens(2, 4)
    first, same, other = (model(ids, train=True, dropout_rng=seed).logits for seed in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).any()
    assert (model(ids, dropout_rng=1).logits == model(ids).logits).all()
    generator = np.random.default_rng(0)
    assert (model(ids, train=True, dropout_rng=generator)[0] != model(ids, train=True, dropout_rng=generator)[0]).any()
    with pytest.raises(ValueError, match="train=True needs dropout_rng"):
        model(ids, train=True)
    with pytest.raises(TypeError, match="dropout_rng: received a str"):
        model(ids, train=True, dropout_rng="1")
    with pytest.raises(TypeError, match=r"train: received a NoneType, expected True or False\. Pass .* by name"):
        model(ids, None, None, None, None, None, True)  # the order of transformers 4, which would be no dropout


WRONG_CALLS: list[tuple[dict[str, Any], str]] = [
    ({"input_ids": np.zeros(3, int)}, r"input_ids: received shape \(3,\)"),
    ({"input_ids": [[1, 2]]}, "input_ids: received a list"),
    ({"input_ids": np.full((1, 2), 19)}, "input_ids: received 19, expected 0 ... 18"),
    ({"input_ids": np.zeros((1, 25), int)}, "max_position_embeddings = 24"),
    ({"attention_mask": np.ones((2, 3))}, r"attention_mask: received shape \(2, 3\), expected \(2, 4\)"),
    ({"attention_mask": np.full((2, 4), 2)}, "attention_mask: received 2"),
    ({"position_ids": np.zeros((2, 3), int)}, r"position_ids: received shape \(2, 3\), expected \(2, 4\)"),
    ({"position_ids": np.full((2, 4), 24)}, "position_ids: received 24"),
    ({"past_key_values": "fresh"}, "Pass position_ids beside past_key_values"),
    ({"past_key_values": {}, "position_ids": np.zeros((2, 4), int)}, "past_key_values: transformer/h/0.* is not there"),
    ({"past_key_values": "short", "position_ids": np.zeros((2, 4), int)}, "0 of 3 positions are filled"),
    ({"past_key_values": "of three", "position_ids": np.zeros((2, 4), int)}, r"expected \(2, 6, 3, 4\)"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG_CALLS)
def test_wrong_calls(arguments: dict[str, Any], message: str) -> None:
    model = FlaxGPTNeoForCausalLM(tiny_config())
    caches = {"fresh": (2, 6), "short": (2, 3), "of three": (3, 6)}
    if isinstance(arguments.get("past_key_values"), str):
        arguments = arguments | {"past_key_values": model.init_cache(*caches[arguments["past_key_values"]])}
    with pytest.raises((ValueError, TypeError), match=message):
        model(**({"input_ids": tokens(2, 4)} | arguments))


@pytest.mark.parametrize("size", [(0, 5), (1, 0), (1, 25)])
def test_wrong_caches(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="init_cache: received batch_size"):
        FlaxGPTNeoForCausalLM(tiny_config()).init_cache(*size)
    with pytest.raises(TypeError, match=r"max_length 5\.0, expected ints"):
        FlaxGPTNeoForCausalLM(tiny_config()).init_cache(1, 5.0)


def test_numpy_needs_no_jax(tmp_path: Path) -> None:
    program = f"""
import sys
import numpy as np
from minineo import FlaxGPTNeoForCausalLM
model = FlaxGPTNeoForCausalLM.from_pretrained({str(GOLDEN / "flax_model")!r})
cache = model.init_cache(1, 4)
ids, positions = np.array([[1, 2]]), np.array([[0, 1]])
model(ids, np.ones((1, 4)), positions, past_key_values=cache, train=True, dropout_rng=1)
model.save_pretrained({str(tmp_path)!r})
assert not {{"jax", "flax", "msgpack", "torch"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# JAX ------------------------------------------------------------------------------------------------------------------


def on_jax(model: Any) -> Any:
    jax = require("jax")
    model.params = jax.tree.map(jax.numpy.asarray, model.params)
    return model


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["holes", "cache of the base model"])  # to compile takes seconds
def test_as_flax_computed_on_jax(golden: dict[str, np.ndarray], name: str) -> None:
    jax = require("jax")
    model = on_jax(model_of(CASES[name]))

    def call(inputs: dict[str, Any], cache: Any) -> Any:
        flags = {"output_attentions": True, "output_hidden_states": True}
        step = jax.jit(lambda params, inputs, cache: model(**inputs, params=params, past_key_values=cache, **flags))
        return step(model.params, inputs, cache)

    replay(model, call, CASES[name], below(golden, f"{name}/"))


@pytest.mark.oracle
def test_one_compiled_step_decodes_all_tokens() -> None:
    jax = require("jax")
    other = tiny(GPTNeoForCausalLM)
    model = FlaxGPTNeoForCausalLM(other.config)
    model.params = to_flax(other.params)
    on_jax(model)
    traced = []

    @jax.jit
    def step(params: Any, ids: Any, positions: Any, cache: Any) -> Any:
        traced.append(ids.shape)
        output = model(ids, position_ids=positions, params=params, past_key_values=cache)
        return output.logits, output.past_key_values

    ids = tokens(2, 8)
    cache, logits = model.init_cache(2, 10), []
    for t in range(8):
        row, cache = step(model.params, ids[:, t : t + 1], np.full((2, 1), t), cache)
        logits.append(row)
    assert len(traced) == 1
    assert_close(np.concatenate(logits, axis=1), other(ids).logits, "logits")


@pytest.mark.oracle
def test_gradients_are_those_written_by_hand() -> None:
    jax = require("jax")
    other = tiny(GPTNeoForCausalLM)
    model = FlaxGPTNeoForCausalLM(other.config)
    model.params = to_flax(other.params)
    on_jax(model)
    ids = tokens(2, 7)

    @jax.jit
    def loss(params: Any) -> Any:
        log_probabilities = jax.nn.log_softmax(model(ids, params=params).logits[:, :-1])
        return -jax.numpy.mean(jax.numpy.take_along_axis(log_probabilities, ids[:, 1:, None], axis=-1))

    expected_loss, expected = other.loss_and_grads(ids, labels=ids)
    value, grads = jax.value_and_grad(loss)(model.params)
    assert_close(value, expected_loss, "loss")
    flat = flatten(grads)
    theirs = flatten(to_flax(expected))
    assert flat.keys() == theirs.keys()
    for name, array in theirs.items():
        assert_close(flat[name], array, name)


@pytest.mark.oracle
def test_dropout_on_jax() -> None:
    jax = require("jax")
    model = on_jax(FlaxGPTNeoForCausalLM(tiny_config("l", embed_dropout=0.2)))
    like = model.params["transformer"]["ln_f"]["bias"]

    def mask(seed: int, name: str = "embed") -> np.ndarray:
        return np.asarray(masks_for(model.config, True, jax.random.key(seed), like)(name, (50, 100), like))

    assert set(np.unique(mask(1))) == {np.float32(0), np.float32(1.25)}
    assert abs(np.mean(mask(1)) - 1.0) < 0.05
    assert (mask(1) == mask(1)).all()
    assert (mask(1) != mask(2)).any()
    assert (mask(1) != mask(1, "h.0.embed")).any()
    assert masks_for(model.config, True, jax.random.key(1), like)("h.0.mlp.out", (2, 3), like) is None

    # traced, not compiled
    ids = tokens(2, 4)
    drawn = jax.make_jaxpr(lambda key: model(ids, train=True, dropout_rng=key).logits)(jax.random.key(1))
    assert "random_bits" in str(drawn)
    assert "random_bits" not in str(jax.make_jaxpr(lambda key: model(ids, dropout_rng=key).logits)(jax.random.key(1)))
    with pytest.raises(TypeError, match=r"dropout_rng: received a int, expected a key such as jax\.random\.key\(0\)"):
        model(ids, train=True, dropout_rng=1)


@pytest.mark.oracle
def test_libraries_on_jax() -> None:
    jax = require("jax")
    model = FlaxGPTNeoForCausalLM(tiny_config())
    with pytest.raises(TypeError, match="input_ids: received an array of jax"):
        model(jax.numpy.zeros((1, 2), int))
    assert isinstance(flatten(model.init_weights(jax.random.key(0)))["transformer/ln_f/bias"], jax.Array)
    assert (flatten(model.init_weights(jax.random.PRNGKey(1)))["transformer/wte/embedding"] != 0).all()
    half = FlaxGPTNeoForCausalLM(tiny_config(), dtype=jax.numpy.bfloat16, _do_init=False)
    params = jax.tree.map(jax.numpy.asarray, model.params)
    shape = jax.eval_shape(lambda params: half(tokens(1, 2), params=params).logits, params)
    assert (shape.shape, shape.dtype) == ((1, 2, 19), jax.numpy.bfloat16)
