"""A studio with images to annotate, for browser tests: drawn by the shapes world's renderer, scored by a made-up VLM.

Fakes, because what these tests are about is the page: no diffuser need make the images, and every VLM digit is known.
"""

from pathlib import Path

from PIL import Image

from data.shapes.render import render
from data.shapes.scenes import parse
from data.store import Store
from tests import tiny
from tests.browser.conftest import call_me, tab

CHIPS = "#annotate-words [role=spinbutton]"
PROMPT = "a red circle above a blue square"
WORDS = {1: "red", 2: "circle", 3: "above", 5: "blue", 6: "square"}
NOTHING_ELSE = (7, "nothing else")  # after the words
VLM = 8  # the digit that the VLM gives every word
MEAN = 7.35  # and its expected score
WHOLE = "whole"  # the id of a held-out image, which the queue offers nobody, with *nothing else*


def fill(home: Path, count: int) -> Store:
    """So many samples of one prompt, as they were stored before there was *nothing else*, and a held-out one with it."""
    store = Store(home / "studio.db")
    (home / "images").mkdir(parents=True, exist_ok=True)
    Image.fromarray(render(parse(PROMPT), 0, tiny.SIZE).image).save(home / "images/one.png")
    row = {"prompt": PROMPT, "n_words": 7, "backbone": "none", "width": 64, "height": 64, "steps": 2, "guidance": 5.0,
           "prompt_set": "shapes", "image_path": "images/one.png"}  # fmt: skip
    ids = store.samples.add([{**row, "seed": seed} for seed in range(count)])
    store.samples.add([{**row, "seed": count, "n_words": 8, "id": WHOLE, "split": "heldout"}])
    said = {"source": "vlm", "score": VLM, "distribution": [0.0] * 6 + [0.25, 0.25, 0.4, 0.1]}
    units = [(WHOLE, *NOTHING_ELSE), *((id, *word) for id in (*ids, WHOLE) for word in WORDS.items())]
    store.scores.add([{**said, "sample": id, "word_index": index, "word": word} for id, index, word in units])
    return store


def enter(browse, app, name: str, blind: bool = False, sample: str = "", **context):
    """A browser of its own at Annotate, at an image of its own choice or this one, under a name."""
    page = browse(f"{app.url}?sample={sample}" if sample else app.url, **context)
    if not sample:
        tab(page, "Annotate")
    page.locator(
        f"#annotate-words [data-sample='{sample}'] [role=spinbutton]" if sample else CHIPS
    ).first.wait_for()
    if blind:
        page.locator("#blind input").check()
        page.locator(f"{CHIPS} .ws-digit", has_text="?").first.wait_for()
    call_me(page, name)
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


def back(page) -> None:
    """Open Annotate anew."""
    page.reload()
    tab(page, "Annotate")
    page.locator(CHIPS).first.wait_for()


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
