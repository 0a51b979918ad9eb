"""The page of a run in Train, for the kinds of runs that were once too much for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest

from studio.pages import runs, train
from studio.pages.people import Rights
from studio.pages.train import run as run_page


@pytest.fixture
def calibrated_run(calibrated):
    return calibrated, calibrated.runs.find(kind="calibrator")[0]


@pytest.fixture
def values(calibrated_run):
    """What the page of a run is filled with."""
    with gr.Blocks():
        return run_page.build(calibrated_run[0], gr.State(""), Rights(calibrated_run[0])).values


def test_the_page_of_a_calibrator_can_be_opened_and_its_card_has_figures_without_bounds(
    calibrated_run, values
):
    studio, run = calibrated_run
    heldout = run["metrics"]["heldout"]
    assert heldout["after"]["words"]["low"] is None
    texts = [value for value in values(run["id"]).values() if isinstance(value, str)]
    (card,) = [text for text in texts if "## Measured" in text]
    assert (
        f"| log-likelihood of a label, nats a word | {heldout['before']['words']['estimate']:.3f} | " in card
    )
    assert "nats a word" in train._verdict(studio, run)
    assert runs.change(run).endswith(" nats")


def test_a_card_that_fails_says_so_in_its_place_and_leaves_the_page(calibrated_run, values, monkeypatch):
    studio, run = calibrated_run

    def fails(run_id):  # stands for any figure that a card cannot show
        raise TypeError("unsupported format string")

    monkeypatch.setattr(studio.runs, "model_card", fails)
    filled = values(run["id"]).values()
    assert any("card could not be written" in value for value in filled if isinstance(value, str))


def test_a_packed_run_lies_in_the_folder_that_is_swept_once_however_often_it_is_asked_for(
    calibrated_run, monkeypatch, tmp_path
):
    studio, run = calibrated_run
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "kept"))
    with gr.Blocks() as page:
        run_page.build(studio, gr.State(""), Rights(studio))
    (pack,) = [
        event.fn for event in page.fns.values() if [part.elem_id for part in event.outputs] == ["packed-run"]
    ]
    with ThreadPoolExecutor(2) as pool:
        copies = set(pool.map(pack, [run["id"]] * 4))
    assert [str(path) for path in (tmp_path / "kept").rglob("*") if path.is_file()] == list(copies)
