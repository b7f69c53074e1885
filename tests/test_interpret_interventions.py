"""Ablation against models with the parts cut out of their parameters; patching where all or nothing is patched."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from interpreted_models import ODD, by_hand, make, odd
from tiny_models import tiny, tokens

from minineo import interpret
from minineo.classes import GPTNeoForCausalLM
from minineo.interpret.patching import SITES
from minineo.tap import Recorder

# Ablation -------------------------------------------------------------------------------------------------------------


def without_head(model: GPTNeoForCausalLM, layer: int, head: int, mean: np.ndarray | None = None) -> GPTNeoForCausalLM:
    """The model with the head's columns of out_proj gone, and what it writes on average, if given, in the bias."""
    params, d = dict(model.params), model.config.head_size
    at = f"transformer.h.{layer}.attn.attention.out_proj"
    own = slice(head * d, (head + 1) * d)
    weight = params[f"{at}.weight"].copy()
    if mean is not None:
        params[f"{at}.bias"] = params[f"{at}.bias"] + weight[:, own] @ mean
    weight[:, own] = 0.0
    return GPTNeoForCausalLM(model.config, params | {f"{at}.weight": weight})


def without_mlp(model: GPTNeoForCausalLM, layer: int, mean: np.ndarray | None = None) -> GPTNeoForCausalLM:
    at = f"transformer.h.{layer}.mlp.c_proj"
    bias = np.zeros(model.config.hidden_size) if mean is None else mean
    cut = {f"{at}.weight": np.zeros_like(model.params[f"{at}.weight"]), f"{at}.bias": bias}
    return GPTNeoForCausalLM(model.config, dict(model.params) | cut)


@pytest.mark.parametrize("metric", ["loss", "logit", "logit difference"])
@pytest.mark.parametrize("kind", ["zero", "mean", "mean of other texts"])
@pytest.mark.parametrize("name", sorted(ODD))
def test_against_models_without_the_part(name, kind, metric):
    model, ids = odd(name), tokens(3 if metric == "loss" else 1, 7)
    other = tokens(2, 9, seed=1)
    arguments = {"loss": {}, "logit": {"target": 3, "position": 4}, "logit difference": {"target": 3, "against": 5}}

    def measured(one: GPTNeoForCausalLM) -> float:
        if metric == "loss":
            return float(one(ids, labels=ids).loss)
        logits = one(ids).logits[0]
        return float(logits[4, 3] if metric == "logit" else logits[-1, 3] - logits[-1, 5])

    reference = other if kind == "mean of other texts" else None
    found = interpret.ablation_scores(model, ids, kind.split()[0], reference=reference, **arguments[metric])
    assert (found.metric, found.kind) == (metric, kind.split()[0])
    assert found.clean == pytest.approx(measured(model), rel=1e-12)
    trace = Recorder()
    model(ids if reference is None else reference, tap=trace)
    L, H = model.config.num_layers, model.config.num_heads
    assert (found.heads.shape, found.mlps.shape) == ((L, H), (L,))
    for i in range(L):
        z, out = trace[f"h.{i}.attn.z"].mean(axis=(0, 2)), trace[f"h.{i}.mlp.out"].mean(axis=(0, 1))
        cut = without_mlp(model, i, None if kind == "zero" else out)
        assert found.mlps[i] == pytest.approx(measured(cut) - measured(model), abs=1e-12)
        for h in range(H):
            cut = without_head(model, i, h, None if kind == "zero" else z[h])
            assert found.heads[i, h] == pytest.approx(measured(cut) - measured(model), abs=1e-12)


def test_the_induction_head_made_by_hand_is_what_predicts():
    """It writes the token that it finds, which takes both heads: the second one through the first."""
    model = by_hand(2)
    make(model, 0, "previous token")
    make(model, 1, "induction")
    found = interpret.ablation_scores(model, [0, 3, 1, 5, 2, 0], target=3, against=5)
    assert found.clean > 0.1
    # token 3 came after token 0, and token 5 did not; without the first head the second one moves both
    assert found.heads[1, 0] == pytest.approx(-found.clean, rel=1e-5)
    assert found.heads[0, 0] == pytest.approx(-found.clean, rel=1e-2)
    assert (found.mlps == 0).all()


@pytest.mark.parametrize("kind", ["zero", "mean"])
@pytest.mark.parametrize("name", sorted(ODD))
def test_several_heads_are_taken_out_together(name, kind):
    model, ids, other = odd(name), tokens(3, 7), tokens(2, 9, seed=1)
    heads = [(i, h) for i in range(model.config.num_layers) for h in range(model.config.num_heads)][::2]
    trace = Recorder()
    model(other, tap=trace)
    cut = model
    for i, h in heads:
        mean = trace[f"h.{i}.attn.z"].mean(axis=(0, 2))[h]
        cut = without_head(cut, i, h, mean if kind == "mean" else None)
    edits = interpret.without_heads(model, other, heads, kind)
    np.testing.assert_allclose(model(ids, edits=edits).logits, cut(ids).logits, rtol=0, atol=1e-12)
    whole = model(ids, edits=interpret.without_heads(model, other, [], kind))
    np.testing.assert_array_equal(whole.logits, model(ids).logits)


def test_without_heads_as_found_by_numpy_in_generated_text():
    """NumPy's argwhere gives pairs in an array, and a mean of the prompt's positions is there for a new token, too."""
    model, ids = odd(sorted(ODD)[0]), tokens(1, 5)
    everywhere = np.ones((model.config.num_layers, model.config.num_heads))
    edits = interpret.without_heads(model, ids, np.argwhere(everywhere), "mean")
    cached = model.generate(ids, max_new_tokens=4, do_sample=False, edits=edits)
    again = model.generate(ids, max_new_tokens=4, do_sample=False, edits=edits, use_cache=False)
    np.testing.assert_array_equal(cached, again)


@pytest.mark.parametrize("heads", [(0, 1), [(0, 1, 2)], 3, "01"])
def test_heads_that_are_no_pairs(heads):
    with pytest.raises(TypeError, match="expected pairs of a layer and a head"):
        interpret.without_heads(by_hand(1), [1, 2], heads)


def test_heads_that_there_are_not():
    model = by_hand(2)
    with pytest.raises(ValueError, match="heads, layer: received 2, expected an int in 0 "):
        interpret.without_heads(model, [1, 2], [(2, 0)])
    with pytest.raises(ValueError, match="heads, head: received -1"):
        interpret.without_heads(model, [1, 2], [(0, -1)])
    with pytest.raises(ValueError, match="kind: received 'average'"):
        interpret.without_heads(model, [1, 2], [(0, 0)], kind="average")


def test_wrong_ablations():
    model = tiny(GPTNeoForCausalLM)
    with pytest.raises(ValueError, match="kind: received 'resample', expected one of 'zero', 'mean'"):
        interpret.ablation_scores(model, [1, 2], kind="resample")
    with pytest.raises(ValueError, match="one token has no loss"):
        interpret.ablation_scores(model, [1])
    with pytest.raises(ValueError, match="against: received 3 without a target"):
        interpret.ablation_scores(model, [1, 2], against=3)
    with pytest.raises(ValueError, match=r"shape \(2, 4\), expected the tokens of one text"):
        interpret.ablation_scores(model, tokens(2, 4), target=1)
    with pytest.raises(ValueError, match=r"reference: received 19, expected 0 \.\.\. 18"):
        interpret.ablation_scores(model, [1, 2], "mean", reference=[19])


# Patching -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", sorted(ODD))
def test_each_run_of_a_grid_by_an_edit_of_one_value(name, site):
    model, clean, corrupted = odd(name), tokens(1, 5), tokens(1, 5, seed=1)
    found = interpret.activation_patching(model, clean, corrupted, 3, 5, site)
    L, across = model.config.num_layers, model.config.num_heads if site == "z" else 5
    assert found.raw.shape == found.normalised.shape == (L, across)

    def difference(logits: np.ndarray) -> float:
        return float(logits[0, -1, 3] - logits[0, -1, 5])

    trace = Recorder()
    assert found.clean == pytest.approx(difference(model(clean, tap=trace).logits), rel=1e-12)
    assert found.corrupted == pytest.approx(difference(model(corrupted).logits), rel=1e-12)
    for i, j in itertools.product(range(L), range(across)):
        place = PLACES[site].replace("h.1", f"h.{i}")
        if site == "resid_pre" and i > 0:
            place = f"h.{i - 1}.resid_post"

        def one_value(name: str, value: np.ndarray, place: str = place, j: int = j) -> np.ndarray:
            if name == place:
                value = value.copy()
                value[:, j] = trace[place][:, j]
            return value

        assert found.raw[i, j] == pytest.approx(difference(model(corrupted, tap=one_value).logits), abs=1e-12)
    span = found.clean - found.corrupted
    np.testing.assert_allclose(found.normalised, (found.raw - found.corrupted) / span, rtol=1e-12)


def test_sites_are_where_their_names_say():
    """Under TransformerLens' names the same things as under the names of intermediates."""
    model, clean, corrupted = odd("untied"), tokens(1, 5), tokens(1, 5, seed=1)
    grids = {site: interpret.activation_patching(model, clean, corrupted, 3, site=site).raw for site in SITES}
    np.testing.assert_array_equal(grids["resid_pre"][1:], grids["resid_post"][:-1])
    trace = Recorder()
    model(clean, tap=trace)
    for site, name in PLACES.items():
        edits = {name: lambda value, name=name: np.concatenate([trace[name][:, :1], value[:, 1:]], axis=1)}
        found = float(model(corrupted, edits=edits).logits[0, -1, 3])
        assert grids[site][0 if name == "embed" else 1, 0] == pytest.approx(found, abs=1e-12)
    assert set(PLACES) == set(SITES)


PLACES = {
    "resid_pre": "embed",
    "resid_mid": "h.1.resid_mid",
    "resid_post": "h.1.resid_post",
    "attn_out": "h.1.attn.out",
    "mlp_out": "h.1.mlp.out",
    "z": "h.1.attn.z",
}


def test_the_one_position_that_differs_restores_everything():
    model, clean = tiny(GPTNeoForCausalLM, "glg", dtype=np.float64), tokens(1, 7)
    corrupted = clean.copy()
    corrupted[0, 2] += 1
    found = interpret.activation_patching(model, clean, corrupted, 4)
    assert found.normalised[0, 2] == pytest.approx(1.0, abs=1e-12)  # all that differs, before anything has read it
    assert found.normalised[0, [0, 1, 3, 4, 5, 6]] == pytest.approx(0.0, abs=1e-12)
    last = interpret.activation_patching(model, clean, corrupted, 4, site="resid_post")
    assert last.normalised[2, :6] == pytest.approx(0.0, abs=1e-12)
    assert last.normalised[2, 6] == pytest.approx(1.0, abs=1e-12)  # all that the head reads


def test_what_comes_after_the_position_that_is_read_changes_nothing():
    model, clean, corrupted = odd("untied"), tokens(1, 6), tokens(1, 6, seed=1)
    found = interpret.activation_patching(model, clean, corrupted, 3, position=2)
    assert (found.raw[:, 3:] == found.corrupted).all()
    assert (found.normalised[:, 3:] == 0).all()
    assert found.raw[0, 1] != found.corrupted


def test_progress_is_shown_on_request(capsys):
    model = tiny(GPTNeoForCausalLM)
    interpret.activation_patching(model, [1, 2], [3, 2], 4)
    interpret.ablation_scores(model, [1, 2])
    assert capsys.readouterr().err == ""
    interpret.activation_patching(model, [1, 2], [3, 2], 4, progress=True)
    assert "4/4" in capsys.readouterr().err
    interpret.ablation_scores(model, [1, 2], progress=True)
    assert "8/8" in capsys.readouterr().err


def test_wrong_prompts():
    model = tiny(GPTNeoForCausalLM)
    with pytest.raises(ValueError, match=r"clean_ids have 3 tokens and corrupted_ids 2.*Choose words with as many"):
        interpret.activation_patching(model, [1, 2, 3], [1, 2], 4)
    with pytest.raises(ValueError, match="nothing to restore"):
        interpret.activation_patching(model, [1, 2], [1, 2], 4)
    with pytest.raises(ValueError, match=r"site: received 'q', expected one of 'resid_pre', .* 'z'"):
        interpret.activation_patching(model, [1, 2], [3, 2], 4, site="q")
    with pytest.raises(ValueError, match="corrupted_ids: received 19"):
        interpret.activation_patching(model, [1, 2], [1, 19], 4)
    with pytest.raises(ValueError, match="target: received 40"):
        interpret.activation_patching(model, [1, 2], [3, 2], 40)
