"""A first visit: pairs to look at and words to correct at once, before any model is loaded, and a way through them."""

import json
import shutil

import pytest

from core import checkpoint
from studio.images import examples
from studio.studio import Studio
from tests import tiny
from tests.browser.annotating import CHIPS
from tests.browser.conftest import field, serving

PROMPTS = ("a red circle above a blue square", "a green star")


@pytest.fixture
def fresh(tmp_path, model_folder):
    """The app on an empty home with examples made by its own models, of which the diffuser then lost its weights: it
    stands for models that are still on their way, and shows that the examples need none."""
    models, made = shutil.copytree(model_folder, tmp_path / "models"), tmp_path / "examples"
    (models / "diffuser" / checkpoint.MANIFEST).write_text(json.dumps({"made for": "a test"}))
    settings = tiny.settings_at(tmp_path / "none", models)
    examples.make(settings, made, begin=Studio, prompts=PROMPTS, seeds=(1, 2), steps=tiny.STEPS, search=0, count=2,
                  force=True)  # fmt: skip
    shutil.rmtree(models / "diffuser/unet")
    with serving(tmp_path / "home", models, STUDIO_EXAMPLES=str(made)) as running:
        yield running


def test_examples_are_shown_before_any_model_is_there_and_steps_lead_on_until_they_are_dismissed(
    browse, fresh
):
    page = browse(fresh.url)
    page.locator("#words-projected .ws-change").first.wait_for()
    page.locator("#compare-note", has_text="none of these was picked").wait_for()
    assert field(page, "prompt").input_value() == PROMPTS[0]
    page.locator("#examples button", has_text=PROMPTS[1]).click()
    page.locator("#words-none .ws-chip", has_text="star").wait_for()
    assert page.locator("#pair-seed label").count() >= 2

    steps = page.locator(".guide-open")
    steps.nth(1).focus()
    page.keyboard.press("Enter")
    page.locator(CHIPS).first.wait_for()
    page.locator(CHIPS).first.focus()
    page.keyboard.type("43")
    page.locator(".guide-says", has_text="2 of 10 words").wait_for()
    page.reload()
    page.locator(".guide-says", has_text="2 of 10 words").wait_for()
    steps.nth(2).click()
    page.locator("#start").wait_for()
    assert page.locator("[role=tab][aria-selected=true]", has_text="Train").count() == 1
    page.locator(".guide-close").focus()
    page.keyboard.press("Enter")
    page.locator(".guide").wait_for(state="detached")
    page.reload()
    page.locator("#words-projected .ws-change").first.wait_for()
    page.wait_for_timeout(300)
    assert page.locator(".guide").count() == 0
