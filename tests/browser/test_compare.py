"""A stranger compares a pair in a real browser."""

import re

from core.diffusion import Diffuser
from tests import loras
from tests.browser.annotating import CHIPS, PROMPT, kept, settled, shown
from tests.browser.conftest import WAITING, call_me, compare, field, ready, tab, unfold


def test_a_pair_is_stored_scored_shown_and_there_again_after_a_reload(page, app):
    compare(page, PROMPT, "21, 22")
    for side in ("none", "projected"):
        digits = page.locator(f"#words-{side} .ws-digit").all_inner_texts()
        assert len(digits) == 6 and set("".join(digits)) <= set("0123456789")  # the words, and nothing else
        # the preview, which is larger, stands there until the image is read
        page.wait_for_function(
            "id => document.querySelector(`#image-${id} img`).naturalWidth === 64", arg=side
        )
        ((id, path),) = app.rows("SELECT id, image_path FROM samples WHERE seed = 21 AND method = ?", side)
        assert (app.home / path).is_file()
        stored = "SELECT score FROM scores WHERE sample = ? AND source = 'vlm' ORDER BY word_index"
        assert [str(score) for (score,) in app.rows(stored, id)] == digits
        page.locator(f"#detector-{side} .detector-line", has_text="Detector: ").wait_for()
    changes = page.locator("#words-projected .ws-change").all_inner_texts()
    assert len(changes) == 6 and all(re.fullmatch(r"▲ \+\d|▼ −\d|= 0", change) for change in changes)
    assert page.locator("#words-none .ws-dim").all_inner_texts() == ["a", "a"]
    names = [chip.get_attribute("aria-label") for chip in page.locator("#words-projected .ws-chip").all()]
    assert [name.split(":")[0] for name in names] == [
        "red",
        "circle",
        "above",
        "blue",
        "square",
        "nothing else",
    ]
    assert all(re.search(r"\d of 9, (expected \d\.\d, )?(as|up|down)", name) for name in names)

    before = page.locator("#words-none").inner_text()
    page.wait_for_function("sessionStorage.getItem('noise-projection-studio.compare') === null")
    page.reload()
    page.locator("#words-none .ws-chip").first.wait_for()
    assert page.locator("#words-none").inner_text() == before
    assert page.get_by_text("press Compare to make it again").count() == 0  # it had ended
    assert (field(page, "prompt").input_value(), field(page, "seeds").input_value()) == (PROMPT, "21, 22")
    choices = page.locator("#pair-seed label")
    assert [text.split()[0] for text in choices.all_inner_texts()[-2:]] == ["21", "22"]
    first = page.locator("#image-none img").get_attribute("src")
    choices.last.click()
    page.wait_for_function("old => document.querySelector('#image-none img').src !== old", arg=first)
    tab(page, "Slider")
    page.locator("#pair-slider img").first.wait_for()


def test_what_the_models_do_not_know_is_named_and_the_best_of_several_noises_says_of_which_seed(page, app):
    assert page.locator("#compare-note").get_attribute("aria-live") == "polite"
    compare(page, "a red wombat", "8")
    assert page.locator("#words-none .ws-chip", has_text="wombat").inner_text().count("unknown word") == 1
    assert "wombat" in page.locator("#compare-note [role=status]").inner_text()
    assert page.locator("#detector-none .detector-line").inner_text() == ""
    compare(page, "a red circle " + "and a blue square " * 20, "8")
    assert page.locator("#words-none .ws-mark", has_text="not read").count() > 0
    page.locator("#noise input").click()
    page.get_by_role("option", name="best of 8").click()
    compare(page, "a green square", "23")
    page.locator("#image-projected", has_text="Best of several noises, of seed").wait_for()
    page.locator("#compare-note", has_text="The noise was chosen by the reward model").wait_for()
    methods = app.rows("SELECT DISTINCT method FROM samples WHERE prompt = 'a green square'")
    assert methods == [("none",)]


def begin_long(page, prompt: str) -> None:
    """A comparison of eight seeds and a hundred steps, begun by keyboard; returns with its first preview."""
    page.locator("#steps input[type=number]").fill("100")
    page.locator("#steps input[type=number]").press("Tab")
    field(page, "seeds").fill("70-77")
    field(page, "prompt").fill(prompt)
    page.keyboard.press("Control+Enter")
    page.locator("#compare-progress", has_text=re.compile(r"Step [1-9]")).wait_for()


def test_a_long_comparison_that_is_stopped_or_ended_by_a_reload_leaves_the_one_before_it(page, app):
    compare(page, "a green star", "32, 33")
    begin_long(page, "a yellow triangle")
    # The image that is made is not there to annotate, nor are the seeds before it its own. Looked at and stopped in one go,
    # since on a busy machine the images may else be there before a click is.
    page.wait_for_function(
        """() => {
            const there = (id) => document.querySelector(id)?.checkVisibility();
            if (!document.querySelector("#annotate-none")?.disabled || there("#pair-seed")) return false;
            document.querySelector("#stop").click();
            return true;
        }"""
    )
    page.locator("#compare-note", has_text="Stopped").wait_for()
    page.locator("#run:not([disabled])").wait_for()
    page.locator("#compare-note", has_text="Below is the comparison before it.").wait_for()
    assert page.locator("#words-none .ws-chip").first.is_visible()
    assert page.locator("#annotate-none").is_enabled() and page.locator("#pair-seed").is_visible()
    assert not page.locator("#first-example").is_visible()  # nothing is not what there is
    assert app.rows("SELECT count(*) FROM samples WHERE seed BETWEEN 70 AND 77") == [(0,)]

    begin_long(page, "a yellow square")
    page.reload()
    page.locator("#compare-note", has_text="press Compare to make it again").wait_for()
    assert (field(page, "prompt").input_value(), field(page, "seeds").input_value()) == (
        "a yellow square",
        "70-77",
    )
    page.locator("#words-none .ws-chip", has_text="star").wait_for()
    page.reload()  # that was said once
    page.locator("#words-none .ws-chip", has_text="star").wait_for()
    assert field(page, "prompt").input_value() == "a green star"


def test_keys_under_way_are_kept_when_another_image_is_opened(page, app):
    compare(page, PROMPT, "41")
    page.locator("#annotate-projected").click()
    page.locator(CHIPS).first.wait_for()
    call_me(page, "under way")
    sample, held, released = shown(page), [], []

    def keys(route) -> None:
        waits = '"operations"' in (route.request.post_data or "") and not released
        held.append(route) if waits else route.continue_()

    page.route("**/run/predict", keys)
    page.locator(CHIPS).first.focus()
    page.keyboard.type("370")
    tab(page, "Compare")
    page.locator("#annotate-none").click()
    other = page.locator("#words-none .word-scores").get_attribute("data-sample")
    page.locator(f"#annotate-words [data-sample='{other}']").wait_for()
    released.append(True)
    for route in held:
        route.continue_()
    for _ in range(int(WAITING / 50)):
        if len(kept(app, "under way")) == 3:
            break
        page.wait_for_timeout(50)  # not sleep: what the page asks of the test goes on meanwhile
    page.locator(CHIPS).first.focus()
    page.keyboard.press("8")
    settled(page)
    assert shown(page) == other
    typed = {(sample, "red", 3), (sample, "circle", 7), (sample, "above", 0), (other, "red", 8)}
    assert set(kept(app, "under way")) == typed


def test_negative_prompt_scheduler_lora_file_and_weights_are_chosen_and_in_the_row_of_the_image(
    browse, app, model_folder
):
    (app.home / "loras").mkdir(exist_ok=True)
    loras.write(Diffuser.load(model_folder / "diffuser"), app.home / "loras" / "style.safetensors")
    page = browse(app.url)
    ready(page)
    unfold(page.get_by_role("button", name="Sampling"), field(page, "compare-negative"))
    field(page, "compare-negative").fill("a green star")
    for name, choice in (("scheduler", "DPM++ 2M"), ("loras", "style.safetensors")):
        page.locator(f"#compare-{name} input").click()
        page.get_by_role("option", name=choice).first.click()
    page.keyboard.press("Escape")
    page.locator("#compare-weighted input").check()
    compare(page, "a (red:1.3) circle", "31")
    rows = app.rows(
        "SELECT prompt, weighted, negative, sampler, json_extract(loras, '$[0].name') FROM samples WHERE seed = 31"
    )
    made = (
        "a red circle",
        "a (red:1.3) circle",
        "a green star",
        "DPMSolverMultistepScheduler",
        "style.safetensors",
    )
    assert rows == [made, made]
    assert "without a negative prompt" in page.locator("#compare-note").inner_text()
    assert page.locator("#words-none .ws-chip").count() == 3  # red, circle, and nothing else
