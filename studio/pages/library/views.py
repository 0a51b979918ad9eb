"""Values of the Library's components: samples as cards, the words and the history of one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from data.store.labels import expected
from studio.components import notices
from studio.components.cards import cards
from studio.components.table import badge, number, rows
from studio.components.thumbnails import thumbnail
from studio.images import options
from studio.studio import Studio
from studio.times import moment

SIDE = 224  # pixels of a picture on a card
NONE = "No image matches. Take a filter away, or use fewer words."
EMPTY = "There is no image yet. Compare a prompt: each image of it comes here by itself."
SAID = {
    "set": "set",
    "confirmed": "confirmed",
    "clear": "taken back",
    "undo": "undone",
    "submit": "done",
    "skip": "skipped",
    "flag": "flag",
    "note": "note",
    "gold": "gold",
}
SOURCES = {
    "gold": "gold",
    "vlm": "VLM",
    "human": "people",
    "confirmed": "confirmed",
    "simulated": "simulated",
    "calibrated": "calibrated",
}
NO_FIGURE = {
    "uncertain": "Images that the VLM has not scored are not in this order.",
    "disagreement": "Only images with a word that two people scored are in this order.",
    **dict.fromkeys(("lowest", "highest"), "Images of which no word has a score are not in this order."),
}


def figure(value: float | None) -> str:
    """A score with at most one decimal, or – for none."""
    return "–" if value is None else f"{value:.1f}".removesuffix(".0")


def method(sample: Mapping[str, Any]) -> str:
    if sample["method"] != "projected":
        return "no projector" if sample["method"] == "none" else str(sample["method"])
    return "projected" if sample["strength"] == 1 else f"projected {sample['strength']:g}"


def gallery(studio: Studio, samples: Sequence[Mapping[str, Any]], empty: str) -> dict[str, Any]:
    """Samples as cards."""
    shown = []
    for sample in samples:
        path = str(studio.settings.home / sample["image_path"]) if sample["image_path"] else None
        badges = []
        if sample["flags"]:
            badges.append(badge("flagged", "bad"))
        if sample["people"]:
            badges.append(badge(notices.counted(sample["people"], "person", "people"), "now"))
        if sample["points"]:
            badges.append(badge(f"differ by {figure(sample['points'])}", ""))
        shown.append(
            {
                "key": sample["id"],
                "image": thumbnail(path, sample["image_sha256"] or "", SIDE),
                "title": sample["prompt"],
                "about": f"seed {sample['seed']}, {method(sample)}",
                "mark": "" if sample["mean"] is None else f"{figure(sample['mean'])} of 9",
                "badges": badges,
            }
        )
    return cards(shown, empty=empty)


def count(results: Mapping[str, Any], page: int, sort: str) -> str:
    """How many images match, and which page this is."""
    if not results["samples"]:
        return ""
    images = notices.counted(results["count"], "image")
    text = f"More than {images}" if results["more"] else images
    note = f" {NO_FIGURE[sort]}" if sort in NO_FIGURE else ""
    return f'<p class="library-count" role="status">{text}, page {page + 1}.{note}</p>'


def about(sample: Mapping[str, Any], gone: bool) -> str:
    """What one sample is, in a few lines."""
    size = f"{sample['width']} × {sample['height']}"
    origin = f" of {sample['prompt_set']}" if sample["prompt_set"] else ""
    lines = [
        f"seed {sample['seed']}, {method(sample)}, {sample['steps']} steps, guidance {sample['guidance']:g}, {size}",
        f"{sample['split']} prompt{origin}, made {moment(sample['created'])}",
    ]
    if sample["projector_run"]:
        lines.append(f"by the projector run {sample['projector_run']}")
    lines += options.about(sample)
    problem = notices.notice("The file of this image is gone.", problem=True) if gone else ""
    body = "".join(notices.quiet(line) for line in lines)
    return f'{problem}<p class="ask">{escape(sample["prompt"])}</p>{body}'


def words(current: Mapping[int, Mapping[str, Any]], labels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The scores of each word: the label that training takes, each machine's, each person's."""
    label = {word["index"]: word for word in labels}
    bare: dict[str, Any] = {"people": {}, **dict.fromkeys(SOURCES)}
    every = {
        index: current.get(index) or {**bare, "word": label[index]["word"]}
        for index in sorted({*current, *label})
    }
    people = sorted({who for said in current.values() for who in said["people"]})
    order = ("vlm", "calibrated", "simulated", "confirmed")
    machines = [name for name in order if any(said[name] for said in current.values())]
    body = []
    for index, said in every.items():
        scores = [label.get(index, {}).get("label"), *(_value(said[name]) for name in machines)]
        scores += [said["people"].get(who) for who in people]
        body.append([said["word"] or f"word {index}", *(number(figure(score)) for score in scores)])
    head = ["word", *(number(name) for name in ("label", *(SOURCES[m] for m in machines), *people))]
    return rows(head, body, empty="Nobody has scored this image yet.")


def _value(event: Mapping[str, Any] | None) -> float | None:
    """The digit of an event, else its expected score."""
    if event is None:
        return None
    return expected(event) if event["score"] is None else event["score"]


def remarks(standing: Sequence[Mapping[str, Any]]) -> str:
    """Flags and notes, as HTML."""
    return "".join(
        f'<p class="quiet"><span class="badge{" bad" if r["kind"] == "flag" else ""}">{escape(r["kind"])}</span> '
        f"{escape(r['text'])} <em>— {escape(r['who'])}, {escape(moment(r['created']))}</em></p>"
        for r in standing
    )


def history(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    body = []
    for event in events:
        change: Any = SAID.get(event["text"], event["text"]) if event["what"] == "undo" else event["text"]
        if event["word_index"] is not None:
            change = f"{figure(event['before'])} → {figure(event['after'])}"
        what = SAID.get(event["what"], event["what"])
        who = "VLM" if event["source"] == "vlm" else event["who"]
        body.append([moment(event["created"]), who, what, event["word"], change])
    head, none = ["when", "who", "what", "word", "score or text"], "Nothing was said of this image yet."
    return rows(head, body, empty=none)
