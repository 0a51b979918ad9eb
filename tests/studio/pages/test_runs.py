"""What the tabs that start jobs share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from studio.pages import runs
from studio.training.configs import FIELDS


def test_a_number_of_the_form_is_refused_by_our_own_check_which_names_the_field():
    """Gradio's own "Value -3 is less than minimum value 1.0." names none."""
    for name, field in FIELDS["cycle"].items():
        part = runs.setting(name, field, name)
        assert getattr(part, "minimum", None) is None and getattr(part, "maximum", None) is None
    with pytest.raises(ValueError, match="The reward steps -3 is out of range: use a whole number from 1 to"):
        FIELDS["cycle"]["reward_steps"].check("reward_steps", -3)


def test_a_tab_lists_its_newest_runs_and_an_older_one_that_is_asked_for(store):
    studio = SimpleNamespace(runs=store.runs)
    first = [store.runs.new(kind, {}, id=f"old-{kind}") for kind in ("experiment", "reward")]
    part = store.runs.new("reward", {"cycle": "x"}, id="part")
    gone = store.runs.new("reward", {}, id="gone")
    for run in (part, gone):
        store.runs.update(run, state="stopped")
    store.runs.archive([gone])
    newest = [store.runs.new("reward", {}) for _ in range(runs.LIMIT)][::-1]

    def ids(experiments, asked):
        return [run["id"] for run in runs.listed(studio, experiments, asked)[0]]

    assert ids(False, None) == ids(False, newest[3]) == newest
    assert ids(False, first[1]) == [*newest, first[1]]
    for other in (first[0], part, gone, "nobody", "../x", 7, ["old-reward"]):
        assert ids(False, other) == newest, other
    assert ids(True, first[0]) == [first[0]]
