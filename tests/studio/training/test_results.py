"""What a run says of itself: the seeds that changed, and what it learned from."""

import shutil
from types import SimpleNamespace

import numpy as np

from data.prompts import load
from studio.pages.train.run import result_html
from studio.training.heldout import SHOWN_SEEDS, _shown, change
from studio.training.results import PICTURES, learned_said, seeds_said
from tests.tiny import STEPS


def heldout(low=-0.007, high=0.101, **seeds):
    counts = {"broken": 60, "whole": 132, "mended": 14, "spoiled": 5, **seeds}
    difference = {"clean": {"estimate": 0.047, "low": low, "high": high}}
    return {"judge": "detector", "base": "before", "difference": difference, "seeds": counts}


def test_the_result_is_a_sentence_about_seeds_with_the_half_width_of_its_interval():
    first, what, much = seeds_said({**heldout(), "images": 192})
    assert first == "Of 60 seeds that were broken before, 14 are whole now; 5 that were whole are broken."
    assert what.endswith("by the detector.")
    assert much == (
        "Whole images: +4.7 points, ± 5.4: that is within what chance does. To tell 3 points takes about 700 images, not 192."
    )
    assert seeds_said(heldout())[2].endswith("what chance does.")
    assert seeds_said(heldout(low=0.01))[2].endswith("clear of chance.")
    one = seeds_said(heldout(broken=1, mended=1, spoiled=1))[0]
    assert one == "Of 1 seed that was broken before, 1 is whole now; 1 that was whole is broken."
    assert seeds_said({"judge": "scorer", "difference": {}}) == []


def test_seeds_are_counted_in_pairs_and_of_those_that_changed_both_sorts_are_shown():
    before = [np.array([0, 0, 1, np.nan]), np.array([1.0, 0, 1, 1])]
    after = [np.array([1, 0, 0, 1]), np.array([1, 1, np.nan, 0.0])]  # what nobody could judge is left out
    found = change(["a", "b"], [[1, 2, 3, 4], [5, 6, 7, 8]], before, after)
    assert [found[name] for name in ("broken", "whole", "mended", "spoiled")] == [3, 3, 2, 2]
    changed = {(one["seed"], one["whole"]) for one in found["changed"]}
    assert changed == {(1, True), (6, True), (3, False), (8, False)}
    for mended, spoiled in ((14, 5), (0, 9), (9, 0), (1, 40), (40, 1), (2, 2), (0, 0)):
        before = np.array([0.0] * mended + [1.0] * spoiled)
        shown = change(["a"], [list(range(mended + spoiled))], [before], [1 - before])["changed"]
        assert len(shown) == min(SHOWN_SEEDS, mended + spoiled)
        assert {one["whole"] for one in shown} == ({True} if mended else set()) | (
            {False} if spoiled else set()
        )


def test_a_run_says_whose_labels_chose_and_what_foresight_and_reader_see():
    reward = {
        "chosen_by": "people",
        "parts": {
            "foresight": {"kept": False, "foreseen": {"before": 0.514, "after": 0.768}},
            "reader": {"metrics": {"pearson_within": 0.36, "finished_pearson_within": 0.764}},
        },
    }
    chosen, foresight, reader = learned_said({"reward": reward})
    assert "by people's labels" in chosen and "77 %" in foresight and "51 %" in foresight
    assert reader == "Reader: Pearson 0.36 within a prompt on what is foreseen, 0.76 on finished images."
    assert learned_said(reward) == [chosen, foresight, reader]
    kept = {"chosen_by": "scorer", "parts": {"foresight": {"kept": True}}}
    assert learned_said(kept)[1] == "Foresight: that of the reward model it began with."
    assert learned_said({}) == []


def test_seeds_that_changed_are_shown_before_and_after_but_none_that_comes_out_otherwise_again(
    studio, quick_path
):
    job = SimpleNamespace(studio=studio, folder=quick_path / "run", stopped=lambda: False)
    changed = [{"prompt": p, "seed": 2**31 + 5, "whole": True} for p in load("shapes_heldout", 2)]
    whole = iter([False, True, True, True])

    def judge(prompt, image):
        return {"strict": next(whole), "extra": 0}

    sampling = {"steps": STEPS, "guidance": 0.0, "height": None, "width": None, "batch": 2}
    (kept,) = _shown(job, changed, None, studio.models.using("projector").model, judge, sampling)
    assert kept == {**changed[0], "before": "0-before.png", "after": "0-after.png"}
    assert len(list((job.folder / PICTURES).iterdir())) == 2

    there = SimpleNamespace(runs=SimpleNamespace(folder=lambda id: quick_path / id))
    found = {**heldout(), "seeds": {"broken": 1, "whole": 1, "mended": 1, "spoiled": 0, "shown": [kept]}}
    run = {"id": "run", "metrics": {"heldout": found, "left_out": {"made with 9 steps, others with 20": 3}}}
    html = result_html(there, run)
    assert html.count("<img") == 2 and "whole now" in html and "3 made with 9 steps" in html
    shutil.rmtree(job.folder)
    assert "<img" not in result_html(there, run)
    assert result_html(there, {"id": "run", "metrics": None}) == ""
