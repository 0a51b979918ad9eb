"""Comparing a pair: what is made is stored before it is shown, can be made again, and stops when it is asked to."""

import json
import threading

import numpy as np
import pytest
from PIL import Image

from core import checkpoint
from studio.errors import sentence
from studio.studio import check_request
from tests.tiny import SIZE, STEPS, change_settings

PROMPT = "a red circle above a blue square"


def request(**changes):
    return check_request(**{"prompt": PROMPT, "seeds": "1, 2", "steps": STEPS, **changes})


def compare(studio, stop=None, **changes):
    return list(studio.comparison.compare(request(**changes), stop))


def pixels(view):
    return np.asarray(Image.open(view.image_path))


def test_a_pair_is_made_stored_scored_and_told_step_by_step(studio):
    updates = compare(studio)
    assert [u.stage for u in updates] == ["encode", *["denoise"] * (STEPS + 1), "decode", "score", "done"]
    steps = [u for u in updates if u.previews]
    assert [(u.step, u.total) for u in steps] == [(i + 1, STEPS) for i in range(STEPS)]
    assert all(len(u.previews) == 2 and u.previews[0][1].shape == (SIZE // 8, SIZE // 8, 3) for u in steps)
    pairs = updates[-1].pairs
    assert [pair.seed for pair in pairs] == [1, 2]
    for pair in pairs:
        assert (pair.none.method, pair.projected.method) == ("none", "projected")
        assert not np.array_equal(pixels(pair.none), pixels(pair.projected))
        for view in (pair.none, pair.projected):
            scored = [w for w in view.words if w.scored]
            assert [w.text for w in scored] == ["red", "circle", "above", "blue", "square", "nothing else"]
            assert all(0 <= w.vlm <= 9 and 0 <= w.expected <= 9 and w.score == w.vlm for w in scored)
            assert 0 <= view.total <= 9
            assert all(w.vlm is None for w in view.words if not w.scored)


def test_every_sample_is_in_the_store_when_it_is_first_shown(studio):
    for update in studio.comparison.compare(request()):
        for pair in update.pairs:
            for view in (pair.none, pair.projected):
                row = studio.store.samples.get(view.id)
                assert (studio.settings.home / row["image_path"]).is_file()


def test_a_row_and_its_picture_say_how_to_make_the_image_again(studio):
    view = compare(studio)[-1].pairs[0].projected
    row = studio.store.samples.get(view.id)
    told = json.loads(Image.open(view.image_path).text["studio"])
    for name in (
        "prompt",
        "seed",
        "steps",
        "guidance",
        "method",
        "strength",
        "projector_run",
        "backbone_revision",
    ):
        assert told[name] == row[name]
    again = studio.comparison.compare(
        check_request(row["prompt"], row["seed"], row["steps"], row["guidance"], row["strength"])
    )
    same = list(again)[-1].pairs[0].projected
    assert np.abs(pixels(view).astype(int) - pixels(same)).max() <= 1
    assert studio.store.runs.get(row["projector_run"])["checkpoint_sha256"] == checkpoint.digest(
        studio.settings.projector
    )


def test_making_the_same_comparison_again_adds_nothing(studio):
    first = compare(studio)[-1].pairs
    studio.annotation.correct(first[0].none.id, 1, 3, "Ann")
    second = compare(studio)[-1].pairs
    assert [p.none.id for p in first] == [p.none.id for p in second]
    assert studio.store.samples.count() == 4
    assert second[0].none.words[1].human == 3


def test_strength_0_is_no_projection_bit_for_bit(studio):
    pair = compare(studio, strength=0)[-1].pairs[0]
    assert np.array_equal(pixels(pair.none), pixels(pair.projected))
    rows = [studio.store.samples.get(view.id) for view in (pair.none, pair.projected)]
    assert rows[0]["noise_sha256"] == rows[1]["noise_sha256"]
    assert (rows[1]["method"], rows[1]["strength"]) == ("projected", 0.0)


def test_a_comparison_stops_after_the_step_it_is_in_and_keeps_nothing_half_made(studio):
    stop, seen = threading.Event(), []
    for update in studio.comparison.compare(request(steps=30), stop):
        seen.append(update)
        if update.step == 1:
            stop.set()
    assert seen[-1].stage == "stopped"
    assert max(u.step for u in seen) < 30
    assert studio.store.samples.count() == 0


def test_an_iterator_that_is_given_up_lets_the_next_comparison_in(studio):
    updates = studio.comparison.compare(request(steps=30))
    next(updates)
    updates.close()
    assert compare(studio)[-1].stage == "done"


def test_the_image_size_can_be_chosen(studio):
    view = compare(studio, width=72, height=80, seeds=5)[-1].pairs[0].none
    assert pixels(view).shape == (80, 72, 3)


def test_without_a_projector_the_comparison_has_one_side_and_says_why(without_projector):
    last = compare(without_projector)[-1]
    assert last.stage == "done"
    assert "no projector yet" in last.message
    assert all(pair.projected is None and pair.none.total is not None for pair in last.pairs)


def test_a_damaged_projector_is_a_sentence_and_the_rest_goes_on(studio, tmp_path):
    import shutil

    broken = tmp_path / "projector"
    shutil.copytree(studio.settings.projector, broken)
    weights = next(broken.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    change_settings(studio, projector=broken)
    last = compare(studio)[-1]
    assert last.stage == "done"
    assert "damaged" in last.message
    assert "damaged" in studio.status()["projector_problem"]


def test_words_that_the_model_never_saw_are_named(studio):
    words = studio.comparison.describe_words("a red zebra above a blue square")
    assert [w.text for w in words if not w.known] == ["zebra"]
    last = compare(studio, prompt="a red zebra", seeds=1)[-1]
    assert last.stage == "done"
    assert "zebra" in last.message


def test_words_past_the_window_are_named(studio):
    *words, last = studio.comparison.describe_words("a red circle and " * 30 + "a blue square")
    assert [w.seen for w in words][:3] == [True] * 3
    assert not words[-1].seen
    assert last.kind == "extra" and last.seen  # of the whole prompt, something is always read


def test_a_missing_backbone_is_a_sentence_that_says_how_to_make_it(studio, tmp_path):
    from studio.studio import Studio
    from tests.tiny import settings_at

    empty = Studio(settings_at(tmp_path / "home", tmp_path / "no models"))
    with pytest.raises(ValueError, match="pretrain diffuser") as found:
        list(empty.comparison.compare(request()))
    assert "Traceback" not in sentence(found.value)
    assert empty.status()["ready"] is False


def test_an_unexpected_error_is_not_shown_to_the_user(caplog):
    assert "RuntimeError" in sentence(RuntimeError("secret path /root"))
    assert "secret" not in sentence(RuntimeError("secret path /root"))
    assert "memory" in sentence(RuntimeError("CUDA out of memory"))


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("一只红色的猫", "without spaces"),
        ("赤い猫", "without spaces"),
        ("(red:1.3) ball", "':1.3' is syntax of other tools"),
    ],
)
def test_a_comparison_says_which_words_cannot_be_told_apart_or_are_syntax(studio, prompt, says):
    assert says in compare(studio, prompt=prompt, seeds="1")[-1].message
