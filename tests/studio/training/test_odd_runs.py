"""Runs whose config, labels or metrics are of another shape than the app writes: in a store that took them over before they
were checked, they break no list and no page; a file with one is refused, with the field."""

import json
import math

import gradio as gr
import pytest

from data.exchange.jsonl import ImportRefused, export_labels, import_labels
from studio.annotation import first_round
from studio.api import runs as endpoints
from studio.cli.commands import described
from studio.pages import diagnose, memory, runs, train
from studio.pages.library import runs as library_runs
from studio.pages.people import Rights
from studio.studio import Studio
from tests import tiny

FIGURE = {"estimate": 0.1, "low": 0.0, "high": 0.2}
HELDOUT = {
    "of": "prompts and seeds", "judge": "detector", "independent": True, "key": "k", "base": "before", "prompts": 2,
    "images": 4, "none": {"words": FIGURE}, "before": {"words": FIGURE}, "after": {"words": FIGURE},
    "difference": {"words": FIGURE, "clean": FIGURE}, "against_none": {"words": FIGURE},
    "seeds": {"broken": 1, "mended": 1, "spoiled": 0, "shown": []},
}  # fmt: skip
GOOD = {
    "config": {"used": {"projector": None}, "tau": 0.3},
    "labels": {"sources": {"vlm": 3}, "count": 3, "last": 9, "sha256": "a" * 64, "rule": "median"},
    "metrics": {"heldout": HELDOUT, "note": "a note", "left_out": {"too small": 2}},
}
SHOWN = {"prompt": "a", "seed": 1, "whole": True, "before": "../../other/1.png", "after": "2.png"}


def heldout(**changes):
    return {"heldout": {key: value for key, value in {**HELDOUT, **changes}.items() if value != "missing"}}


MUCH = {"estimate": "much", "low": None, "high": None}


ODD = [
    ("metrics", heldout(difference={"words": MUCH}), "estimate must be a number"),
    ("metrics", heldout(difference={"words": {**MUCH, "estimate": 10**400}}), "estimate must be a number"),
    ("metrics", heldout(difference={"words": {"estimate": 0.1}}), "words.low is missing"),
    ("metrics", heldout(difference={"words": [0.1, 0, 0.2]}), "words must be a JSON object"),
    ("metrics", heldout(difference=[]), "difference must be a JSON object"),
    ("metrics", heldout(difference={"words": FIGURE, "clean": {"estimate": [1], "low": {}, "high": None}}), "clean.estimate"),
    ("metrics", heldout(of=["prompts"]), "of must be text"),
    ("metrics", heldout(seeds={"broken": "2", "mended": 1, "spoiled": 0}), "broken must be a whole number"),
    ("metrics", heldout(seeds={"broken": 2, "mended": 1, "spoiled": 0, "shown": [SHOWN]}), r"shown\[0\].before"),
    ("metrics", heldout(after={"words": 0.5}), "after.words must be a JSON object"),
    ("metrics", heldout(images="many"), "images"),
    ("metrics", heldout(difference="missing"), "difference is missing"),
    ("metrics", heldout(judge="missing"), "judge is missing"),
    ("metrics", {"heldout": 7}, "heldout must be a JSON object"),
    ("metrics", {"note": {"a": 1}}, "note must be text"),
    ("metrics", {"left_out": {"too small": "2"}}, "left_out.too small"),
    ("metrics", {"left_out": [1]}, "left_out must be a JSON object"),
    ("metrics", {"calibrator": [1]}, "calibrator must be a JSON object"),
    ("metrics", {"parts": {"foresight": {"foreseen": {"before": "a", "after": 1}}}}, "foreseen.before"),
    ("metrics", {"reward": {"parts": {"reader": {"metrics": {"pearson_within": 10**400}}}}}, "pearson_within"),
    ("metrics", {"use": "yes", "kinds": "colour"}, "must be"),
    ("config", {"used": "projector"}, "used must be a JSON object"),
    ("config", {"used": {"projector": [1]}}, "used.projector must be text"),
    ("config", {"name": ["tau"]}, "name must be text"),
    ("config", {"cycle": {"a": 1}, "source": []}, "must be text"),
    ("labels", {"sources": ["vlm"], "count": 3, "last": 9, "sha256": "a"}, "sources must be a JSON object"),
    ("labels", {"sources": {"vlm": {}}, "last": "x", "sha256": 7}, "must be"),
]  # fmt: skip


def put(studio, kind, fields):
    """A run that is done, written by hand as an earlier version took it over."""
    run = studio.store.runs.new(kind, {})
    studio.store.runs.update(run, state="done")
    with studio.store.database.writing() as db:
        db.execute("DROP TRIGGER IF EXISTS runs_fixed")
        for name, value in fields.items():
            db.execute(f"UPDATE runs SET {name} = ? WHERE id = ?", (json.dumps(value), run))
    return run


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A studio without models, and what opens a run in Train."""
    folder = tmp_path_factory.mktemp("odd")
    studio = Studio(tiny.settings_at(folder / "home", folder / "models"))
    with gr.Blocks() as page, gr.Tab() as tab:
        _, opener = train.build(studio, tab, memory.build(studio, page), Rights(studio))
    return studio, opener


@pytest.mark.parametrize(("column", "value", "says"), ODD)
def test_a_run_of_another_shape_breaks_no_list_and_no_page(pages, column, value, says):
    studio, opener = pages
    good = put(studio, "cycle", GOOD)
    odd = [put(studio, kind, {**GOOD, column: value}) for kind in ("cycle", "experiment", "round")]
    try:
        every = studio.runs.find()
        for experiments in (True, False):
            runs.listed(studio, experiments, odd[0])
        train._table(every, odd[0])
        diagnose._table(every, odd[1])
        for order in library_runs.ORDERS:
            library_runs.lines(library_runs.chosen(every, "a", order=order), "")
        first_round.steps(studio)
        assert all(described(run) for run in every)
        assert {run["id"] for run in endpoints.runs(studio)} >= {good, *odd}
        for id in odd:
            opener.open(id, True)
            assert endpoints.run(studio, id)["id"] == id and endpoints.model_card(studio, id)
            endpoints.compare_runs(studio, good, id)
            json.dumps(endpoints.run(studio, id), allow_nan=False)
            studio.runs.why_not(studio.runs.get(id))
        assert studio.runs.get(good)["metrics"] == GOOD["metrics"]
    finally:
        with studio.store.database.writing() as db:
            db.execute("DROP TRIGGER IF EXISTS runs_keep")
            db.execute("DELETE FROM runs")


@pytest.fixture
def exported(store, quick_path, sample_row):
    """The lines of an export, and the place of its run."""
    run = store.runs.new("projector", {})
    store.runs.update(run, state="done")
    store.samples.add([sample_row(method="projected", strength=1.0, projector_run=run)])
    export_labels(store, quick_path / "a.jsonl")
    lines = [json.loads(line) for line in (quick_path / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    (place,) = [n for n, line in enumerate(lines) if "run" in line]
    return lines, place


def test_a_file_with_a_run_of_another_shape_is_refused_with_its_field(store, quick_path, exported):
    lines, place = exported
    run = lines[place]["run"]
    for column, value, says in ODD:
        lines[place]["run"] = run | {"id": "other", **GOOD, column: value}
        (quick_path / "a.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
        )
        with pytest.raises(
            ImportRefused, match=rf"a.jsonl, line {place + 1}: .*{says}.* Nothing was imported"
        ):
            import_labels(store, quick_path / "a.jsonl", units=lambda prompt, count: [])


def test_what_the_app_writes_has_the_shape_and_is_given_back_whole(store):
    metrics, labels = {**GOOD["metrics"], "more": [1, {"a": math.pi}]}, store.labels.snapshot()
    run = store.runs.new("cycle", GOOD["config"], labels=labels)
    kept = store.runs.update(run, state="done", metrics=metrics)
    assert (kept["metrics"], kept["labels"]) == (metrics, labels)
