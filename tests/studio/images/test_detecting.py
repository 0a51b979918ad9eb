"""The detector's opinion beside the VLM's: what it says, whose prompts it speaks of, and that nothing waits for it."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from studio.components.detector import line
from studio.components.grid import detected, grid_value, read_ask, stamp_of
from studio.components.viewer import side
from studio.grids.grid import Cell, GridView, Variant
from studio.images import detecting
from studio.images.detecting import Detector, Opinion, Truth, compared, opinion_of
from studio.images.views import Pair, SampleView, WordView
from studio.pages import compare

PROMPT = "a red circle above a blue square"
WORDS = (1, 2, 3, 5, 6)
FOREIGN = "a photo of a cat"


def truth(missing=(), extra=0, alone=1.0):
    words = {index: 0.0 if index in missing else 1.0 for index in WORDS}
    return Truth(words, not missing, extra, alone, 7)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (truth(), "every word holds"),
        (truth(extra=1, alone=1 / 3), "every word holds; one thing too many"),
        (truth(extra=2, alone=1 / 9), "every word holds; 2 things too many"),
        (truth(alone=0.3), "every word holds; half-formed"),
        (truth([3], extra=1, alone=1 / 3), "above does not hold; one thing too many"),
        (truth([3, 5]), "above and blue do not hold"),
        (truth(WORDS), "5 words do not hold"),
    ],
)
def test_it_says_in_a_short_line_what_does_not_hold(monkeypatch, found, says):
    # stands for an image of which the detector says just that
    monkeypatch.setattr("studio.images.detecting.truth_of", lambda prompt, image, rules: found)
    opinion = opinion_of(PROMPT, np.zeros((8, 8, 3), np.uint8))
    assert opinion.text == f"Detector: {says}"
    assert opinion.count == sum(value >= 0.5 for value in found.units.values())


def test_an_image_is_looked_at_once_and_one_that_is_gone_broken_too_large_or_of_another_world_has_none(
    picture, tmp_path, monkeypatch
):
    calls, real = [], detecting.opinion_of
    monkeypatch.setattr(detecting, "opinion_of", lambda *given: calls.append(1) or real(*given))
    detector = Detector()
    first = detector.of(sample("one", path=picture))
    assert "5 words do not hold" in first.text
    assert detector.of(sample("one", path=picture)) is first and len(calls) == 1
    large, broken = tmp_path / "large.png", tmp_path / "broken.png"
    Image.new("RGB", (detecting.SIDE + 8, 8)).save(large)
    broken.write_bytes(b"no image")
    others = [
        sample("a"),
        sample("b", path=str(large)),
        sample("c", path=str(broken)),
        sample("d", FOREIGN, picture),
    ]
    assert [detector.of(one) for one in others] == [None] * 4
    assert detector.known([others[1], others[3]]) == ({}, False)
    assert line(None) == {"text": "", "title": ""}


HELD = Opinion({1: True, 2: True}, "Detector: every word holds")


BROKEN = Opinion({1: False, 2: True}, "Detector: x")


def test_a_grid_counts_the_seeds_of_which_it_knows_both_images_and_a_cell_says_it_once_it_has_looked():
    assert compared([(HELD, BROKEN), (BROKEN, HELD), (HELD, HELD)]) == {"better": 1, "same": 1, "worse": 1}
    opinions = {"s0": BROKEN, "s1": HELD, "s2": HELD}
    assert detected(grid(), 0, 1, opinions) == {"better": 1, "same": 0, "worse": 0, "seeds": 1}
    assert detected(grid(), 0, 1, {}) is None and detected(grid(), 0, 0, opinions) is None
    have = {"grid": "g", "have": {str(i): stamp_of(sample(f"s{i}")) for i in range(4)}, "base": 0, "other": 1}
    assert grid_value(grid(), lambda one: None, read_ask(have))["cells"] == []
    value = grid_value(grid(), lambda one: None, read_ask(have), None, {"s1": HELD}, looking=True)
    (cell,) = value["cells"]
    assert (cell["place"], cell["detector"], cell["chosen"]) == (1, HELD.text, "1")
    assert value["looking"] and value["detector"] is None


def sample(id, prompt=PROMPT, path=None, method="none", score=7):
    words = [WordView(0, "a", "function", False), WordView(1, "red", "colour", True, score=score)]
    return SampleView(id, prompt, 1, method, 0.0, 20, 4.0, path, words, float(score))


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "one.png"
    Image.fromarray(np.full((64, 64, 3), 226, np.uint8)).save(path)
    return str(path)


def test_nobody_waits_for_it(picture, monkeypatch):
    go, real = threading.Event(), detecting.opinion_of
    monkeypatch.setattr(detecting, "opinion_of", lambda *given: go.wait(10) and real(*given))
    detector, samples = Detector(), [sample(f"s{i}", path=picture) for i in range(3)]
    assert detector.known(samples) == ({}, True)
    go.set()
    while (known := detector.known(samples))[1]:
        time.sleep(0.01)
    assert set(known[0]) == {"s0", "s1", "s2"}


def grid():
    variants = [Variant("none"), Variant("best-noise-of-8", "best-noise-of-8", "shipped")]
    cells = [Cell(i, 1 + i // 2, i % 2, sample(f"s{i}")) for i in range(4)]
    return GridView("g", PROMPT, [1, 2], variants, "done", "", 4, 4, None, cells)


def test_the_viewer_says_it_and_whose_noise_was_chosen():
    found = side("best-noise-of-8", sample("one"), None, seed=5, opinion=BROKEN)
    assert (found["detector"], found["seed"]) == (BROKEN.text, "5")
    assert found["made"].endswith("noise of seed 1")
    assert side("none", sample("one"), None, seed=1)["detector"] == ""
    assert "noise of seed" not in side("none", sample("one"), None, seed=1)["made"]


def test_the_summary_of_a_comparison_says_whose_opinion_it_is():
    pair = Pair(1, sample("a", score=3), sample("b", score=7, method="projected"))
    said = compare.summary([pair, pair], {"a": HELD, "b": BROKEN})
    assert said.startswith(
        "By the VLM, over 2 seeds the projector changes the mean score by +4.0: better on 2"
    )
    assert said.endswith("By the detector: better on 0, the same on 0, worse on 2.")
    assert "detector" not in compare.summary([pair])
    chosen = SimpleNamespace(seed=1, none=pair.none, projected=sample("b"), chosen=True)
    assert "the chosen noise" in compare.summary([chosen]) and "of seed 1" in compare.named(chosen)
