"""The grammar, its spans, and a split in which a held-out composition is never trained on."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from data.shapes.scenes import KINDS, SPLITS, WORLDS, World, heldout_prompts, parse, sample_scene, vocabulary


def draw(world, n=400, split="train", seed=0):
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, world, split) for _ in range(n)]


@pytest.mark.parametrize("world", WORLDS)
def test_every_sampled_prompt_reads_back_as_the_same_scene_in_right_english(world):
    used = set()
    for scene in draw(world, 1000):
        assert parse(scene.prompt, world) == scene
        assert sum(thing.count for thing in scene.things) <= WORLDS[world].max_objects
        assert len({thing.key for thing in scene.things}) == len(scene.things)
        words = scene.prompt.replace(",", "").split()
        used.update(words)
        for article, following in pairwise(words):
            if article in ("a", "an"):
                assert (article == "an") == (following[0] in "aeiou"), scene.prompt
        assert all(scene.prompt[w.start : w.end] == w.text and w.kind in KINDS for w in scene.words)
        assert [w.start for w in scene.words] == sorted(w.start for w in scene.words)
        for word in scene.words:
            thing = scene.things[word.things[0]]
            plural = "crosses" if thing.shape == "cross" else thing.shape + "s"
            shape = plural if thing.count > 1 else thing.shape
            wanted = {"colour": thing.colour, "size": thing.size, "object": shape}
            assert word.text == wanted.get(word.kind, word.text), scene.prompt
            assert word.kind != "relation" or (scene.relation or "next") in word.text.split()
    assert used == set(vocabulary(world))  # every word occurs, and no other


@pytest.mark.parametrize("world", WORLDS)
def test_no_heldout_composition_stands_together_in_training(world):
    def together(scene):
        keys = [thing.key for thing in scene.things]
        return {tuple(sorted((a, b))) for a in keys for b in keys if a < b} or {tuple(keys)}

    seen = {split: set().union(*map(together, draw(world, 1500, split))) for split in SPLITS}
    pairs = {"train": {c for c in seen["train"] if len(c) > 1}}
    for split in ("validation", "heldout"):
        scenes = draw(world, 500, split, seed=1)
        assert all(scene.split == split for scene in scenes)
        pairs[split] = set().union(*(together(s) for s in scenes if len(s.things) == 2))
        assert not pairs[split] & seen["train"]


def test_the_small_world_mixes_singles_pairs_and_relations():
    kinds = Counter((len(scene.things), scene.relation is not None) for scene in draw("small", 1000))
    assert kinds[1, False] / 1000 == pytest.approx(0.15, abs=0.05)
    assert kinds[2, False] / 1000 == pytest.approx(0.35, abs=0.05)
    assert kinds[2, True] / 1000 == pytest.approx(0.50, abs=0.05)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a red circle above a blue square", "a blue square is below a red circle"),
        ("a red circle to the left of a blue square", "there is a blue square right of a red circle"),
        ("a red circle and a blue square", "an image of a blue square next to a red circle"),
        ("A Red  Circle with a blue square.", "a blue square and a red circle"),
    ],
)
def test_the_same_meaning_has_one_composition(one, other):
    assert parse(one).composition == parse(other).composition
    assert parse(one).split == parse(other).split


def test_a_relation_is_bound_to_both_things_and_small_words_are_not_scored():
    scene = parse("a large red circle is to the left of two blue crosses")
    assert [(w.text, w.kind, w.things) for w in scene.words] == [
        ("large", "size", (0,)), ("red", "colour", (0,)), ("circle", "object", (0,)),
        ("to the left of", "relation", (0, 1)),
        ("two", "count", (1,)), ("blue", "colour", (1,)), ("crosses", "object", (1,)),
    ]  # fmt: skip
    scene = parse("a red circle next to a blue star")  # which has no direction
    assert scene.near and scene.relation is None
    assert [w.text for w in scene.words] == ["red", "circle", "next to", "blue", "star"]
    assert [w.things for w in scene.words if w.kind == "relation"] == [(0, 1)]
    for other in ("a red circle and a blue star", "a red circle to the left of a blue star"):
        assert not parse(other).near


@pytest.mark.parametrize(
    ("prompt", "world", "part"),
    [
        ("", "large", "Write, for example"),
        ("a dog on a sofa", "large", "Colours: red"),
        ("a pink heart", "small", "small shapes world"),
        ("two red circle", "large", "mixes one and many"),
        ("a red circle and a red circle", "small", "twice"),
        ("two red circles and two blue stars", "large", "asks for 4 objects"),
        ("a red circle " * 100, "large", "not a sentence"),
        ("a red circle", "huge", "choose one of small, large"),
    ],
)
def test_what_is_no_sentence_is_refused_with_what_to_write(prompt, world, part):
    with pytest.raises(ValueError, match=part):
        parse(prompt, world)


def test_heldout_prompts_are_distinct_and_the_same_every_time():
    scenes = heldout_prompts(100, "small")
    assert len({scene.prompt for scene in scenes}) == 100
    assert scenes == heldout_prompts(100, "small")
    assert scenes[:20] == heldout_prompts(20, "small")
    assert {scene.split for scene in scenes} == {"heldout"}
    tiny = World("tiny", ("red", "blue"), ("circle",), (), (), (), 1)
    with pytest.raises(ValueError, match="ask for fewer"):
        heldout_prompts(100, tiny, "train")
    with pytest.raises(ValueError, match="more colours and shapes"):
        sample_scene(np.random.default_rng(0), tiny, "heldout")
