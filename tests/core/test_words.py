"""core/words.py: spans, kinds, sub-tokens of each text encoder, and prompts that cannot be used."""

import json

import pytest
import torch
from transformers import CLIPTokenizer

from core.words import Located, check_prompt, locate, scored, split, stored_units, units, weights

WORDS = ["a", "red", "circle", "above", "the", "blue", "star"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A stock CLIPTokenizer whose hand-made vocabulary has whole words only: merges build each from its letters."""
    folder, vocab, merges = (
        tmp_path_factory.mktemp("clip"),
        ["<|startoftext|>", "<|endoftext|>", "<|unk|>"],
        [],
    )
    for word in WORDS:
        built, letters = word[0] if len(word) > 1 else word + "</w>", list(word[1:-1]) + [word[-1] + "</w>"]
        vocab.append(built)
        for letter in letters if len(word) > 1 else []:
            merges.append(f"{built} {letter}")
            built += letter
            vocab += [letter, built]
    vocab = list(dict.fromkeys(vocab))
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocab)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(dict.fromkeys(merges)) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "unk_token": "<|unk|>", "model_max_length": 12})
    )
    return CLIPTokenizer.from_pretrained(folder, unk_token="<|unk|>", model_max_length=12)


class Prefix:
    """A tokenizer without offsets: words of three letters a token, framed by 1 and 2, unknown 3."""

    is_fast, unk_token_id, model_max_length = False, 3, 8

    def __call__(self, text, add_special_tokens=True):
        ids = []
        for word in text.split():
            ids += [3] if "?" in word else [10 + len(word[i : i + 3]) for i in range(0, len(word), 3)]
        return {"input_ids": [1, *ids, 2] if add_special_tokens else ids}


def test_spans_point_back_at_the_prompt_and_indices_follow_it():
    prompt = "A t-shirt, the dog's 2 red circles — Äpfel (naïve) 漢字 rock'n'roll -x- e\u0301t\u00e9"
    words = split(prompt)
    assert [w.text for w in words] == [
        "A", "t-shirt", "the", "dog's", "2", "red", "circles", "Äpfel", "naïve", "漢字", "rock'n'roll", "x",
        "e\u0301t\u00e9",
    ]  # fmt: skip
    assert all(prompt[w.start : w.end] == w.text for w in words)
    assert [w.index for w in words] == list(range(len(words)))


@pytest.mark.parametrize(
    "text, kind",
    [
        ("Orange", "colour"), ("PINK", "colour"), ("circles", "object"), ("heart", "object"), ("small", "size"),
        ("two", "count"), ("Three", "count"), ("3", "count"), ("above", "relation"), ("left", "relation"),
        ("under", "relation"), ("front", "relation"), ("of", "function"), ("to", "function"), ("an", "function"),
        ("on", "function"), ("It’s", "function"), ("picture", "function"), ("next", "function"), ("dog", "other"),
        ("running", "other"),
    ],
)  # fmt: skip
def test_each_word_has_its_kind_and_only_function_words_are_unscored(text, kind):
    (word,) = split(text)
    assert (word.kind, word.scored) == (kind, kind != "function")


def test_scored_keeps_the_words_that_carry_meaning():
    kept = scored(split("a picture of an orange circle to the left of two small stars"))
    assert [w.text for w in kept] == ["orange", "circle", "left", "two", "small", "stars"]


@pytest.mark.parametrize(
    "prompt", ["", "   ", None, 3, "x" * 2001, "a red\ncircle", "a\x00b", "a\x1bb", "\ud800"]
)
def test_a_prompt_that_cannot_be_used_is_refused_with_a_sentence(prompt):
    with pytest.raises(ValueError, match=r"^The prompt .*[:,].*\.$"):
        check_prompt(prompt)


def test_a_good_prompt_is_returned_as_it_is():
    assert check_prompt("  a red circle ${x} <img onerror=1> ") == "  a red circle ${x} <img onerror=1> "


def test_words_of_the_vocabulary_map_to_one_token_each(clip):
    prompt = "A red circle, above the star"
    places = locate(clip, prompt, split(prompt))
    assert places == [Located((i,), True, True) for i in (1, 2, 3, 5, 6, 7)]


def test_an_unknown_word_keeps_all_its_unknown_tokens_and_is_named_so(clip):
    prompt = "a zebu red star"
    places = locate(clip, prompt, split(prompt))
    assert places[1] == Located((2, 3, 4, 5), True, False)
    assert places[2] == Located((6,), True, True) and places[3] == Located((7,), True, True)


def test_the_end_token_is_not_taken_for_an_unknown_word(clip):
    clip_like_stock = type("Same", (), {"__call__": lambda s, *a, **k: clip(*a, **k), "is_fast": True})()
    clip_like_stock.unk_token_id, clip_like_stock.model_max_length = clip.eos_token_id, 12
    assert locate(clip_like_stock, "red star", split("red star"))[1] == Located((2,), True, True)


def test_words_past_the_window_are_not_seen_and_a_cut_word_is_not_seen_whole(clip):
    prompt = "a red circle above the blue star a red zebu blue"  # 10 places between the two special tokens
    places = locate(clip, prompt, split(prompt))
    assert places[8] == Located((9,), True, True)
    assert places[9] == Located((10,), False, False)
    assert places[10] == Located((), False, True)


def test_a_tokenizer_without_offsets_is_read_by_prefix():
    prompt = "a circle wh? red stars"
    assert locate(Prefix(), prompt, split("a circle wh  red stars")) == [
        Located((1,), True, True), Located((2, 3), True, True), Located((4,), True, False),
        Located((5,), True, True), Located((6,), False, True),
    ]  # fmt: skip


def test_weights_average_over_the_sub_tokens_and_are_zero_for_a_word_that_is_out():
    rows = weights([Located((1,), True, True), Located((2, 3), True, False), Located((), False, True)], 5)
    assert torch.equal(rows, torch.tensor([[0, 1, 0, 0, 0], [0, 0, 0.5, 0.5, 0], [0, 0, 0, 0, 0]]))


def test_after_the_words_stands_nothing_else():
    prompt = "a red circle"
    *words, last = units(prompt)
    assert words == split(prompt)
    assert (last.index, last.text, last.kind, last.scored) == (3, "nothing else", "extra", True)
    assert prompt[last.start : last.end] == "" and last.start == len(prompt)


def test_an_image_that_was_stored_before_there_was_nothing_else_has_the_words_alone():
    prompt = "a red circle"
    assert stored_units(prompt, 3) == split(prompt)
    assert stored_units(prompt, 4) == units(prompt)


def test_a_prompt_without_a_scored_word_has_no_unit_to_score():
    assert not scored(units("the and of"))
