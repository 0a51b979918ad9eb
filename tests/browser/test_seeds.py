"""Seeds in a real browser: a grid comes into being, is looked at, sorted, filtered, voted on, shared and taken home."""

import io
import json
import re
import zipfile

import pytest

from studio.images.png_text import read_png
from tests.browser.conftest import ready

IMAGES = ".sg-cell img"


def show(page):
    """The tab Seeds, once it knows whether there is a grid to show."""
    page.get_by_role("tab", name="Seeds", exact=True).click()
    page.locator(".seed-grid[data-known]").wait_for(state="attached")
    page.wait_for_timeout(200)  # the form is moved out of the way of a grid


def fill(page, prompt, seeds, strengths="1", steps="2"):
    drawer = page.locator("#seeds-prompt textarea")
    if not drawer.is_visible():
        page.locator("#seeds-form").get_by_text("What to draw").click()
    drawer.fill(prompt)
    for name, value in (("seeds", seeds), ("strengths", strengths), ("steps", steps)):
        page.locator(f"#seeds-{name}").locator("input, textarea").fill(value)


def make(page, prompt, seeds, strengths="1", steps="2", wait=True):
    """The id of a new grid, made whole where it is waited for."""
    old = page.locator(".seed-grid").get_attribute("data-grid") if page.locator(".sg-head").count() else None
    fill(page, prompt, seeds, strengths, steps)
    page.locator("#seeds-start").click()
    page.wait_for_function(
        "old => { const id = document.querySelector('.seed-grid').dataset.grid; return id && id !== old; }", arg=old
    )  # fmt: skip
    if wait:
        page.locator(".sg-title .badge", has_text=re.compile("^done$")).wait_for()
        page.wait_for_function("!document.querySelector('.sg-wait')")
    return page.locator(".seed-grid").get_attribute("data-grid")


@pytest.fixture
def seeds(page):
    show(page)
    return page


def rows_of(page) -> list[str]:
    return page.locator(".sg-seed b").all_inner_texts()


def test_a_reload_in_the_middle_loses_no_image(seeds, app):
    grid = make(seeds, "a red circle above a blue square", "100-107", "0.5,1", steps="40", wait=False)
    seeds.locator(IMAGES).first.wait_for()
    assert app.rows("SELECT state FROM grids WHERE id = ?", grid)[0][0] in ("queued", "running")
    seeds.reload()
    ready(seeds)
    seeds.get_by_role("tab", name="Seeds", exact=True).click()
    seeds.locator(".sg-title .badge", has_text=re.compile("^done$")).wait_for()
    seeds.wait_for_function("document.querySelectorAll('.sg-cell img').length === 24")
    assert seeds.locator(".seed-grid").get_attribute("data-grid") == grid
    assert app.rows("SELECT count(DISTINCT sample) FROM cells WHERE grid = ?", grid) == [(24,)]
    digits = seeds.locator(".sg-cell[data-sample] .sg-words b").all_inner_texts()
    assert seeds.locator("#seeds-prompt textarea").input_value() == "a red circle above a blue square"
    assert seeds.locator("#seeds-strengths textarea, #seeds-strengths input").input_value() == "0.5,1"
    assert len(digits) == 24 * 6 and all(digit in "0123456789" for digit in digits)


def test_sort_and_filter_arrange_the_rows_and_the_arrows_move_between_cells(seeds):
    make(seeds, "a green star", "1-6")
    assert rows_of(seeds) == ["1", "2", "3", "4", "5", "6"]

    def totals(column):
        cells = seeds.locator(f".sg-cell[data-column='{column}'] .sg-total b")
        return [float(text) for text in cells.all_inner_texts()]

    gains = [after - before for before, after in zip(totals(0), totals(1), strict=True)]
    seeds.locator("select[data-name='Sort by']").select_option("gain")
    best = rows_of(seeds)
    assert sorted(best) == ["1", "2", "3", "4", "5", "6"]
    assert gains[int(best[0]) - 1] >= max(gains) - 0.11  # what is shown is rounded
    seeds.locator("select[data-name='Sort by']").select_option(label="“star”")
    stars = seeds.locator(".sg-cell[data-column='1'] .sg-word:nth-child(2) b").all_inner_texts()
    assert stars == sorted(stars, reverse=True)
    seeds.get_by_role("button", name="Best first", exact=True).click()
    stars = seeds.locator(".sg-cell[data-column='1'] .sg-word:nth-child(2) b").all_inner_texts()
    assert stars == sorted(stars)
    for name in ("broken", "mended"):
        button = seeds.locator(f"[aria-label=Filter] [data-key={name}]")
        count = int(button.inner_text().split()[-1])
        button.click()
        assert len(rows_of(seeds)) == count
        assert seeds.locator(f".sg-cell .sg-{name}").count() == count
    seeds.locator("[aria-label=Filter] [data-key=all]").click()
    seeds.locator("select[data-name='Sort by']").select_option("seed")
    seeds.locator(".sg-cell[tabindex='0']").focus()
    seeds.keyboard.press("Home")
    seeds.keyboard.press("PageUp")
    seeds.keyboard.press("ArrowDown")
    seeds.keyboard.press("ArrowRight")
    here = seeds.evaluate("({...document.activeElement.dataset})")
    assert (here["seed"], here["column"]) == ("2", "1")


def test_the_viewer_flips_slides_shows_the_difference_and_steps_by_keys(seeds):
    make(seeds, "a blue square", "11-13")
    seeds.locator(".sg-cell[data-row='0'][data-column='1']").click()
    dialog = seeds.locator("dialog.pv[open]")
    dialog.locator(".pv-side").wait_for()
    assert dialog.locator(".pv-image").count() == 2
    seeds.keyboard.press("2")
    before = dialog.locator(".pv-over").evaluate("node => node.style.getPropertyValue('--cut')")
    seeds.keyboard.press("ArrowLeft")
    assert dialog.locator(".pv-over").evaluate("node => node.style.getPropertyValue('--cut')") != before
    seeds.keyboard.down("Space")
    assert dialog.locator(".pv-flipped .pv-tag").inner_text() == "projected"
    seeds.keyboard.up("Space")
    assert dialog.locator(".pv-flipped").count() == 0
    assert dialog.locator(".pv-flip .pv-tag").inner_text() == "none"
    seeds.keyboard.press("4")
    dialog.locator(".pv-said", has_text="Mean difference").wait_for()
    seeds.keyboard.press("ArrowDown")
    dialog.locator(".pv-title b", has_text="Seed 12").wait_for()
    seeds.keyboard.press("+")
    assert dialog.locator(".pv-scale").inner_text() == "1.5×"
    seeds.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert seeds.evaluate("document.activeElement.dataset.seed") == "12"
    seeds.locator(".sg-cell[data-row='2'][data-column='1']").click()
    dialog.get_by_role("button", name="Use seed").last.click()
    seeds.wait_for_function(
        "document.querySelector('#seeds-seeds').querySelector('input, textarea').value === '13'"
    )


def test_a_point_of_the_paired_plot_shows_both_images_and_opens_them(seeds):
    make(seeds, "a blue square", "11-13")
    seeds.get_by_role("button", name="By seed", exact=True).click()
    point = seeds.locator(".sg-point").first
    point.focus()
    assert seeds.locator(".sg-card img").count() == 2
    seeds.keyboard.press("Enter")
    seeds.locator("dialog.pv[open]").wait_for()
    seeds.keyboard.press("Escape")
    seeds.get_by_role("button", name="By word", exact=True).click()
    assert seeds.locator(".sg-changes .sg-name").all_inner_texts() == ["blue", "square", "nothing else"]


def test_a_blind_vote_is_stored_and_names_the_methods_only_at_its_end(seeds, app):
    grid = make(seeds, "a purple star", "21-23")
    seeds.get_by_role("button", name="Blind vote", exact=True).click()
    dialog = seeds.locator("dialog.bv[open]")
    dialog.locator(".bv-pair img").nth(1).wait_for()
    for n, key in enumerate(("1", "ArrowDown", "9"), 1):
        assert "projected" not in dialog.inner_text() and "none" not in dialog.inner_text().lower().split()
        seeds.keyboard.press(key)
        said = ".bv-result" if n == 3 else ".bv-state"
        dialog.locator(said, has_text="projected" if n == 3 else f"{n} of 3").wait_for()
    cast = app.rows(
        """SELECT p.choice FROM preferences p JOIN cells c ON c.sample = p.left_sample WHERE c.grid = ?
        ORDER BY p.seq""",
        grid,
    )
    assert cast == [("left",), ("tie",), ("none",)]
    dialog.get_by_role("button", name="Close", exact=False).last.click()
    dialog.wait_for(state="hidden")


def test_links_open_a_grid_and_a_sample_and_an_unknown_one_gets_a_sentence(seeds, browse, app):
    grid = make(seeds, "a green star", "1-6")
    sample = app.rows("SELECT sample FROM cells WHERE grid = ? AND place = 3", grid)[0][0]
    other = browse(f"{app.url}?grid={grid}")
    other.locator(IMAGES).nth(11).wait_for()
    assert other.locator(".sg-prompt").inner_text() == "a green star"
    other = browse(f"{app.url}?sample={sample}")
    other.locator(f"#annotate-words [data-sample='{sample}'] [role=spinbutton]").first.wait_for()
    other.wait_for_function("!location.search.includes('sample')")
    other = browse(f"{app.url}?grid=nosuchgrid")
    other.locator("#seed-grid .studio-notice", has_text="nosuchgrid").wait_for()
    assert other.locator("#seeds-example").is_visible()
    other = browse(f"{app.url}?sample=nosuchsample")
    other.locator(".toast-body", has_text="nosuchsample").wait_for()


def test_a_png_and_a_zip_carry_their_settings_and_a_dropped_png_fills_the_form(seeds, tmp_path):
    make(seeds, "a green star", "5, 6", "0.5")
    seeds.locator(".sg-cell[data-row='1'][data-column='1']").click()
    with seeds.expect_download() as taken:
        seeds.locator("dialog.pv[open] a[download]").last.click()
    file = tmp_path / "one.png"
    taken.value.save_as(file)
    told = read_png(file)
    assert (told["prompt"], told["seed"], told["strength"]) == ("a green star", 6, 0.5)
    seeds.keyboard.press("Escape")
    with seeds.expect_download() as taken:
        seeds.locator(".sg-does").get_by_role("button", name="Zip", exact=True).click()
    taken.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as packed:
        assert sum(name.endswith(".png") for name in packed.namelist()) == 4
        (manifest,) = [name for name in packed.namelist() if name.endswith("manifest.json")]
        assert "a green star" in json.dumps(json.loads(packed.read(manifest)))
    fill(seeds, "something else", "1-8")
    seeds.locator("#seeds-more").get_by_text("Size, and settings").click()
    seeds.locator("#seeds-drop input[type=file]").set_input_files(file)
    seeds.wait_for_function("document.querySelector('#seeds-prompt textarea').value === 'a green star'")
    assert seeds.locator("#seeds-seeds").locator("input, textarea").input_value() == "6"
    assert seeds.locator("#seeds-strengths").locator("input, textarea").input_value() == "0.5"
    from PIL import Image, PngImagePlugin

    told = PngImagePlugin.PngInfo()
    told.add_text(
        "parameters", "a red star\nNegative prompt: rain\nSteps: 2, Sampler: <b>, CFG scale: 99, Seed: 3"
    )
    foreign = io.BytesIO()
    Image.new("RGB", (8, 8)).save(foreign, "PNG", pnginfo=told)
    dropped = {"name": "foreign.png", "mimeType": "image/png", "buffer": foreign.getvalue()}
    seeds.locator("#seeds-drop input[type=file]").set_input_files(dropped)
    seeds.locator(".toast-body", has_text="Its negative prompt was left out").wait_for()
    plain = io.BytesIO()
    Image.new("RGB", (8, 8)).save(plain, "PNG")
    empty = {"name": "empty.png", "mimeType": "image/png", "buffer": plain.getvalue()}
    seeds.locator("#seeds-drop input[type=file]").set_input_files(empty)
    seeds.locator(".toast-body", has_text="carries no generation parameters").wait_for()


def test_stop_keeps_what_is_made_and_go_on_makes_the_rest(seeds, app):
    grid = make(seeds, "a yellow triangle", "300-307", steps="60", wait=False)
    seeds.locator(IMAGES).first.wait_for()
    seeds.locator(".sg-stop").click()
    seeds.locator(".sg-title .badge", has_text="stopped").wait_for()
    ((kept,),) = app.rows("SELECT count(*) FROM cells WHERE grid = ?", grid)
    assert 0 < kept < 16
    seeds.get_by_role("button", name="Go on", exact=True).click()
    seeds.locator(".sg-title .badge", has_text=re.compile("^done$")).wait_for()
    assert app.rows("SELECT count(*) FROM cells WHERE grid = ?", grid) == [(16,)]


def test_bad_axes_are_answered_by_a_sentence_and_randomise_keeps_their_number(seeds):
    fill(seeds, "a green star", "1-999")
    seeds.locator("#seeds-plan", has_text="256").wait_for()
    seeds.locator("#seeds-start").click()
    seeds.locator(".toast-body", has_text="256").wait_for()
    fill(seeds, "a green star", "1-8")
    seeds.locator("#seeds-plan", has_text="8 seeds × 2 columns = 16 images").wait_for()
    seeds.locator("#seeds-random").click()
    field = "document.querySelector('#seeds-seeds').querySelector('input, textarea').value"
    seeds.wait_for_function(f"{field} !== '1-8'")
    first, last = map(int, seeds.evaluate(field).split("-"))
    assert last - first == 7


def test_a_hostile_prompt_is_text_on_the_page_and_in_the_list(seeds):
    prompt = "a green star <img src=x onerror=window.hacked=1> ${window.hacked=2}"
    make(seeds, prompt, "1")
    assert seeds.locator(".sg-prompt").inner_text() == prompt
    seeds.locator(".sg-cell").first.click()
    seeds.locator("dialog.pv[open] .pv-prompt").wait_for()
    seeds.keyboard.press("Escape")
    seeds.locator("#seeds-earlier").get_by_text("Earlier grids").click()
    assert seeds.locator("#seeds-list tbody td").first.inner_text() == prompt
    assert seeds.evaluate("window.hacked") is None


def test_the_page_fits_a_phone(browse, app):
    page = browse(app.url)
    page.set_viewport_size({"width": 390, "height": 844})
    ready(page)
    show(page)
    make(page, "a green star", "1-6", "0.5,1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".sg-cell").nth(1).click()
    page.locator("dialog.pv[open] .pv-image").first.wait_for()
    assert page.evaluate("document.querySelector('dialog.pv').scrollWidth") <= 390
