"""A checkpoint's names matched with a model's: nothing missed, nothing left over, in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from minineo.checkpoints import BFLOAT16, CheckpointError, match, read_state_dict, save_state_dict

V, D = 7, 4
BASE = {
    "wte.weight": (V, D),
    "wpe.weight": (8, D),
    "h.0.attn.attention.q_proj.weight": (D, D),
    "h.0.attn.attention.out_proj.weight": (D, D),
    "h.0.attn.attention.out_proj.bias": (D,),
    "ln_f.weight": (D,),
}
PREFIXED = {f"transformer.{name}": shape for name, shape in BASE.items()}
TIED = {"lm_head.weight": "transformer.wte.weight"}
HEADS = {
    "causal": {"lm_head.weight": (V, D)},
    "sequence": {"score.weight": (2, D)},
    "token": {"classifier.weight": (2, D), "classifier.bias": (2,)},
    "question": {"qa_outputs.weight": (2, D), "qa_outputs.bias": (2,)},
}


def state_of(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def assert_params(params: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """The very arrays, not copies, in the order of the model."""
    assert list(params) == list(expected)
    assert all(params[name] is array for name, array in expected.items())


@pytest.mark.parametrize("stored", [BASE, PREFIXED], ids=["bare", "prefixed"])
@pytest.mark.parametrize("expected", [BASE, PREFIXED], ids=["base", "head"])
def test_with_and_without_the_prefix(stored: dict, expected: dict) -> None:
    state = state_of(stored)
    params, missing, unused = match(state, expected, source="here")
    assert_params(params, dict(zip(expected, state.values(), strict=True)))
    assert missing == unused == []


def test_parameters_come_in_the_order_of_the_model() -> None:
    state = state_of(dict(reversed(PREFIXED.items())))
    assert list(match(state, BASE, source="here").params) == list(BASE)


def test_mask_buffers_are_dropped() -> None:
    state = state_of(PREFIXED)
    state["transformer.h.0.attn.attention.bias"] = np.ones((1, 1, 8, 8), np.uint8)
    state["transformer.h.0.attn.attention.masked_bias"] = np.array(-1e9, np.float32)
    state["h.11.attn.attention.masked_bias"] = np.array(-1e9, np.float32)
    params, missing, unused = match(state, PREFIXED, source="here")
    assert list(params) == list(PREFIXED)
    assert missing == unused == []


@pytest.mark.parametrize(
    "name",
    [
        "h.0.attn.attention.out_proj.biases",
        "h.x.attn.attention.bias",
        "h.0.attn.attention.bias.more",
        "x.h.0.attn.attention.bias",
        "attn.attention.bias",
    ],
)
def test_nothing_else_is_taken_for_a_mask_buffer(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"tensor '{name}': unexpected"):
        match(state_of(BASE) | {name: np.zeros(D)}, BASE, source="here")


@pytest.mark.parametrize("stored", HEADS)
@pytest.mark.parametrize("wanted", HEADS)
def test_one_head_into_another(stored: str, wanted: str) -> None:
    state = state_of(PREFIXED | HEADS[stored])
    params, missing, unused = match(state, PREFIXED | HEADS[wanted], source="here")
    assert missing == ([] if stored == wanted else list(HEADS[wanted]))
    assert unused == ([] if stored == wanted else list(HEADS[stored]))
    kept = [*PREFIXED, *(HEADS[wanted] if stored == wanted else ())]
    assert_params(params, {name: state[name] for name in kept})


@pytest.mark.parametrize("stored", HEADS)
def test_a_head_into_the_base_and_back(stored: str) -> None:
    state = state_of(PREFIXED | HEADS[stored])
    params, missing, unused = match(state, BASE, source="here")
    assert (list(params), missing, unused) == (list(BASE), [], list(HEADS[stored]))

    params, missing, unused = match(state_of(BASE), PREFIXED | HEADS[stored], source="here")
    assert (list(params), missing, unused) == (list(PREFIXED), list(HEADS[stored]), [])


# Tied embeddings


def test_tied_without_a_head_in_the_checkpoint() -> None:
    params, missing, unused = match(state_of(PREFIXED), PREFIXED, source="here", tied=TIED)
    assert (list(params), missing, unused) == (list(PREFIXED), [], [])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BFLOAT16])
def test_tied_with_an_equal_head(dtype: np.dtype) -> None:
    state = {name: np.ones(shape, np.uint16).view(BFLOAT16) for name, shape in PREFIXED.items()}
    if dtype != BFLOAT16:
        state = {name: array.astype(dtype) for name, array in state_of(PREFIXED).items()}
    state["lm_head.weight"] = state["transformer.wte.weight"].copy()
    params, missing, unused = match(state, PREFIXED, source="here", tied=TIED)
    assert_params(params, {name: state[name] for name in PREFIXED})
    assert missing == unused == []


@pytest.mark.parametrize("row", [0, 2047, 2999])
def test_tied_with_a_head_that_differs_keeps_both(row: int) -> None:
    shapes = PREFIXED | {"transformer.wte.weight": (3000, D)}
    state = state_of(shapes)
    state["lm_head.weight"] = state["transformer.wte.weight"].copy()
    state["lm_head.weight"][row, -1] += 1
    message = "here: the configuration ties lm_head.weight to transformer.wte.weight, but .* different values"
    with pytest.warns(UserWarning, match=message):
        params, missing, unused = match(state, shapes, source="here", tied=TIED)
    assert_params(params, {name: state[name] for name in (*shapes, "lm_head.weight")})
    assert missing == unused == []


def test_tied_with_the_head_only() -> None:
    state = state_of(PREFIXED)
    state["lm_head.weight"] = state.pop("transformer.wte.weight")
    params, missing, unused = match(state, PREFIXED, source="here", tied=TIED)
    assert list(params) == list(PREFIXED)
    assert params["transformer.wte.weight"] is state["lm_head.weight"]
    assert missing == unused == []


def test_tied_with_a_head_of_the_wrong_shape() -> None:
    state = state_of(PREFIXED | {"lm_head.weight": (V + 1, D)})
    with pytest.raises(CheckpointError, match=r"'lm_head.weight': shape \(8, 4\), expected \(7, 4\)"):
        match(state, PREFIXED, source="here", tied=TIED)


# Errors


def test_a_missing_weight() -> None:
    state = state_of(PREFIXED)
    del state["transformer.h.0.attn.attention.q_proj.weight"]
    message = r"^here: tensor 'transformer\.h\.0\.attn\.attention\.q_proj\.weight': missing, expected shape \(4, 4\)$"
    with pytest.raises(CheckpointError, match=message):
        match(state, PREFIXED | HEADS["token"], source="here")


@pytest.mark.parametrize("name", ["wtf.weight", "transformer.lm_head.weight", "transformer.transformer.wte.weight"])
def test_an_unexpected_weight(name: str) -> None:
    for expected in (BASE, PREFIXED, PREFIXED | HEADS["causal"]):
        with pytest.raises(
            CheckpointError, match=f"^here: tensor '{name}': unexpected, the model has no such parameter$"
        ):
            match(state_of(PREFIXED) | {name: np.zeros((V, D), np.float32)}, expected, source="here")


def test_a_weight_of_the_wrong_shape() -> None:
    state = state_of(PREFIXED | {"transformer.wpe.weight": (D, 8)})
    with pytest.raises(
        CheckpointError, match=r"^here: tensor 'transformer.wpe.weight': shape \(4, 8\), expected \(8, 4\)$"
    ):
        match(state, BASE, source="here")


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.bool_, np.complex64])
def test_a_weight_that_is_not_floating(dtype: type) -> None:
    state = state_of(BASE) | {"ln_f.weight": np.ones(D, dtype)}
    message = f"^here: tensor 'ln_f.weight': dtype {np.dtype(dtype)}, expected a floating-point one$"
    with pytest.raises(CheckpointError, match=message):
        match(state, BASE, source="here")


def test_the_same_weight_with_and_without_the_prefix() -> None:
    state = state_of(PREFIXED | {"wte.weight": (V, D)})
    with pytest.raises(CheckpointError, match=r"tensor 'wte.weight': found twice, expected once"):
        match(state, PREFIXED, source="here")


def test_all_problems_at_once() -> None:
    state = state_of({f"x{i}": (1,) for i in range(5)} | {"wte.weight": (D, V)})
    with pytest.raises(CheckpointError) as caught:
        match(state, BASE, source="here")
    lines = str(caught.value).splitlines()
    assert lines[0] == "here does not fit the model, 11 problems:"
    assert len(lines) == 12
    assert lines[1] == "  here: tensor 'x0': unexpected, the model has no such parameter"
    assert lines[6] == "  here: tensor 'wte.weight': shape (4, 7), expected (7, 4)"
    assert lines[10] == "  here: tensor 'h.0.attn.attention.out_proj.bias': missing, expected shape (4,)"
    assert lines[11] == "  ... and 1 more"


def test_the_shard_is_named(tmp_path: Path) -> None:
    save_state_dict(state_of(BASE | {"ln_f.weight": (D + 1,)}), tmp_path, max_shard_size=300)
    shards = sorted(path.name for path in tmp_path.glob("model-*"))
    with pytest.raises(CheckpointError) as caught:
        match(read_state_dict(tmp_path), BASE, source=str(tmp_path))
    assert len(shards) > 1
    assert str(caught.value) == f"{tmp_path / shards[-1]}: tensor 'ln_f.weight': shape (5,), expected (4,)"
