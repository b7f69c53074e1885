"""Text in, text out."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import minineo
from minineo.text import left_padded


@pytest.fixture(scope="module")
def pair():
    return minineo.load()


def test_the_text_begins_with_the_prompt_and_a_seed_reproduces_it():
    text = minineo.generate("Once upon a time", max_new_tokens=20, temperature=0.8, seed=0)
    assert text.startswith("Once upon a time")
    assert len(text) > len("Once upon a time") + 20
    assert text == minineo.generate("Once upon a time", max_new_tokens=20, temperature=0.8, seed=0)
    assert text != minineo.generate("Once upon a time", max_new_tokens=20, temperature=0.8, seed=1)


def test_the_continuation_alone():
    whole = minineo.generate("The king said", max_new_tokens=10, seed=5)
    rest = minineo.generate("The king said", max_new_tokens=10, seed=5, return_full_text=False)
    assert whole == "The king said" + rest


def test_greedy_is_temperature_zero_and_do_sample_false():
    greedy = minineo.generate("In the forest", max_new_tokens=12, temperature=0)
    assert greedy == minineo.generate("In the forest", max_new_tokens=12, do_sample=False)


def test_a_list_gives_each_text_what_it_gets_alone():
    prompts = ["Once", "The king said to his daughter, who was", "It was a dark night"]
    together = minineo.generate(prompts, max_new_tokens=15, temperature=0)
    assert together == [minineo.generate(prompt, max_new_tokens=15, temperature=0) for prompt in prompts]
    assert minineo.generate(("Once",), max_new_tokens=2, seed=0) == [minineo.generate("Once", max_new_tokens=2, seed=0)]


def test_several_returned_sequences_come_prompt_by_prompt():
    texts = minineo.generate(["Once", "The king"], num_return_sequences=2, max_new_tokens=5, seed=0)
    assert [text[:3] for text in texts] == ["Onc", "Onc", "The", "The"]
    assert len(minineo.generate("Once", num_return_sequences=3, max_new_tokens=2, seed=0)) == 3


@pytest.mark.parametrize("prompt", ["Once upon a time", "", "🙂 你好", "It was "])
def test_the_stream_joined_is_the_continuation(prompt):
    pieces = list(minineo.stream(prompt, max_new_tokens=40, seed=2))
    assert "".join(pieces) == minineo.generate(prompt, max_new_tokens=40, seed=2, return_full_text=False)
    assert all(pieces)
    assert len(pieces) > 5


def test_an_empty_prompt_starts_a_text():
    assert len(minineo.generate("", max_new_tokens=10, seed=0)) > 10


def test_the_default_length_is_shortened_to_what_the_context_holds(pair):
    model, tokenizer = pair
    positions = model.config.max_position_embeddings
    prompt = "the " * (positions - 26)
    rest = minineo.generate(prompt, temperature=0, return_full_text=False)
    room = positions - len(tokenizer.encode(prompt))
    assert 0 < len(tokenizer.encode(rest)) <= room + 1  # encoding what was decoded can differ by a merge
    with pytest.raises(ValueError, match=f"{positions}"):
        minineo.generate(prompt, max_new_tokens=100)
    with pytest.raises(ValueError, match=f"{positions}"):
        minineo.generate("the " * (positions + 44))
    with pytest.raises(ValueError, match=f"{positions}"):
        minineo.stream("the " * (positions + 44))


def test_it_stops_at_the_end_token_and_leaves_it_out(pair):
    _, tokenizer = pair

    def end_third(ids, scores):
        """Make the end token certain once two tokens have come."""
        if ids.shape[1] < tokenizer("Once", return_tensors="np").input_ids.shape[1] + 2:
            return scores
        return np.where(np.arange(scores.shape[1]) == tokenizer.eos_token_id, scores, -np.inf).astype(scores.dtype)

    text = minineo.generate("Once", max_new_tokens=20, seed=0, logits_processor=end_third, return_full_text=False)
    assert len(tokenizer.encode(text)) <= 2
    assert "<|endoftext|>" not in text
    assert "".join(minineo.stream("Once", max_new_tokens=20, seed=0, logits_processor=end_third)) == text


def test_stop_strings_end_a_text():
    text = minineo.generate("The king said", max_new_tokens=100, seed=1, stop_strings=["."], return_full_text=False)
    assert text.count(".") == 1
    assert "".join(minineo.stream("The king said", max_new_tokens=100, seed=1, stop_strings=["."])) == text


def test_other_models_by_path_and_as_objects(tmp_path, pair):
    model, tokenizer = pair
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    expected = minineo.generate("Once", max_new_tokens=8, seed=0)
    assert minineo.generate("Once", max_new_tokens=8, seed=0, model=tmp_path) == expected
    assert minineo.generate("Once", max_new_tokens=8, seed=0, model=str(tmp_path)) == expected
    assert minineo.generate("Once", max_new_tokens=8, seed=0, model=model, tokenizer=tokenizer) == expected
    with pytest.raises(TypeError, match="tokenizer"):
        minineo.generate("Once", model=model)
    with pytest.raises(TypeError, match="expected a GPTNeoForCausalLM"):
        minineo.generate("Once", model=42, tokenizer=tokenizer)


def test_load_gives_a_model_of_ones_own():
    first, _ = minineo.load()
    before = minineo.generate("Once", max_new_tokens=5, seed=0)
    for array in first.params.values():
        array[...] = 0.0
    assert minineo.generate("Once", max_new_tokens=5, seed=0) == before


def test_load_dtype():
    model, _ = minineo.load(dtype="float16")
    assert model.dtype == np.float16
    assert minineo.load()[0].dtype == np.float32


@pytest.mark.parametrize("prompt", [7, None, ["a", 3], b"bytes"])
def test_a_prompt_that_is_no_text_is_a_type_error(prompt):
    with pytest.raises(TypeError, match="prompt"):
        minineo.generate(prompt)


def test_padding_never_shows():
    prompts = ["Once upon a time", "The"]
    texts = minineo.generate(prompts, stop_strings=["."], max_new_tokens=60, seed=0, return_full_text=False)
    assert all(text.count(".") <= 1 and "!" not in text for text in texts)
    beams = {"do_sample": False, "num_beams": 3, "num_return_sequences": 3, "stop_strings": [".", " a"]}
    assert len(minineo.generate("Once upon a time", eos_token_id=None, max_new_tokens=12, **beams)) == 3


@pytest.mark.parametrize("argument", ["attention_mask", "pad_token_id", "return_dict_in_generate", "streamer"])
def test_arguments_for_token_ids_are_refused_by_name(argument):
    for function in (minineo.generate, minineo.stream):
        with pytest.raises(TypeError, match=argument):
            function("Once", **{argument: 1})


def test_a_stream_is_one_text():
    with pytest.raises(ValueError, match="num_return_sequences"):
        minineo.stream("Once", num_return_sequences=2)


def test_other_errors():
    with pytest.raises(ValueError, match="empty list"):
        minineo.generate([])
    with pytest.raises(TypeError, match="temperature"):
        minineo.generate("Once", temprature=0.5)
    with pytest.raises(ValueError, match="'tpu'"):
        minineo.load(device="tpu")
    with pytest.raises(TypeError, match="lists"):
        minineo.stream(["Once"])
    with pytest.raises(FileNotFoundError, match="no/such/place"):
        minineo.load("no/such/place")


def test_left_padding(pair):
    _, tokenizer = pair
    ids, mask = left_padded([[1, 2, 3], [4]], tokenizer)
    end = tokenizer.eos_token_id
    assert ids.tolist() == [[1, 2, 3], [end, end, 4]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_the_example_of_hugging_faces_documentation_runs(tmp_path, pair):
    model, tokenizer = pair
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    path, prompt = tmp_path, "In a shocking finding, scientists discovered a herd of unicorns"

    from minineo import GPT2Tokenizer, GPTNeoForCausalLM

    model = GPTNeoForCausalLM.from_pretrained(path)
    tokenizer = GPT2Tokenizer.from_pretrained(path)
    input_ids = tokenizer(prompt, return_tensors="np").input_ids
    tokens = model.generate(input_ids, do_sample=True, temperature=0.9, max_length=100)
    text = tokenizer.batch_decode(tokens)[0]
    assert text.startswith(prompt)
    assert tokens.shape[1] <= 100


def test_the_public_names_are_documented():
    for name in minineo.__all__:
        assert inspect.getdoc(getattr(minineo, name)), name
