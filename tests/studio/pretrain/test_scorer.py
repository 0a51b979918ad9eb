"""studio/pretrain/scorer.py: every truth that the small VLM learns from is what the detector sees too."""

import numpy as np
import pytest
import torch

from core.scoring.vlm import VLMScorer
from core.training.scorer_model import ScorerConfig
from core.words import scored, units
from data.shapes import scenes
from data.shapes.bodies import Body, truths_of
from data.shapes.detect import judge
from data.shapes.regions import SHAPES
from data.shapes.scenes import WORLDS
from data.shapes.truth import COLOURS
from studio.pretrain import scorer as module
from studio.pretrain.scorer import (
    Pictures,
    autoencoder,
    captions,
    direction,
    example,
    held_out,
    picture,
    places_of,
    pretrain_scorer,
    relations,
    shares,
    through,
)

TINY = ScorerConfig(image=32, patch=8, vision_width=16, vision_depth=1, width=32, depth=1, heads=2, feed=32)
SMALL = WORLDS["small"]


def made(index, world=SMALL, **options):
    return example(picture(index, world, 3), world, np.random.default_rng(index), **options)


def body(colour, shape, x=0.5, y=0.5, seen=1.0):
    return Body(
        tuple(float(c == colour) for c in COLOURS), tuple(float(s == shape) for s in SHAPES), x, y, 0.15, seen
    )


def test_truth_by_construction_is_what_the_detector_sees():
    same = {}
    for i in range(80):
        shown = picture(i, SMALL, 3)
        scene = scenes.parse(shown.prompt, "small")
        words, alone = truths_of(scene, shown.bodies)
        seen = judge(scene, shown.image)
        for word, a, b in zip(scene.words, words, seen.words, strict=True):
            same.setdefault(word.kind, []).append((a >= 0.5) == (b >= 0.5))
        same.setdefault("extra", []).append((alone >= 0.5) == (seen.extra == 0))
    for kind, agree in same.items():
        assert np.mean(agree) >= 0.9, kind


def test_changed_prompts_are_training_compositions_with_right_and_wrong_words():
    truths = {}
    for i in range(60):
        for question in made(i).questions:
            assert scenes.parse(question.prompt, "small").split == "train"
            words = scored(units(question.prompt))
            for word, truth in zip(words, question.truths, strict=True):
                truths.setdefault(word.kind, []).append(truth >= 0.5)
    assert set(truths) == {"colour", "object", "relation", "extra"}
    for kind, holds in truths.items():
        assert 0.2 < np.mean(holds) < 0.85, kind


def test_examples_are_functions_of_their_index_and_differ_and_the_first_ones_are_about_one_thing():
    one, again, other = (made(i) for i in (4, 4, 5))
    assert np.array_equal(one.image, again.image)
    assert (one.questions, one.captions) == (again.questions, again.captions)
    assert not np.array_equal(one.image, other.image)
    single = [question for i in range(10) for question in made(i, single=True).questions]
    assert {len(scenes.parse(question.prompt, "small").things) for question in single} == {1}
    assert {scenes.parse(e.questions[0].prompt, "small").split for e in held_out(20)} == {"heldout"}
    for question in [question for i in range(15) for question in made(i, WORLDS["large"]).questions]:
        assert len(question.truths) == len(scored(units(question.prompt)))


def test_the_last_questions_ask_for_the_order_of_two_things_both_ways():
    shown, asked = [picture(i, SMALL, 3) for i in range(40)], []
    for i in range(40):
        known = relations(shown[i:], SMALL, np.random.default_rng(i))
        assert known.mapped
        if not all(None in question.truths for question in known.questions):
            continue
        for question in known.questions:
            kinds = [word.kind for word in scored(units(question.prompt))]
            (given,) = [truth for truth in question.truths if truth is not None]
            assert question.truths.index(given) == kinds.index("relation")
            asked.append(given)
        assert len({scenes.parse(question.prompt).things[0] for question in known.questions}) == 2
    assert len(asked) > 20 and 0.35 < np.mean(np.array(asked) >= 0.5) < 0.55


def test_descriptions_name_what_is_there_and_where():
    def said(*bodies):
        return dict(captions(bodies, np.random.default_rng(0)))

    two = said(body("red", "circle", 0.2, 0.3), body("blue", "star", 0.8, 0.32))
    assert (two["describe"], two["count"]) == ("red circle 2 3 , blue star 8 3", "2")
    assert said() == {"describe": "nothing", "count": "0"}
    assert said(body("red", "circle", seen=0.1))["count"] == "0"
    for x, y, words in (
        (0.1, 0.5, "left"),
        (0.5, 0.1, "above"),
        (0.1, 0.2, "left above"),
        (0.8, 0.9, "below right"),
    ):
        assert direction(body("red", "star", x, y), body("blue", "star")) == words


def test_pictures_are_made_once_a_block_and_half_of_them_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 6)
    first = list(map(Pictures(SMALL, 0, tmp_path, Halves()).__getitem__, range(6)))
    assert len(list(tmp_path.glob("*.npz"))) == 1
    monkeypatch.setattr(module, "picture", None)  # nothing is drawn again
    again = list(map(Pictures(SMALL, 0, tmp_path, Halves()).__getitem__, range(6)))
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.image, b.image)
        assert (a.prompt, a.bodies) == (b.prompt, b.bodies)
    drawn = [picture(i, SMALL, 0).image for i in range(6)]
    assert [np.array_equal(a.image, b) for a, b in zip(first, drawn, strict=True)] == [False, True] * 3
    (decoded,) = through(Halves(), drawn[2][None], np.random.default_rng(0))
    assert decoded.shape == drawn[2].shape and decoded.dtype == np.uint8
    assert np.abs(decoded.astype(float) - drawn[2]).mean() < 25  # it keeps its looks
    assert autoencoder(None) is None
    with pytest.raises(ValueError, match="pretrain vae"):
        autoencoder(tmp_path)


def test_pretraining_saves_a_scorer_that_loads_and_goes_on_from_a_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 10)
    steps = dict.fromkeys(("relation_steps", "sight_steps", "caption_steps", "simple_steps"), 1)
    options = {
        "work": tmp_path / "work",
        "steps": 3,
        **steps,
        "batch": 4,
        "pictures": 10,
        "config": TINY,
        "validate": 4,
    }
    folder, seen = tmp_path / "scorer", []
    options["on_progress"] = seen.append
    result, figures = pretrain_scorer(folder, **options, stop=lambda: len(seen) == 3)
    assert result.stopped and not folder.exists()
    result, figures = pretrain_scorer(folder, **options)
    assert not result.stopped and [p.step for p in seen] == [1, 2, 3, 4]
    assert set(figures) >= {"all", "colour", "object", "extra"}
    assert set(figures["order"]) == {"true", "opposite", "exchanged", "across"}
    scorer, shown = VLMScorer.load(folder), held_out(2)
    assert all(scorer.score([e.image for e in shown], [e.questions[0].prompt for e in shown], least=0))


def test_a_things_place_is_where_it_is_seen_once():
    shown = (body("red", "circle", 0.2, 0.3), body("blue", "star", 0.8, 0.32), body("blue", "star", 0.5, 0.9))
    things = scenes.parse("a red circle left of a blue star").things
    assert places_of(things, shown, SMALL) == ((0.2, 0.3), None)
    assert places_of(scenes.parse("two red circles").things, shown, SMALL) == (None,)
    known = [question for i in range(20) for question in made(i).questions]
    assert 0.2 < np.mean([place is not None for question in known for place in question.places]) < 0.9


def test_what_a_place_shows_is_shared_between_words_and_sums_to_1():
    assert shares(body("red", "star")) == {"red": 0.5, "star": 0.5}
    half = Body((0.5, *[0.0] * 7), (0.0, 0.5, 0.5, 0.0, 0.0, 0.0), 0.5, 0.5, 0.1, 0.8)
    assert shares(half) == pytest.approx(
        {COLOURS[0]: 0.2, "mixed": 0.2, SHAPES[1]: 0.2, SHAPES[2]: 0.2, "nothing": 0.2}
    )
    for i in range(20):
        for one in picture(i, SMALL, 0).bodies:
            assert sum(shares(one).values()) == pytest.approx(1)


class Halves:
    """An autoencoder that keeps pictures at a quarter of their size."""

    def encode(self, pixels):
        small = torch.nn.functional.avg_pool2d(pixels, 8)
        latents = torch.cat([small, small[:, :1]], 1)
        return type("", (), {"latent_dist": type("", (), {"mean": latents})})

    def decode(self, latents):
        return type("", (), {"sample": torch.nn.functional.interpolate(latents[:, :3], scale_factor=8)})
