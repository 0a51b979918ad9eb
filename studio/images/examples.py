"""Example pairs of images in an empty store, so that there is something to look at and to correct at once.

`make` (`python -m studio examples`) lets the models in use make them: prompts of a fixed list, seeds 1 and 2, both
methods. None is picked by hand, but all are checked by the detector: a prompt is skipped where a ▲ is false, or where
fewer than 95 % of the VLM's digits are on the right side of 5. To be fair the other way, one more pair is picked: the
first one, seed after seed, on which the projector breaks a word that held, as the VLM and the detector read it; the index
says how many pairs were looked at to find it. `add` puts them into the store as ordinary samples with ordinary scores, but
only beside the very models that made them.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core import checkpoint
from core.jsonfile import read
from core.words import split, units_of
from studio.images import pictures
from studio.images.detecting import Opinion, opinion_of
from studio.images.views import Pair, SampleView, check_request, shared, totals

if TYPE_CHECKING:
    from studio.settings import Settings
    from studio.studio import Studio

log = logging.getLogger("studio")
PROMPTS = (
    "a red circle above a blue square",
    "a green star to the left of an orange triangle",
    "a purple square below a yellow circle",
    "a blue triangle and a red star",
    "a yellow star above a green circle",
    "an orange circle and a purple triangle",
    "a blue star to the right of a green square",
    "a green triangle above a yellow square",
    "a purple star below an orange circle",
    "a red triangle and a green square",
    "a yellow circle to the left of a blue star",
    "an orange square above a purple star",
    "a blue circle below an orange triangle",
    "a green circle and an orange star",
    "a red square to the right of a yellow triangle",
    "a purple triangle above a green star",
    "a yellow square and a blue circle",
    "an orange triangle below a purple circle",
    "a red star to the left of a blue circle",
    "a green square and a yellow triangle",
    "a purple circle above an orange square",
    "a blue square below a red triangle",
    "a yellow triangle to the right of a purple star",
    "an orange star and a blue triangle",
)  # in the order in which they are taken
SHOWN = 6  # prompts
SEEDS = (1, 2)
SEARCH = 40  # seeds that are searched for a pair that the projector breaks
HOLDS = 5  # the score from which a word holds
RIGHT = 0.95  # of the digits must be on the right side of that
RISE = 0.05  # of a mean score, from which the page shows a ▲
SET = "examples"  # the prompt set of their samples
INDEX = "index.json"
FORMAT = 1
MODELS = ("backbone", "scorer", "projector")
SHARED = (
    "strength",
    "steps",
    "guidance",
    "height",
    "width",
    "backbone",
    "backbone_revision",
    "sampler",
    "negative",
)
OWN = ("id", "prompt", "word_rules", "seed", "method", "image_sha256", "noise_sha256", "group_id")

Judge = Callable[[str, np.ndarray], Opinion | None]


# ---- making -------------------------------------------------------------------------------------------------------


def make(
    settings: Settings,
    folder: Path,
    begin: Callable[[Settings], Studio],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
    prompts: tuple[str, ...] = PROMPTS,
    seeds: tuple[int, ...] = SEEDS,
    steps: int | None = None,
    search: int = SEARCH,
    count: int = SHOWN,
    judge: Judge = opinion_of,
    force: bool = False,
) -> dict[str, Any]:
    """Write the images and index.json to `folder`; the index. They are made in a temporary store.

    begin: makes a studio from settings. count: prompts that are shown, the first of `prompts` that are `true` by the
    judge. ValueError, and nothing written, where there are fewer, or where less than RIGHT of the digits are right; with
    `force` skipped prompts make up the number, and the share is only noted.
    """
    with tempfile.TemporaryDirectory() as home:
        studio = begin(replace(settings, home=Path(home), examples="none"))
        digests = _digests(settings)
        if None in digests.values():
            raise ValueError("Examples are made by models with a manifest: choose folders that have one.")
        sampling = studio.models.sampling()
        settled = (steps or sampling["steps"], sampling["guidance"])

        def compared(prompt: str, seeds: list[int]) -> list[Pair]:
            if stop():
                raise ValueError("Stopped; no example was written.")
            *_, last = studio.comparison.compare(check_request(prompt, seeds, *settled))
            return last.pairs

        kept: dict[str, list[Pair]] = {}
        skipped: dict[str, list[Pair]] = {}  # as they are not true
        for prompt in prompts:
            if len(kept) == count:
                break
            pairs = compared(prompt, list(seeds))
            (kept if true(pairs, judge) else skipped)[prompt] = pairs
            on_progress(len(kept), count)
        if len(kept) < count and not force:
            raise ValueError(
                f"On {len(skipped)} of the {len(prompts)} prompts the detector finds a ▲ or too many digits false, so "
                f"{len(kept)} are left and {count} are shown. Train scorer and projector on, or write them all the same (--force)."
            )
        for prompt in list(skipped)[: count - len(kept)]:
            kept[prompt] = skipped.pop(prompt)
        chosen = [pair for pairs in kept.values() for pair in pairs]
        looked, broken = len(chosen), None
        for seed, prompt in ((seed, prompt) for seed in range(1, search + 1) for prompt in kept):
            if broken or seed in seeds:
                continue
            (pair,) = compared(prompt, [seed])
            looked += 1
            if breaks(pair, judge) and not false_rises(pair, judge):
                chosen.append(pair)
                broken = {"prompt": prompt, "seed": seed, "looked": looked}
        right, digits = right_digits(chosen, judge)
        if right < RIGHT * digits and not force:
            raise ValueError(
                f"By the detector {right} of {digits} digits ({right / digits:.1%}) are on the right side of {HOLDS}, and "
                f"{RIGHT:.0%} are asked for: the first page would not be true. Train the scorer on, or write them all the same "
                "(--force)."
            )
        rows = [studio.store.samples.get(view.id) for pair in chosen for view in _views(pair)]
        if {row["method"] for row in rows} != {"none", "projected"}:
            raise ValueError(studio.models.using("projector").problem or "There is no projector to show.")
        scores: dict[str, list[dict[str, Any]]] = {row["id"]: [] for row in rows}
        for event in studio.store.labels.vlm_scores():
            if event["sample"] in scores:
                scores[event["sample"]].append(event)
        false = sum(false_rises(pair, judge) for pair in chosen)
        index = {
            "format": FORMAT,
            "made_by": digests,
            "scorer_version": studio.models.scorer().version,
            **{name: rows[-1][name] for name in SHARED},
            "broken": broken,
            "checked": {"digits": digits, "right": right, "false_rises": false, "passed_over": list(skipped)},
            "samples": [_entry(row, scores[row["id"]], tuple(kept)) for row in rows],
        }
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.png"):
            old.unlink()
        for row, entry in zip(rows, index["samples"], strict=True):
            pictures.write(folder / entry["image"], (studio.settings.home / row["image_path"]).read_bytes())
        pictures.write(folder / INDEX, (json.dumps(index, indent=1) + "\n").encode())
    return index


def _views(pair: Pair) -> list[SampleView]:
    return [view for view in (pair.none, pair.projected) if view]


def right_digits(pairs: Sequence[Pair], judge: Judge) -> tuple[int, int]:
    """How many digits are on the same side of HOLDS as the judge has them, and of how many."""
    right = digits = 0
    for view in (view for pair in pairs for view in _views(pair)):
        held = _held(view, judge)
        for word in view.words:
            if word.score is not None and word.index in held:
                digits += 1
                right += (word.score >= HOLDS) == held[word.index]
    return right, digits


def true(pairs: list[Pair], judge: Judge) -> bool:
    """Whether by the judge no ▲ of a prompt's pairs is false and RIGHT of its digits are right."""
    right, digits = right_digits(pairs, judge)
    return right >= RIGHT * digits and not any(false_rises(pair, judge) for pair in pairs)


def false_rises(pair: Pair, judge: Judge) -> int:
    """How many ▲ of a pair's page are false. A word's digit rises with the projector, but by the judge the word does not
    hold, though its digit says so or it held before, or the digit comes to hold where the word held already; or the mean
    score rises where fewer words hold."""
    if pair.projected is None:
        return 0
    before, after = _held(pair.none, judge), _held(pair.projected, judge)
    if not before or not after:
        return 0
    false = 0
    for was, now in shared(pair.none, pair.projected):
        if was.score is None or now.score is None or now.score <= was.score or now.index not in after:
            continue
        held, holds = before[now.index], after[now.index]
        claims = now.score >= HOLDS
        false += (not holds and (claims or held)) or (claims and was.score < HOLDS and held)
    old, new = totals(pair.none, pair.projected)
    if old is not None and new is not None and new - old >= RISE:
        false += sum(after.values()) < sum(before.values())
    return false


def breaks(pair: Pair, judge: Judge) -> bool:
    """Whether a word that held without the projector no longer does with it, by the digits and by the judge."""
    if pair.projected is None:
        return False
    before, after = _held(pair.none, judge), _held(pair.projected, judge)
    return any(
        was.score is not None
        and now.score is not None
        and was.score >= HOLDS > now.score
        and before.get(was.index) is True
        and after.get(now.index) is False
        for was, now in shared(pair.none, pair.projected)
    )


def _held(view: SampleView, judge: Judge) -> dict[int, bool]:
    """Whether each unit of an image holds by the judge; {} where it has no opinion."""
    opinion = judge(view.prompt, pictures.read(Path(view.image_path))) if view.image_path else None
    return opinion.units if opinion else {}


def _entry(row: Mapping[str, Any], scores: list[dict[str, Any]], prompts: tuple[str, ...]) -> dict[str, Any]:
    """A sample's entry in the index."""
    words = []
    for event in scores:
        word = {"index": event["word_index"], "score": event["score"], "distribution": event["distribution"]}
        if event["features"]:
            word["features"] = base64.b64encode(event["features"]).decode()
        words.append(word)
    name = f"{prompts.index(row['prompt']) + 1}-seed{row['seed']}-{row['method']}.png"
    return {**{name: row[name] for name in OWN}, "image": name, "words": words}


def _digests(settings: Settings) -> dict[str, str | None]:
    """sha256 of the manifest of each model that an example rests on; None where there is none (a hub id)."""
    digests: dict[str, str | None] = dict.fromkeys(MODELS)
    for name in MODELS:
        with contextlib.suppress(ValueError, OSError):
            digests[name] = checkpoint.digest(getattr(settings, name))
    return digests


# ---- in the store -------------------------------------------------------------------------------------------------


def pairs(studio: Studio) -> list[tuple[str, list[Pair]]]:
    """The example pairs of the store: (prompt, a pair a seed), in the order in which they were made."""
    ids_of: dict[tuple[str, int], dict[str, str]] = {}
    for row in studio.store.samples.find(prompt_set=SET, limit=1000, newest=False):
        ids_of.setdefault((row["prompt"], row["seed"]), {})[row["method"]] = row["id"]
    by_prompt: dict[str, list[Pair]] = {}
    for (prompt, seed), ids in ids_of.items():
        if {"none", "projected"} <= set(ids):
            views = (studio.annotation.sample(ids[method]) for method in ("none", "projected"))
            by_prompt.setdefault(prompt, []).append(Pair(seed, *views))
    return list(by_prompt.items())


def broken(settings: Settings) -> dict[str, Any]:
    """The pair that was picked because the projector breaks it, and how many were looked at to find it: {prompt, seed,
    looked}; {} for none."""
    return _noted(settings, "broken", {"prompt": str, "seed": int, "looked": int})


def checked(settings: Settings) -> dict[str, int]:
    """The detector's findings on the examples: {digits, right, false_rises, passed_over: prompts}; {} for none."""
    return _noted(settings, "checked", {"digits": int, "right": int, "false_rises": int, "passed_over": len})


def _noted(settings: Settings, entry: str, fields: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """The fields of an entry of the index, each read by its function; {} where it is missing or damaged."""
    try:
        noted = read(Path(settings.examples) / INDEX)[entry]
        return {name: read_field(noted[name]) for name, read_field in fields.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def add(studio: Studio) -> int:
    """Put the examples into a store that holds nothing else yet; how many are new. Repeated, it adds only what is missing.
    A problem with them is no reason not to start: it goes to the log."""
    folder = Path(studio.settings.examples)
    try:
        return _add(studio, folder) if (folder / INDEX).is_file() else 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("The examples were left out: %s", error)
        return 0


def _add(studio: Studio, folder: Path) -> int:
    settings, store = studio.settings, studio.store
    index = read(folder / INDEX)
    if index["format"] != FORMAT or index["made_by"] != _digests(settings):
        return 0  # they were made by other models
    existing = {row["id"] for row in store.samples.find(limit=len(index["samples"]) + 1)}
    if existing - {entry["id"] for entry in index["samples"]}:
        return 0  # somebody has begun to use the store
    run = studio.models.recorded("projector", Path(settings.projector), None)
    fresh = [entry for entry in index["samples"] if entry["id"] not in existing]
    rows = []
    for entry in fresh:
        content = pictures.verified(folder / Path(entry["image"]).name, entry["image_sha256"])
        path = f"images/{entry['id'][:2]}/{entry['id']}.png"
        pictures.write(settings.home / path, content)
        rows.append(_row(index, entry, run, path) | {"split": studio.prompts.split_of(entry["prompt"])})
    store.samples.add(rows)
    unscored = {row["id"]: row for row in store.samples.find(prompt_set=SET, scored=False, limit=1000)}
    name, version = Path(settings.scorer).name, index["scorer_version"]
    source = {"source": "vlm", "scorer": name, "scorer_version": version}
    for entry in index["samples"]:
        if row := unscored.get(entry["id"]):
            store.scores.add({**event, **source} for event in _events(entry, row))
    if fresh:
        store.audit.note("", "examples", SET, {"samples": len(fresh)})
    return len(fresh)


def _row(index: Mapping[str, Any], entry: Mapping[str, Any], run: str, path: str) -> dict[str, Any]:
    projected = entry["method"] == "projected"
    return {
        **{name: index[name] for name in SHARED if name in index},  # an earlier index has no negative prompt
        **{name: entry[name] for name in OWN},
        "n_words": unit_count(entry),
        "strength": index["strength"] if projected else 0.0,
        "projector_run": run if projected else None,
        "image_path": path,
        "prompt_set": SET,
    }


def unit_count(entry: Mapping[str, Any]) -> int:
    """The number of a sample's units: its words, and *nothing else* where the index has a score of it."""
    scored = [1 + word["index"] for word in entry["words"]]
    return max(len(split(entry["prompt"], entry["word_rules"])), *scored)


def _events(entry: Mapping[str, Any], row: Mapping[str, Any]) -> list[dict[str, Any]]:
    texts = {word.index: word.text for word in units_of(row)}
    return [
        {
            "sample": entry["id"],
            "word_index": word["index"],
            "word": texts[word["index"]],
            "score": word["score"],
            "distribution": word["distribution"],
            "features": base64.b64decode(word["features"]) if "features" in word else None,
        }
        for word in entry["words"]
    ]
