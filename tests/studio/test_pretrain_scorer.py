"""studio/pretrain_scorer.py: every truth that the small VLM learns from is what the detector sees too."""

import numpy as np
import pytest

from core.scoring.vlm import VLMScorer
from core.training.scorer_model import ScorerConfig
from core.words import scored, split
from data.shapes import scenes
from data.shapes.detect import judge
from data.shapes.scenes import WORLDS
from studio.pretrain_scorer import example, held_out, pretrain_scorer

TINY = ScorerConfig(image=32, patch=8, vision_width=16, vision_depth=1, width=32, depth=1, heads=2, feed=32)


@pytest.mark.parametrize(("wrong", "agreement"), [(False, 0.99), (True, 0.9)])
def test_truth_by_construction_is_what_the_detector_sees(wrong, agreement):
    same = []
    for i in range(25):
        made = example(i, WORLDS["small"], 3, wrong)
        for question in made.questions:
            scene = scenes.parse(question.prompt, "small")
            seen = judge(scene, made.image).words
            same += [(a >= 0.5) == (b >= 0.5) for a, b in zip(question.truths, seen, strict=True)]
    assert np.mean(same) >= agreement


def test_changed_prompts_are_training_compositions_with_right_and_wrong_words():
    truths = []
    for i in range(30):
        for question in example(i, WORLDS["small"], 0, False).questions:
            assert scenes.parse(question.prompt, "small").split == "train"
            assert len(question.truths) == len(scored(split(question.prompt)))
            truths += question.truths
    assert 0.3 < np.mean(np.array(truths) >= 0.5) < 0.85


def test_examples_are_functions_of_their_index_and_differ():
    one, again, other = (example(i, WORLDS["small"], 0, False) for i in (4, 4, 5))
    assert np.array_equal(one.image, again.image)
    assert one.questions == again.questions
    assert one.captions == again.captions
    assert not np.array_equal(one.image, other.image)


def test_the_first_questions_are_about_pictures_of_one_thing():
    for i in range(10):
        made = example(i, WORLDS["small"], 0, False, alone=1.0)
        assert len(made.places) == 1
        assert len(scenes.parse(made.questions[0].prompt, "small").things) == 1


def test_held_out_pictures_are_of_compositions_that_training_never_shows():
    assert {scenes.parse(e.questions[0].prompt, "small").split for e in held_out(20)} == {"heldout"}


def test_the_large_world_can_be_taught_too():
    for i in range(20):
        made = example(i, WORLDS["large"], 0, bool(i % 2))
        for question in made.questions:
            assert len(question.truths) == len(scored(split(question.prompt)))


def test_pretraining_saves_a_scorer_that_loads_and_goes_on_from_a_stop(tmp_path):
    options = {
        "work": tmp_path / "work",
        "steps": 4,
        "sight_steps": 1,
        "caption_steps": 1,
        "simple_steps": 1,
        "batch": 4,
        "config": TINY,
        "validate": 4,
    }
    seen = []
    result, figures = pretrain_scorer(
        tmp_path / "scorer", on_progress=seen.append, stop=lambda: len(seen) == 3, **options
    )
    assert result.stopped
    assert not (tmp_path / "scorer").exists()
    result, figures = pretrain_scorer(tmp_path / "scorer", on_progress=seen.append, **options)
    assert not result.stopped
    assert [p.step for p in seen] == [1, 2, 3, 4]
    assert set(figures) >= {"all", "colour", "object"}
    scorer = VLMScorer.load(tmp_path / "scorer")
    made = held_out(2)
    assert all(scorer.score([e.image for e in made], [e.questions[0].prompt for e in made]))
