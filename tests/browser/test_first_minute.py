"""A first visit: pairs to look at and words to correct at once, before any model is loaded, and a way through them."""

from __future__ import annotations

import json
import shutil

import pytest

from core import checkpoint
from studio.images import examples
from studio.studio import Studio
from tests import tiny
from tests.browser.conftest import start_app, stop_app

PROMPTS = ("a red circle above a blue square", "a green star")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory, models):
    """The app on an empty home with examples made by its own models, of which the diffuser then lost its weights: it
    stands for models that are still on their way, and shows that the examples need none."""
    folder = tmp_path_factory.mktemp("first")
    shutil.copytree(models, folder / "models")
    (folder / "models/diffuser" / checkpoint.MANIFEST).write_text(json.dumps({"made for": "a test"}))
    settings = tiny.settings_at(folder / "none", folder / "models")
    examples.make(
        settings,
        folder / "examples",
        begin=Studio,
        prompts=PROMPTS,
        seeds=(1, 2),
        steps=tiny.STEPS,
        search=0,
        count=2,
        force=True,
    )
    shutil.rmtree(folder / "models/diffuser/unet")
    home = folder / "home"
    env = tiny.settings_at(home, folder / "models").env() | {"STUDIO_EXAMPLES": str(folder / "examples")}
    running = start_app(home, env)
    yield running
    stop_app(running)


def test_examples_are_shown_and_said_to_be_so_before_any_model_is_there(browse, fresh):
    page = browse(fresh.url)
    page.locator("#words-projected .ws-change").first.wait_for()
    page.locator("#compare-note", has_text="none of these was picked").wait_for()
    assert page.locator("#prompt textarea").input_value() == PROMPTS[0]
    page.locator("#examples button", has_text=PROMPTS[1]).click()
    page.locator("#words-none .ws-chip", has_text="star").wait_for()
    assert page.locator("#pair-seed label").count() >= 2


def test_the_steps_lead_from_tab_to_tab_and_count_what_is_done(browse, fresh):
    page = browse(fresh.url)
    steps = page.locator(".guide-open")
    steps.nth(1).focus()
    page.keyboard.press("Enter")
    page.locator("#annotate-words [role=spinbutton]").first.wait_for()
    page.locator("#annotate-words [role=spinbutton]").first.focus()
    page.keyboard.type("43")
    page.locator(".guide-says", has_text="2 of 10 words").wait_for()
    page.reload()
    page.locator(".guide-says", has_text="2 of 10 words").wait_for()
    steps.nth(2).click()
    page.locator("#start").wait_for()
    assert page.locator("[role=tab][aria-selected=true]", has_text="Train").count() == 1


def test_dismissed_steps_never_come_again(browse, fresh):
    page = browse(fresh.url)
    page.locator(".guide-close").focus()
    page.keyboard.press("Enter")
    page.locator(".guide").wait_for(state="detached")
    page.reload()
    page.locator("#words-projected .ws-change").first.wait_for()
    page.wait_for_timeout(500)
    assert page.locator(".guide").count() == 0


def test_what_is_done_already_is_not_asked_for(browse, fresh):
    """A store in which all three steps are done, as its rows say."""
    from data.store import Store

    store = Store(fresh.home / "studio.db")
    id = store.samples.find(limit=1)[0]
    for index in range(1, 3):
        for score in range(10):
            store.scores.set(id["id"], index, score, "Ann", word="word")
    run = store.runs.new("cycle", {})
    store.runs.update(run, state="done")
    new = {
        **{name: id[name] for name in ("prompt", "n_words", "backbone", "width", "height", "steps")},
        "guidance": 4,
    }
    for word, sample in enumerate(store.samples.add({**new, "seed": 100 + at} for at in range(9))):
        store.scores.set(sample, 1, word, "Ann", word="word")
    page = browse(fresh.url)
    page.locator("#words-projected .ws-change").first.wait_for()
    page.wait_for_timeout(500)
    assert page.locator(".guide").count() == 0
