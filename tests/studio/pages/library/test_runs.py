"""Runs in the Library: found by words, kind and state, and put in order."""

from __future__ import annotations

import pytest

from studio.pages.library import runs as library_runs


def run(id, kind="cycle", state="done", message="", of=None, change=0.0, **config):
    heldout = {"of": of, "difference": {"words": {"estimate": change, "low": None, "high": None}}}
    return {"id": id, "kind": kind, "state": state, "message": message, "config": config, "promoted": False,
            "created": "2026-01-02T03:04:05Z", "metrics": {"heldout": heldout} if of else None}  # fmt: skip


RUNS = [  # the newest first
    run("r5", kind="experiment", name="fidelity"),
    run("r4", kind="calibrator", of="corrections", change=0.9),
    run("r3", state="failed", message="The disk is full."),
    run("r2", of="prompts and seeds", change=0.1),
    run("r1", of="prompts and seeds", change=0.2),
]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, ["r5", "r4", "r3", "r2", "r1"]),
        ({"order": "oldest"}, ["r1", "r2", "r3", "r4", "r5"]),
        ({"order": "change"}, ["r1", "r2", "r4"]),  # points, then nats
        ({"text": "DISK full"}, ["r3"]),
        ({"text": "loop"}, ["r3", "r2", "r1"]),
        ({"text": "r4"}, ["r4"]),
        ({"kind": "cycle", "state": "done"}, ["r2", "r1"]),
        ({"text": "zebra"}, []),
        ({"text": None, "kind": None, "state": None}, ["r5", "r4", "r3", "r2", "r1"]),
    ],
)
def test_runs_are_found_by_words_kind_and_state_in_the_order_asked_for(asked, wanted):
    assert [found["id"] for found in library_runs.chosen(RUNS, **asked)] == wanted


def test_what_cannot_be_asked_is_refused_and_how_many_are_found_says_the_page_and_whether_there_are_older_ones():
    for asked in ({"order": "x"}, {"kind": "x"}, {"state": "x"}, {"text": "a" * 201}):
        with pytest.raises(ValueError, match="Choose a kind|Search for"):
            library_runs.chosen(RUNS, **asked)
    assert "1 run of 3." in library_runs.count(1, 3, 0, older=False)
    assert "450 runs of 900, page 2." in library_runs.count(450, 900, 1, older=False)
    assert "4 runs of the newest 4,000." in library_runs.count(4, 4000, 0, older=True)


def test_a_row_names_the_experiment_and_says_the_held_out_change():
    found = library_runs.lines(RUNS, "")
    cells = {row["key"]: row["cells"] for row in found["rows"]}
    assert cells["r5"][0] == library_runs.EXPERIMENTS["fidelity"].title
    assert cells["r1"][2]["text"] == "+20.0 points" and cells["r4"][2]["text"] == "+0.900 nats"
    assert found["head"][-1] == "message" and cells["r3"][-1] == "The disk is full."
    assert library_runs.lines(RUNS[:2], "")["head"][-1] == "started"  # no message: no column of nothing
