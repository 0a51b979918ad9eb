"""Comparing a pair: what is made is stored before it is shown, can be made again, and stops when it is asked to."""

import json
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from core import checkpoint
from studio.errors import sentence
from studio.studio import Studio, check_request
from tests.tiny import SIZE, STEPS, change_settings, settings_at

PROMPT = "a red circle above a blue square"


def request(**changes):
    return check_request(**{"prompt": PROMPT, "seeds": "1, 2", "steps": STEPS, **changes})


def compare(studio, stop=None, **changes):
    return list(studio.comparison.compare(request(**changes), stop))


def pixels(view):
    return np.asarray(Image.open(view.image_path))


def test_a_pair_is_made_stored_scored_and_told_step_by_step(studio):
    updates = []
    for update in studio.comparison.compare(request()):
        updates.append(update)
        for view in [view for pair in update.pairs for view in (pair.none, pair.projected)]:
            row = studio.store.samples.get(view.id)  # it is there when it is first shown
            assert (studio.settings.home / row["image_path"]).is_file()
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
            assert 0 <= view.total <= 9 and all(w.vlm is None for w in view.words if not w.scored)


def test_a_row_and_its_picture_say_how_to_make_the_image_again(studio):
    view = compare(studio, width=72, height=80, seeds=5)[-1].pairs[0].projected
    assert pixels(view).shape == (80, 72, 3)
    row = studio.store.samples.get(view.id)
    told = json.loads(Image.open(view.image_path).text["studio"])
    for name in "prompt seed steps guidance method strength projector_run backbone_revision".split():
        assert told[name] == row[name]
    names = "prompt seed steps guidance strength width height".split()
    same = list(
        studio.comparison.compare(check_request(**{("seeds" if n == "seed" else n): row[n] for n in names}))
    )
    assert np.abs(pixels(view).astype(int) - pixels(same[-1].pairs[0].projected)).max() <= 1
    used = studio.store.runs.get(row["projector_run"])["checkpoint_sha256"]
    assert used == checkpoint.digest(studio.settings.projector)


def test_without_a_projector_or_with_a_damaged_one_there_is_one_side_and_a_sentence_why(studio, tmp_path):
    broken = tmp_path / "projector"
    shutil.copytree(studio.settings.projector, broken)
    weights = next(broken.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    for folder, why in ((tmp_path / "nowhere", "no projector yet"), (broken, "damaged")):
        change_settings(studio, projector=folder)
        last = compare(studio)[-1]
        assert last.stage == "done" and why in last.message
        assert all(pair.projected is None and pair.none.total is not None for pair in last.pairs)
    assert "damaged" in studio.status()["projector_problem"]


@pytest.mark.parametrize(
    ("prompt", "says"),
    [("a red zebra", "zebra"), ("一只红色的猫", "without spaces"), ("赤い猫", "without spaces"),
     ("(red:1.3) ball", "':1.3' is syntax of other tools")],
)  # fmt: skip
def test_a_comparison_names_words_that_are_not_known_cannot_be_told_apart_or_are_syntax(studio, prompt, says):
    last = compare(studio, prompt=prompt, seeds="1")[-1]
    assert last.stage == "done" and says in last.message


def test_words_that_the_model_never_saw_or_that_are_past_its_window_are_told(studio):
    words = studio.comparison.describe_words("a red zebra above a blue square")
    assert [w.text for w in words if not w.known] == ["zebra"]
    *words, last = studio.comparison.describe_words("a red circle and " * 30 + "a blue square")
    assert [w.seen for w in words][:3] == [True] * 3 and not words[-1].seen
    assert last.kind == "extra" and last.seen  # of the whole prompt, something is always read


def test_a_missing_backbone_is_a_sentence_and_an_unexpected_error_is_not_shown(tmp_path):
    empty = Studio(settings_at(tmp_path / "home", tmp_path / "no models"))
    with pytest.raises(ValueError, match="pretrain diffuser") as found:
        list(empty.comparison.compare(request()))
    assert "Traceback" not in sentence(found.value) and empty.status()["ready"] is False
    said = sentence(RuntimeError("secret path /root"))
    assert "RuntimeError" in said and "secret" not in said


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
    assert seen[-1].stage == "stopped" and max(u.step for u in seen) < 30
    updates = studio.comparison.compare(request(steps=30))
    next(updates)
    updates.close()  # an iterator that is given up lets the next one in
    assert studio.store.samples.count() == 0
    assert compare(studio)[-1].stage == "done"
