"""Words against a tagger that knows nothing of our lists."""

import pytest

from tests.core.tagging import overlooked, without_relation

PROMPTS = (
    "a photo of a brown dog to the left of two blue vases",
    "An old stone bridge over a narrow river, 35mm film, golden hour",
    "three green apples in a wooden bowl next to a can of beans",
    "the cat's tail hangs down from the side of a wicker basket",
    "a well-lit kitchen with stainless-steel pans on every wall",
    "a five-year-old girl, 1.2 metres tall, holding a kite against the wind",
    "oil painting of a lighthouse in a storm, dramatic clouds above the sea",
    "a snowman without a hat between a red sledge and a bare tree",
    "the sign says 'NO PARKING' in white letters on a black board",
    "futuristic city seen from far away, neon lights, rain, night",
    "close-up portrait of an elderly fisherman, wrinkled face, soft light",
    "a small robot standing on top of a stack of books at a desk",
    "two people side by side in front of a bakery, one of them laughing",
    "a glass of water, half full, beside an open window",
    "an aerial photograph of a winding road through autumn woods",
)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_noun_adjective_number_and_relation_of_a_prompt_is_scored(prompt):
    assert list(overlooked(prompt)) == []


def test_words_that_are_not_scored_are_listed():
    assert list(overlooked("a picture of a dog")) == ["picture"]  # it opens the prompt


def test_prompts_without_a_relation_are_listed():
    assert without_relation(PROMPTS[:3] + ("a red dog",)) == ["a red dog"]
