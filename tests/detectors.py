"""Detectors of the mistakes that ports of GPT-Neo have made.

Each takes `neo`, which makes models: `neo.GPTNeoConfig` and the five classes, as `minineo.classes` has them. It raises
AssertionError where the port has the mistake. None needs another implementation to compare with: they rest on numbers
worked out by hand, on what must not change, and on plain loops (`by_hand`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import by_hand
import numpy as np
from detector_tools import (
    PAD,
    PADDINGS,
    assert_as_by_hand,
    assert_close,
    changed,
    generate,
    ids_of,
    left_padded,
    load,
    must_refuse,
    must_work,
    shapes,
    tiny,
    tiny_config,
)


def local_window_is_used(neo: Any) -> None:
    """On a text longer than the window, the first token does not reach what lies behind it."""
    model, ids = tiny(neo, "GPTNeoModel", "l"), ids_of(12)
    other = ids.copy()
    other[0, 0] = 1 + other[0, 0] % 18
    found = changed(model(ids).last_hidden_state, model(other).last_hidden_state)
    assert not any(found[4:]), f"window 4, yet the first token changes positions {[i for i in range(12) if found[i]]}"
    assert_as_by_hand(tiny(neo, "GPTNeoModel", "gl"), ids[0].tolist())


def window_ends_where_it_should(neo: Any) -> None:
    """One local layer sees distance window - 1 and not distance window, in one pass and with the cache."""
    for window in (1, 2, 4):
        model, ids = tiny(neo, "GPTNeoModel", "l", window_size=window), ids_of(10)
        other = ids.copy()
        other[0, 2] = 1 + other[0, 2] % 18
        results = []
        for tokens in (ids, other):
            whole = model(tokens).last_hidden_state
            with must_work("continuing the cache"):
                cache, pieces = None, []
                for t in range(10):
                    output = model(tokens[:, t : t + 1], past_key_values=cache)
                    cache = output.past_key_values
                    pieces.append(output.last_hidden_state)
            assert_close(np.concatenate(pieces, axis=1), whole, f"window {window}, token by token")
            results.append(whole)
        expected = [2 <= i < 2 + window for i in range(10)]
        assert changed(*results) == expected, f"window {window}: {changed(*results)}"


def scores_are_not_scaled(neo: Any) -> None:
    """Probabilities of layer 0, worked out by hand: q = k = the normalised input, here rows of 1 and -1."""
    config = tiny_config(neo, "g", hidden_size=4, num_heads=1, vocab_size=2, layer_norm_epsilon=0.0)
    params = {name: np.zeros(shape, np.float32) for name, shape in shapes(neo, "GPTNeoModel", config).items()}
    params["wte.weight"][:] = [[1, -1, 1, -1], [1, 1, -1, -1]]
    params["h.0.ln_1.weight"][:] = 0.5
    for name in ("q", "k"):
        params[f"h.0.attn.attention.{name}_proj.weight"][:] = np.eye(4)
    model = neo.GPTNeoModel(config, params)
    pattern = model(np.array([[0, 1, 1]]), output_attentions=True).attentions[0][0, 0]
    one = np.exp(1.0)  # a row times itself: 4 * 0.5 * 0.5; the two rows times each other: 0
    assert_close(pattern, [[1, 0, 0], [1 / (1 + one), one / (1 + one), 0], np.array([1, one, one]) / (1 + 2 * one)])


def attention_types_are_expanded(neo: Any) -> None:
    """The run-length notation, written out."""
    vectors = [
        ([[["global", "local"], 12]], ["global", "local"] * 12),
        ([[["global"], 2], [["local"], 1]], ["global", "global", "local"]),
        ([[["local", "local", "global"], 2]], ["local", "local", "global"] * 2),
        ([[["global", "local"], 1], [["global"], 3]], ["global", "local", "global", "global", "global"]),
    ]
    for attention_types, expected in vectors:
        with must_work(f"expanding {attention_types}"):
            config = neo.GPTNeoConfig(attention_types=attention_types, num_layers=len(expected))
        assert config.attention_layers == expected, f"{attention_types} gives {config.attention_layers}"


def attention_is_causal(neo: Any) -> None:
    """A text's beginning is worth the same whatever follows: in one pass, and where several tokens go on a cache."""
    model, ids = tiny(neo, "GPTNeoModel", "gl"), ids_of(11)
    whole = model(ids).last_hidden_state
    for T in (1, 4, 10):
        assert_close(model(ids[:, :T]).last_hidden_state, whole[:, :T], f"the first {T} of 11 tokens")
        cache = model(ids[:, :T]).past_key_values
        assert_close(model(ids[:, T:], past_key_values=cache).last_hidden_state, whole[:, T:], f"the rest after {T}")


def files_are_read_strictly(neo: Any) -> None:
    """Every tensor arrives as it is in the file, and one that has another name is an error that names it."""
    model = tiny(neo, "GPTNeoForCausalLM")
    loaded = load(neo, "GPTNeoForCausalLM", model.config, model.params)
    for name, array in model.params.items():
        assert np.array_equal(loaded.params[name], array), f"{name} differs from the file"
    name = "transformer.h.1.attn.attention.q_proj.weight"
    params = {key.replace("attn.attention.q", "attn.q") if key == name else key: a for key, a in model.params.items()}
    must_refuse(lambda: load(neo, "GPTNeoForCausalLM", model.config, params), name)


def weights_are_not_transposed(neo: Any) -> None:
    """Square weights, where a transposition raises no error."""
    model = tiny(neo, "GPTNeoModel", "g", intermediate_size=12)
    assert_as_by_hand(load(neo, "GPTNeoModel", model.config, model.params), [1, 5, 2, 7])


def padding_on_the_left_changes_nothing(neo: Any) -> None:
    """0, 1, 3 and 8 tokens of padding: the same logits, and the same continuation."""
    model, ids = tiny(neo, "GPTNeoForCausalLM", "gl"), ids_of(6)
    logits = model(ids).logits
    scores = generate(model, {"input_ids": ids})
    for padding in PADDINGS:
        inputs = left_padded(ids, padding)
        assert_close(model(**inputs).logits[:, padding:], logits, f"logits after {padding} of padding")
        del inputs["position_ids"]  # generate derives them from the mask
        assert_close(generate(model, inputs), scores, f"generation after {padding} of padding")


def cache_and_padding_agree(neo: Any) -> None:
    """A padded batch, piece by piece: as in one pass, and in generation, as without a cache."""
    model, T = tiny(neo, "GPTNeoForCausalLM", "glgl"), 8
    rows = [left_padded(ids_of(T - padding, seed=padding), padding) for padding in (0, 3, 5)]
    inputs = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    whole, mask = model(**inputs).logits, inputs["attention_mask"]
    for cuts in ([0, 7, T], [0, 6, 7, T], [0, 2, T], [0, 1, 2, 3, 4, 5, 6, 7, T]):
        cache = None
        for start, stop in pairwise(cuts):
            now = {name: inputs[name][:, start:stop] for name in ("input_ids", "position_ids")}
            with must_work("continuing a padded batch"):
                output = model(**now, attention_mask=mask[:, :stop], past_key_values=cache)
            cache = output.past_key_values
            real = mask[:, start:stop] == 1
            assert_close(output.logits[real], whole[:, start:stop][real], f"positions {start} to {stop} of {cuts}")
    prompt = {"input_ids": inputs["input_ids"], "attention_mask": mask}
    assert_close(generate(model, prompt, use_cache=True), generate(model, prompt, use_cache=False), "generation")


def mask_is_low_enough(neo: Any) -> None:
    """Scores of -1e6 for what may be seen: what is masked must still count for nothing."""
    model, ids = tiny(neo, "GPTNeoModel", "gl", hidden_size=4, num_heads=1), ids_of(9)
    for i in range(2):
        # each query is the opposite of its own key, and ones in the bias make all of them alike
        model.params[f"h.{i}.ln_1.bias"] = np.full(4, 10.0, np.float32)
        model.params[f"h.{i}.attn.attention.q_proj.weight"] = -50.0 * np.eye(4, dtype=np.float32)
        model.params[f"h.{i}.attn.attention.k_proj.weight"] = 50.0 * np.eye(4, dtype=np.float32)
    for layer, pattern in enumerate(model(ids, output_attentions=True).attentions):
        i, j = np.indices((9, 9))
        hidden = (j > i) | ((i - j >= 4) & (layer == 1))
        assert np.max(pattern[0, 0][hidden]) == 0.0, f"layer {layer} looks at masked positions"
    padding = left_padded(ids, 3)
    pattern = model(**padding, output_attentions=True).attentions[0]
    assert np.max(pattern[0, 0, 3:, :3]) == 0.0, "layer 0 looks at padding"


def scores_do_not_overflow(neo: Any) -> None:
    """Weights in float16 and scores beyond 65504, the largest number there."""
    model = tiny(neo, "GPTNeoModel", "gl", dtype=np.float16)
    for i in range(2):
        for name in ("q", "k"):
            model.params[f"h.{i}.attn.attention.{name}_proj.weight"] *= np.float16(300.0)
    with np.errstate(over="ignore", invalid="ignore"):
        output = model(ids_of(9), output_attentions=True)
    assert np.isfinite(output.last_hidden_state).all(), "scores overflow in float16"
    assert all(np.isfinite(pattern).all() for pattern in output.attentions), "scores overflow in float16"


def tied_head_may_be_absent(neo: Any) -> None:
    """A tied head is in some files and not in others; either way it is the token embedding."""
    model, ids = tiny(neo, "GPTNeoForCausalLM"), ids_of(7)
    embedding = model.params["transformer.wte.weight"]
    output = model(ids, output_hidden_states=True)
    logits = output.logits
    assert_close(logits, output.hidden_states[-1] @ embedding.T, "logits of a tied head")
    for extra in ({}, {"lm_head.weight": embedding.copy()}):
        with must_work(f"reading with {list(extra)}"):
            loaded = load(neo, "GPTNeoForCausalLM", model.config, model.params | extra)
        assert_close(loaded(ids).logits, logits, f"read with {list(extra)}")
    untied = tiny(neo, "GPTNeoForCausalLM", tie_word_embeddings=False)
    loaded = load(neo, "GPTNeoForCausalLM", untied.config, untied.params)
    output = loaded(ids, output_hidden_states=True)
    assert_close(output.logits, output.hidden_states[-1] @ untied.params["lm_head.weight"].T, "an untied head")


def mask_buffers_are_dropped(neo: Any) -> None:
    """Old files hold the causal mask beside the weights; new ones do not. Both give the same model."""
    model, ids = tiny(neo, "GPTNeoForCausalLM"), ids_of(7)
    buffers = {}
    for i in range(2):
        at = f"transformer.h.{i}.attn.attention"
        buffers[f"{at}.bias"] = np.tril(np.ones((1, 1, 24, 24), np.uint8))
        buffers[f"{at}.masked_bias"] = np.array(-1e9, np.float32)
    for extra in ({}, buffers):
        with must_work(f"reading with {len(extra)} buffers"):
            loaded = load(neo, "GPTNeoForCausalLM", model.config, model.params | extra)
        assert loaded.params.keys() == model.params.keys()
        assert_close(loaded(ids).logits, model(ids).logits, f"read with {len(extra)} buffers")


def mlp_has_its_own_width(neo: Any) -> None:
    """`intermediate_size` of 3 times the hidden size, of an odd number, and None, which is 4 times."""
    for width in (36, 7, None):
        assert_as_by_hand(tiny(neo, "GPTNeoModel", "g", intermediate_size=width), [3, 1, 4])


def gelu_is_the_tanh_form(neo: Any) -> None:
    """The default activation, where the two forms differ most: an MLP that only applies it, to numbers worked out."""
    config = tiny_config(neo, "g", hidden_size=4, num_heads=1, intermediate_size=4)
    params = {name: np.zeros(shape, np.float32) for name, shape in shapes(neo, "GPTNeoModel", config).items()}
    params["h.0.mlp.c_fc.bias"][:] = [-2.0, -0.5, 0.5, 2.0]
    params["h.0.mlp.c_proj.weight"][:] = np.eye(4)
    params["ln_f.weight"][:] = 1.0
    acts = [-0.045402, -0.154286, 0.345714, 1.954598]  # exact gelu: -0.045500, -0.154269, 0.345731, 1.954500
    expected = by_hand.normalise(acts, [1.0] * 4, [0.0] * 4, 1e-5)
    found = neo.GPTNeoModel(config, params)(np.array([[1]])).last_hidden_state[0, 0]
    assert np.max(np.abs(found - expected)) < 2e-6, f"{found} instead of {expected}"
    assert_as_by_hand(tiny(neo, "GPTNeoModel", "g"), [3, 1, 4])


def layer_norm_epsilon_counts(neo: Any) -> None:
    """Nearly constant rows, whose variance is no larger than epsilon."""
    for epsilon in (1e-5, 1e-3, 1e-7):
        # in float64, since a difference of nearly equal float32 numbers has few digits left
        model = tiny(neo, "GPTNeoModel", "g", dtype=np.float64, layer_norm_epsilon=epsilon)
        for name in ("wte.weight", "wpe.weight"):
            model.params[name] = 1.0 + np.sqrt(epsilon) * model.params[name]
        assert_as_by_hand(model, [3, 1, 4, 2])


def last_position_is_the_last(neo: Any) -> None:
    """2048 positions: lengths 2047 and 2048 work, 2049 is an error that says so, in every way to get there."""
    model = tiny(neo, "GPTNeoForCausalLM", "l", hidden_size=2, num_heads=1, max_position_embeddings=2048)
    ids = ids_of(2049)
    with must_work("a text of 2047 or 2048 tokens"):
        cache = model(ids[:, :2047], logits_to_keep=1).past_key_values
        whole = model(ids[:, :2048], logits_to_keep=1)
        last = model(ids[:, 2047:2048], past_key_values=cache)
        tokens = model.generate(ids[:, :2047], max_new_tokens=1)
    assert_close(last.logits, whole.logits, "position 2047 by way of the cache")
    assert tokens.shape == (1, 2048)
    must_refuse(lambda: model(ids), "2049", "2048")
    must_refuse(lambda: model(ids[:, 2048:], past_key_values=last.past_key_values), "2049", "2048")
    must_refuse(lambda: model(ids[:, :1], position_ids=np.array([[2048]])), "2048")
    must_refuse(lambda: model.generate(ids[:, :2047], max_new_tokens=2), "2047", "2048")
    must_refuse(lambda: model.generate(ids, max_new_tokens=1), "2049", "2048")


def classifier_reads_the_last_token(neo: Any) -> None:
    """Padding on the left and on the right, and the padding id inside the text: the logits of the text alone."""
    model = tiny(neo, "GPTNeoForSequenceClassification", "gl", pad_token_id=PAD, num_labels=3)
    alone = tiny(neo, "GPTNeoForSequenceClassification", "gl", num_labels=3)
    text = ids_of(6)
    inside = text.copy()
    inside[0, [1, 3]] = PAD
    for ids in (text, inside):
        expected = alone(ids).logits
        for padding in PADDINGS:
            assert_close(model(**left_padded(ids, padding)).logits, expected, f"{padding} of padding on the left")
            right = np.concatenate([ids, np.full((1, padding), PAD)], axis=1)
            assert_close(model(right).logits, expected, f"{padding} of padding on the right")


def numbers_stay_float32(neo: Any) -> None:
    """Every intermediate, every output, the loss and the cache."""
    wrong: set[str] = set()

    def see(name: str, value: np.ndarray) -> np.ndarray:
        if value.dtype != np.float32:
            wrong.add(name)
        return value

    for activation in ("gelu_new", "gelu", "gelu_fast", "relu", "silu", "tanh"):
        model, ids = tiny(neo, "GPTNeoForCausalLM", "gl", activation_function=activation), ids_of(6)
        output = model(ids, np.ones_like(ids), labels=ids, output_hidden_states=True, output_attentions=True, tap=see)
        for name, value in output.items():
            for array in value if isinstance(value, tuple) else [value]:
                for part in [a for pair in array for a in pair] if name == "past_key_values" else [array]:
                    see(name, part)
        see("scores", generate(model, {"input_ids": ids}))
    assert not wrong, f"not float32: {sorted(wrong)}"
