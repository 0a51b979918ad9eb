"""Seeds in a real browser: a grid comes into being, is looked at, sorted, filtered, voted on, shared and taken home."""

import io
import json
import re
import zipfile

import pytest
from PIL import Image, PngImagePlugin

from studio.images.png_text import read_png
from tests.browser.conftest import field, ready, tab

IMAGES = ".sg-cell img"


@pytest.fixture
def seeds(page):
    """The tab Seeds, once it knows whether there is a grid to show."""
    tab(page, "Seeds")
    page.locator(".seed-grid[data-known]").wait_for(state="attached")
    page.wait_for_timeout(200)  # the form is moved out of the way of a grid
    return page


def fill(page, prompt, seeds, strengths="1", steps="2"):
    if not field(page, "seeds-prompt").is_visible():
        page.locator("#seeds-form").get_by_text("What to draw").click()
    for name, value in (("prompt", prompt), ("seeds", seeds), ("strengths", strengths), ("steps", steps)):
        field(page, f"seeds-{name}").fill(value)


def done(page) -> None:
    page.locator(".sg-title .badge", has_text=re.compile("^done$")).wait_for()
    page.wait_for_function("!document.querySelector('.sg-wait')")


def make(page, prompt, seeds, strengths="1", steps="2", wait=True):
    """The id of a new grid, made whole where it is waited for."""
    old = page.locator(".seed-grid").get_attribute("data-grid") if page.locator(".sg-head").count() else None
    fill(page, prompt, seeds, strengths, steps)
    page.locator("#seeds-start").click()
    new = "old => { const id = document.querySelector('.seed-grid').dataset.grid; return id && id !== old; }"
    page.wait_for_function(new, arg=old)
    if wait:
        done(page)
    return page.locator(".seed-grid").get_attribute("data-grid")


def test_a_grid_that_is_stopped_gone_on_with_and_reloaded_in_the_middle_loses_no_image(seeds, app):
    grid = make(seeds, "a red circle above a blue square", "100-107", "0.5,1", steps="40", wait=False)
    seeds.locator(IMAGES).first.wait_for()
    seeds.locator(".sg-stop").click()
    seeds.locator(".sg-title .badge", has_text="stopped").wait_for()
    count = "SELECT count(DISTINCT sample) FROM cells WHERE grid = ?"
    ((kept,),) = app.rows(count, grid)
    assert 0 < kept < 24
    seeds.get_by_role("button", name="Go on", exact=True).click()
    seeds.locator(".sg-title .badge", has_text="stopped").wait_for(state="detached")
    assert app.rows("SELECT state FROM grids WHERE id = ?", grid)[0][0] in ("queued", "running")
    seeds.reload()
    ready(seeds)
    tab(seeds, "Seeds")
    done(seeds)
    seeds.wait_for_function("document.querySelectorAll('.sg-cell img').length === 24")
    assert seeds.locator(".seed-grid").get_attribute("data-grid") == grid and app.rows(count, grid) == [(24,)]
    digits = seeds.locator(".sg-cell[data-sample] .sg-words b").all_inner_texts()
    assert len(digits) == 24 * 6 and set("".join(digits)) <= set("0123456789")
    assert field(seeds, "seeds-prompt").input_value() == "a red circle above a blue square"
    assert field(seeds, "seeds-strengths").input_value() == "0.5,1"


def test_rows_are_sorted_and_filtered_plots_and_links_lead_to_images_and_the_arrows_move(seeds, browse, app):
    grid = make(seeds, "a green star", "1-6")

    def rows():
        return seeds.locator(".sg-seed b").all_inner_texts()

    def numbers(part):
        return [float(text) for text in seeds.locator(part).all_inner_texts()]

    assert rows() == list("123456")
    before, after = (numbers(f".sg-cell[data-column='{column}'] .sg-total b") for column in (0, 1))
    gains = [high - low for low, high in zip(before, after, strict=True)]
    seeds.locator("select[data-name='Sort by']").select_option("gain")
    assert sorted(rows()) == list("123456")
    assert gains[int(rows()[0]) - 1] >= max(gains) - 0.11  # what is shown is rounded
    seeds.locator("select[data-name='Sort by']").select_option(label="“star”")
    star = ".sg-cell[data-column='1'] .sg-word:nth-child(2) b"
    assert numbers(star) == sorted(numbers(star), reverse=True)
    seeds.get_by_role("button", name="Best first", exact=True).click()
    assert numbers(star) == sorted(numbers(star))
    for name in ("broken", "mended"):
        button = seeds.locator(f"[aria-label=Filter] [data-key={name}]")
        count = int(button.inner_text().split()[-1])
        button.click()
        assert len(rows()) == count == seeds.locator(f".sg-cell .sg-{name}").count()
    seeds.locator("[aria-label=Filter] [data-key=all]").click()
    seeds.locator("select[data-name='Sort by']").select_option("seed")
    seeds.locator(".sg-cell[tabindex='0']").focus()
    for key in ("Home", "PageUp", "ArrowDown", "ArrowRight"):
        seeds.keyboard.press(key)
    here = seeds.evaluate("({...document.activeElement.dataset})")
    assert (here["seed"], here["column"]) == ("2", "1")

    seeds.get_by_role("button", name="By seed", exact=True).click()
    seeds.locator(".sg-point").first.focus()
    assert seeds.locator(".sg-card img").count() == 2
    seeds.keyboard.press("Enter")
    seeds.locator("dialog.pv[open]").wait_for()
    seeds.keyboard.press("Escape")
    seeds.get_by_role("button", name="By word", exact=True).click()
    assert seeds.locator(".sg-changes .sg-name").all_inner_texts() == ["green", "star", "nothing else"]

    sample = app.rows("SELECT sample FROM cells WHERE grid = ? AND place = 3", grid)[0][0]
    other = browse(f"{app.url}?grid={grid}")
    other.locator(IMAGES).nth(11).wait_for()
    assert other.locator(".sg-prompt").inner_text() == "a green star"
    other.goto(f"{app.url}?sample={sample}")
    other.locator(f"#annotate-words [data-sample='{sample}'] [role=spinbutton]").first.wait_for()
    other.wait_for_function("!location.search.includes('sample')")
    other = browse(f"{app.url}?grid=nosuchgrid")
    other.locator("#seed-grid .studio-notice", has_text="nosuchgrid").wait_for()
    assert other.locator("#seeds-example").is_visible()
    other.goto(f"{app.url}?sample=nosuchsample")
    other.locator(".toast-body", has_text="nosuchsample").wait_for()


def test_a_pair_is_looked_at_closely_voted_on_and_taken_home_and_its_png_fills_the_form(seeds, app, tmp_path):
    grid = make(seeds, "a blue square", "11-13", "0.5")
    seeds.locator(".sg-cell[data-row='0'][data-column='1']").click()
    dialog = seeds.locator("dialog.pv[open]")
    dialog.locator(".pv-side").wait_for()
    assert dialog.locator(".pv-image").count() == 2
    seeds.keyboard.press("2")
    cut = "node => node.style.getPropertyValue('--cut')"
    before = dialog.locator(".pv-over").evaluate(cut)
    seeds.keyboard.press("ArrowLeft")
    assert dialog.locator(".pv-over").evaluate(cut) != before
    seeds.keyboard.down("Space")
    assert "projected" in dialog.locator(".pv-flipped .pv-tag").inner_text()
    seeds.keyboard.up("Space")
    assert dialog.locator(".pv-flipped").count() == 0
    assert dialog.locator(".pv-flip .pv-tag").inner_text() == "none"
    seeds.keyboard.press("4")
    dialog.locator(".pv-said", has_text="Mean difference").wait_for()
    seeds.keyboard.press("ArrowDown")
    dialog.locator(".pv-title b", has_text="Seed 12").wait_for()
    seeds.keyboard.press("+")
    assert dialog.locator(".pv-scale").inner_text() == "1.5×"
    with seeds.expect_download() as taken:
        dialog.locator("a[download]").last.click()
    file = tmp_path / "one.png"
    taken.value.save_as(file)
    text = read_png(file)
    assert (text["prompt"], text["seed"], text["strength"]) == ("a blue square", 12, 0.5)
    seeds.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert seeds.evaluate("document.activeElement.dataset.seed") == "12"
    seeds.locator(".sg-cell[data-row='2'][data-column='1']").click()
    dialog.get_by_role("button", name="Use seed").last.click()
    seeds.wait_for_function(
        "document.querySelector('#seeds-seeds').querySelector('input, textarea').value === '13'"
    )
    seeds.keyboard.press("Escape")
    dialog.wait_for(state="hidden")

    seeds.get_by_role("button", name="Blind vote", exact=True).click()
    vote = seeds.locator("dialog.bv[open]")
    vote.locator(".bv-pair img").nth(1).wait_for()
    for n, key in enumerate(("1", "ArrowDown", "9"), 1):
        assert "projected" not in vote.inner_text() and "none" not in vote.inner_text().lower().split()
        seeds.keyboard.press(key)
        vote.locator(
            ".bv-result" if n == 3 else ".bv-state", has_text="projected" if n == 3 else f"{n} of 3"
        ).wait_for()
    cast = """SELECT p.choice FROM preferences p JOIN cells c ON c.sample = p.left_sample WHERE c.grid = ?
        ORDER BY p.seq"""
    assert app.rows(cast, grid) == [("left",), ("tie",), ("none",)]
    vote.get_by_role("button", name="Close", exact=False).last.click()
    vote.wait_for(state="hidden")

    with seeds.expect_download() as taken:
        seeds.locator(".sg-does").get_by_role("button", name="Zip", exact=True).click()
    taken.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as packed:
        assert sum(name.endswith(".png") for name in packed.namelist()) == 6
        (manifest,) = [name for name in packed.namelist() if name.endswith("manifest.json")]
        assert "a blue square" in json.dumps(json.loads(packed.read(manifest)))
    fill(seeds, "something else", "1-8")
    seeds.locator("#seeds-more").get_by_text("Size, and settings").click()
    drop = seeds.locator("#seeds-drop input[type=file]")
    drop.set_input_files(file)
    seeds.wait_for_function("document.querySelector('#seeds-prompt textarea').value === 'a blue square'")
    assert [field(seeds, f"seeds-{name}").input_value() for name in ("seeds", "strengths")] == ["12", "0.5"]
    parameters = "a red star\nNegative prompt: rain\nSteps: 2, Sampler: <b>, CFG scale: 99, Seed: 3"
    for text, said in (
        (parameters, "Its sampler '<b>' was left out"),
        ("", "carries no generation parameters"),
    ):
        info, png = PngImagePlugin.PngInfo(), io.BytesIO()
        if text:
            info.add_text("parameters", text)
        Image.new("RGB", (8, 8)).save(png, "PNG", pnginfo=info)
        drop.set_input_files({"name": "foreign.png", "mimeType": "image/png", "buffer": png.getvalue()})
        seeds.locator(".toast-body", has_text=said).wait_for()


def test_bad_axes_are_answered_a_hostile_prompt_is_text_and_the_page_fits_a_phone(seeds):
    fill(seeds, "a green star", "1-999")
    seeds.locator("#seeds-plan", has_text="256").wait_for()
    seeds.locator("#seeds-start").click()
    seeds.locator(".toast-body", has_text="256").wait_for()
    fill(seeds, "a green star", "1-8")
    seeds.locator("#seeds-plan", has_text="8 seeds × 2 columns = 16 images").wait_for()
    seeds.locator("#seeds-random").click()
    value = "document.querySelector('#seeds-seeds').querySelector('input, textarea').value"
    seeds.wait_for_function(f"{value} !== '1-8'")
    first, last = map(int, seeds.evaluate(value).split("-"))
    assert last - first == 7

    prompt = "a green star <img src=x onerror=window.hacked=1> ${window.hacked=2}"
    seeds.set_viewport_size({"width": 390, "height": 844})
    make(seeds, prompt, "1-2", "0.5,1")
    assert seeds.evaluate("document.documentElement.scrollWidth") <= 390
    assert seeds.locator(".sg-prompt").inner_text() == prompt
    seeds.locator(".sg-cell").nth(1).click()
    seeds.locator("dialog.pv[open] .pv-image").first.wait_for()
    assert prompt in seeds.locator("dialog.pv[open]").text_content()
    assert seeds.evaluate("document.querySelector('dialog.pv').scrollWidth") <= 390
    seeds.keyboard.press("Escape")
    seeds.locator("#seeds-earlier").get_by_text("Earlier grids").click()
    assert seeds.locator("#seeds-list tbody td").first.inner_text() == prompt
    assert seeds.evaluate("window.hacked") is None
