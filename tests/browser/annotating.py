"""A studio with images to annotate, for browser tests: drawn by the shapes world's renderer, scored by a made-up VLM.

Fakes, because what these tests are about is the page: no diffuser need make the images, and every VLM digit is known.
"""

from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from data.shapes.render import render
from data.shapes.scenes import parse
from data.store import Store
from tests import tiny
from tests.browser.conftest import serving

CHIPS = "#annotate-words [role=spinbutton]"
PROMPT = "a red circle above a blue square"
WORDS = {1: "red", 2: "circle", 3: "above", 5: "blue", 6: "square"}
VLM = 8  # the digit that the VLM gives every word
MEAN = 7.35  # and its expected score


NOTHING_ELSE = (7, "nothing else")  # after the words


def fill(home: Path, count: int, whole: bool = False) -> None:
    """So many samples of one prompt, each with an image and the VLM's scores. whole: with *nothing else*; else as they
    were stored before there was that."""
    store = Store(home / "studio.db")
    (home / "images").mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        Image.fromarray(render(parse(PROMPT), seed, tiny.SIZE).image).save(home / "images" / f"{seed}.png")
    ids = store.samples.add(
        {"prompt": PROMPT, "n_words": 7 + whole, "seed": seed, "backbone": "none", "width": 64, "height": 64,
         "steps": 2, "guidance": 5.0, "prompt_set": "shapes", "image_path": f"images/{seed}.png"}
        for seed in range(count)
    )  # fmt: skip
    spread = [0.0] * 6 + [0.25, 0.25, 0.4, 0.1]
    store.scores.add(
        {
            "sample": id,
            "word_index": index,
            "word": word,
            "source": "vlm",
            "score": VLM,
            "distribution": spread,
        }
        for id in ids
        for index, word in [*WORDS.items(), *([NOTHING_ELSE] if whole else [])]
    )


@contextmanager
def annotating(folder: Path, models: Path, count: int, whole: bool = False):
    fill(folder / "home", count, whole)
    with serving(folder / "home", models) as app:
        yield app


def enter(browse, app, name: str, blind: bool = False, narrow: bool = False, **context):
    """A browser of its own at Annotate, under a name."""
    page = browse(app.url, **context)
    if narrow:
        page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("tab", name="Annotate").click()
    page.locator(CHIPS).first.wait_for()
    if blind:
        page.locator("#blind input").check()
        page.locator(f"{CHIPS} .ws-digit", has_text="?").first.wait_for()
    field = page.locator("#who").locator("input, textarea")
    field.fill(name)
    field.press("Enter")
    page.locator("#annotate-progress", has_text=f"done by {name}").wait_for()
    page.locator(CHIPS).first.focus()
    return page


def shown(page) -> str:
    return page.locator("#annotate-words .word-scores").get_attribute("data-sample")


def moved(page, before: str) -> str:
    """Waits for another image than this one, ready for keys; which."""
    page.wait_for_function(
        """before => { const root = document.querySelector('#annotate-words .word-scores');
        return root.dataset.sample && root.dataset.sample !== before && root.querySelector('[role=spinbutton]')
            && !root.classList.contains('ws-leaving'); }""",
        arg=before,
    )
    page.locator(CHIPS).first.focus()
    return shown(page)


def settled(page) -> None:
    page.locator(".ws-state[data-pending='0']", has_text="Saved").wait_for()


def digits(page) -> list[str]:
    return [text.strip(" ✎\n") for text in page.locator(f"{CHIPS} .ws-digit").all_inner_texts()]


def kept(app, who: str) -> list[tuple]:
    """(sample, word, score) of the scores that stand, by word."""
    return app.rows(
        """SELECT sample, word, score FROM scores e WHERE source = 'human' AND who = ? AND kind = 'set'
        AND NOT EXISTS (SELECT 1 FROM scores n WHERE n.supersedes = e.id) ORDER BY sample, word_index""",
        who,
    )
