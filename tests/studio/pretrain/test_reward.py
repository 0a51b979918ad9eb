"""studio/pretrain/reward.py: what the reward model learns to read from is true of the pictures."""

import numpy as np
import pytest
import torch

from core import checkpoint
from core.networks.reward import RewardModel
from core.words import split
from data.shapes.detect import detect, judge
from data.shapes.render import render
from data.shapes.scenes import parse
from studio.pretrain.renders import example_scene
from studio.pretrain.reward import places_of, pretrain_reward, questions


def test_the_truth_of_a_question_is_what_the_detector_sees_in_the_render():
    same = []
    for i in range(25):
        image = render(example_scene(i, "small"), i).image
        for prompt, truths in questions(i, "small"):
            scene = parse(prompt, "small")
            seen = judge(scene, image).words
            index = {(word.start, word.end): word.index for word in split(prompt)}
            for word, value in zip(scene.words, seen, strict=True):
                same.append((truths[index[word.start, word.end]] >= 0.5) == (value >= 0.5))
    assert np.mean(same) >= 0.99


def test_places_are_where_the_detector_finds_the_things():
    places = places_of(12, "small")
    for i in range(12):
        found = detect(render(example_scene(i, "small"), i).image)
        there = places.kinds[i, :, 0] >= 0
        assert len(found) == int(there.sum())
        for x, y in places.at[i][there].tolist():
            assert any(abs(x - o.x) < 0.06 and abs(y - o.y) < 0.06 for o in found)


def test_pretraining_saves_a_reward_model_and_goes_on_from_a_stop(model_folder, tmp_path):
    seen: list = []
    options = {
        "count": 12,
        "steps": 4,
        "sight_steps": 2,
        "batch": 4,
        "validate": 4,
        "on_progress": seen.append,
    }
    places = (tmp_path / "out", tmp_path / "work", model_folder / "diffuser")
    result, _ = pretrain_reward(*places, **options, stop=lambda: len(seen) == 3)
    assert result.stopped and not (tmp_path / "out").exists()
    result, figures = pretrain_reward(*places, **options)
    assert [p.step for p in seen] == [1, 2, 3, 4]
    assert figures["all"]["words"] > 0 and 0 <= figures["all"]["auc"] <= 1
    model = checkpoint.load(RewardModel, tmp_path / "out")
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    with pytest.raises(ValueError, match="make more"):  # renders beside those that judge
        pretrain_reward(*places, **{**options, "count": 4})
