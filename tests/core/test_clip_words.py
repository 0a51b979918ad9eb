"""core/words.py with the real vocabulary of CLIP, by tests/core/clip_words.py, which also counts over files of prompts."""

from core.words import locate, units
from data.prompts import load
from tests.core.clip_words import WINDOW, Count, check, clip_tokenizer

HARD = [
    "a photo of a cat",
    "two gentlemen's hats at 7:30, 1,000 m away: don't ask",
    "an étagère; a naïve übergeek's café №5",
    "a cat sitting to the left of a dog, with no collar and not a leash",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "日本語 text beside 🐈‍⬛ and a red–green ½ circle",
]


def test_the_tokens_are_those_of_the_published_model():
    assert clip_tokenizer()("a photo of a cat")["input_ids"] == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_no_sub_token_of_a_word_is_lost_or_shared():
    prompts = [*HARD, *load("shapes_heldout", 50)]
    assert check(prompts) == Count(prompts=len(prompts))


def test_the_window_of_77_tokens_ends_at_the_word_that_it_cuts():
    prompt = " ".join(["a strange and colourful hippopotamus beside"] * 14)
    places = locate(clip_tokenizer(), prompt, units(prompt)[:-1])
    seen = [place.seen for place in places]
    assert any(seen) and not all(seen) and seen == sorted(seen, reverse=True)
    assert max(token for place in places for token in place.tokens) <= WINDOW - 2
    assert check([prompt]) == Count(prompts=1, long=1)
