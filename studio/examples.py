"""Example pairs that an empty studio begins with, so that there is something to look at and to correct at once.

`make` (`python -m studio examples`) lets the models in use make them: fixed prompts, seeds 1 and 2, both methods. None of
these is picked. One pair more is picked, to be fair the other way: the first one, seed after seed, on which the projector
breaks a word that held; the index says how many pairs were looked at to find it. `add` puts them into the store as
ordinary samples with ordinary scores, but only beside the very models that made them: to others they would be foreign.
"""

from __future__ import annotations

import base64
import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from core import checkpoint
from core.words import split, stored_units
from studio import pictures
from studio.views import Pair, check_request

PROMPTS = (
    "a red circle above a blue square",
    "a green star to the left of an orange triangle",
    "a purple square below a yellow circle",
    "a blue triangle and a red star",
    "a yellow star above a green circle",
    "an orange circle and a purple triangle",
)
SEEDS = (1, 2)
SEARCH = 40  # seeds that are looked through for a pair that the projector breaks
HOLDS = 5  # a score from which on a word shows
SET = "examples"  # the prompt set of their samples
INDEX = "index.json"
FORMAT = 1
MODELS = ("backbone", "scorer", "projector")
SHARED = (
    "strength", "steps", "guidance", "height", "width", "backbone", "backbone_revision", "sampler",
)  # fmt: skip
OWN = ("id", "prompt", "seed", "method", "image_sha256", "noise_sha256", "group_id")

log = logging.getLogger("studio")


def make(
    settings: Any,
    folder: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
    prompts: tuple[str, ...] = PROMPTS,
    seeds: tuple[int, ...] = SEEDS,
    steps: int | None = None,
    search: int = SEARCH,
) -> dict[str, Any]:
    """Write the images and index.json to `folder`; what the index holds. Made in a store of their own."""
    from studio.service import Studio

    with tempfile.TemporaryDirectory() as home:
        studio = Studio(replace(settings, home=Path(home), examples="none"))
        own = studio.models.sampling()
        digests = _digests(settings)
        if None in digests.values():
            raise ValueError(
                "Examples are made by models that have a manifest: choose folders that have one."
            )
        steps = steps or own["steps"]
        found, worse = [], None
        for prompt in prompts:
            found += _compared(studio, prompt, list(seeds), steps, own["guidance"])
            on_progress(len(found), len(prompts) * len(seeds))
        looked = len(found)
        for seed, prompt in ((seed, prompt) for seed in range(1, search + 1) for prompt in prompts):
            if worse or seed in seeds:
                continue
            if stop():
                raise ValueError("Stopped; no example was written.")
            (pair,) = _compared(studio, prompt, [seed], steps, own["guidance"])
            looked += 1
            if breaks(pair):
                found.append(pair)
                worse = {"prompt": prompt, "seed": seed, "looked": looked}
        rows = [
            studio.store.sample(view.id) for pair in found for view in (pair.none, pair.projected) if view
        ]
        if {row["method"] for row in rows} != {"none", "projected"}:
            raise ValueError(studio.models.using("projector").problem or "There is no projector to show.")
        scores: dict[str, list[dict[str, Any]]] = {row["id"]: [] for row in rows}
        for said in studio.store.vlm_scores():
            if said["sample"] in scores:
                scores[said["sample"]].append(said)
        index = {
            "format": FORMAT,
            "made_by": digests,
            "scorer_version": studio.models.scorer().version,
            **{name: rows[-1][name] for name in SHARED},
            "broken": worse,
            "samples": [_entry(row, scores[row["id"]], prompts) for row in rows],
        }
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.png"):
            old.unlink()
        for row, entry in zip(rows, index["samples"], strict=True):
            pictures.write(folder / entry["image"], (studio.settings.home / row["image_path"]).read_bytes())
        pictures.write(folder / INDEX, (json.dumps(index, indent=1) + "\n").encode())
    return index


def add(studio: Any) -> int:
    """Put the examples into a store that holds nothing else yet; how many are new. Repeated, it adds what is missing
    and no more. A problem with them is no reason not to start: it goes to the log."""
    try:
        return _add(studio)
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("The examples were left out: %s", error)
        return 0


def pairs(studio: Any) -> list[tuple[str, list[Pair]]]:
    """The example pairs of the store: (prompt, a pair a seed), in the order in which they were made."""
    found: dict[tuple[str, int], dict[str, str]] = {}
    for row in studio.store.samples(prompt_set=SET, limit=1000, newest=False):
        found.setdefault((row["prompt"], row["seed"]), {})[row["method"]] = row["id"]
    by_prompt: dict[str, list[Pair]] = {}
    for (prompt, seed), ids in found.items():
        if {"none", "projected"} <= set(ids):
            pair = Pair(seed, studio.sample(ids["none"]), studio.sample(ids["projected"]))
            by_prompt.setdefault(prompt, []).append(pair)
    return list(by_prompt.items())


def broken(settings: Any) -> dict[str, Any]:
    """Which pair was picked because the projector breaks it, and how many were looked at to find it: {prompt, seed,
    looked}; {} where none was found."""
    try:
        index = json.loads((Path(settings.examples) / INDEX).read_text(encoding="utf-8"))
        found = index["broken"] or {}
        return {"prompt": str(found["prompt"]), "seed": int(found["seed"]), "looked": int(found["looked"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _compared(studio: Any, prompt: str, seeds: list[int], steps: int, guidance: float) -> list[Pair]:
    made: list[Pair] = []
    for update in studio.compare(check_request(prompt, seeds, steps, guidance)):
        made = update.pairs or made
    return made


def breaks(pair: Pair) -> bool:
    """Whether a word that held without the projector no longer does with it."""
    after = {word.index: word.score for word in pair.projected.words} if pair.projected else {}
    return any(
        word.score is not None and word.score >= HOLDS and (after.get(word.index) or 0) < HOLDS
        for word in pair.none.words
        if after.get(word.index) is not None
    )


def _entry(row: Mapping[str, Any], scores: list[dict[str, Any]], prompts: tuple[str, ...]) -> dict[str, Any]:
    """A sample as the index has it."""
    words = []
    for said in scores:
        word = {"index": said["word_index"], "score": said["score"], "distribution": said["distribution"]}
        if said["features"]:
            word["features"] = base64.b64encode(said["features"]).decode()
        words.append(word)
    name = f"{prompts.index(row['prompt']) + 1}-seed{row['seed']}-{row['method']}.png"
    return {**{name: row[name] for name in OWN}, "image": name, "words": words}


def _digests(settings: Any) -> dict[str, str | None]:
    """sha256 of the manifest of each model that an example rests on; None where there is none (a hub id)."""
    found: dict[str, str | None] = {}
    for name in MODELS:
        try:
            found[name] = checkpoint.digest(getattr(settings, name))
        except (ValueError, OSError):
            found[name] = None
    return found


def _add(studio: Any) -> int:
    settings, store = studio.settings, studio.store
    if settings.examples == "none":
        return 0
    folder = Path(settings.examples)
    if not (folder / INDEX).is_file():
        return 0
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    if index["format"] != FORMAT or index["made_by"] != _digests(settings):
        return 0  # of other models than those in use
    there = {row["id"]: row for row in store.samples(limit=len(index["samples"]) + 1)}
    if set(there) - {entry["id"] for entry in index["samples"]}:
        return 0  # somebody has begun
    run = studio.models.recorded("projector", Path(settings.projector), None)
    fresh = [entry for entry in index["samples"] if entry["id"] not in there]
    rows = []
    for entry in fresh:
        content = (folder / Path(entry["image"]).name).read_bytes()
        if pictures.sha256(content) != entry["image_sha256"]:
            raise ValueError(f"The example {entry['image']} is not the image that the index names.")
        path = f"images/{entry['id'][:2]}/{entry['id']}.png"
        pictures.write(settings.home / path, content)
        rows.append(_row(index, entry, run, path) | {"split": studio.prompts.split_of(entry["prompt"])})
    store.add_samples(rows)
    silent = {row["id"] for row in store.samples(prompt_set=SET, scored=False, limit=1000)}
    store.add_scores(
        event
        for entry in index["samples"]
        if entry["id"] in silent
        for event in _events(index, entry, settings)
    )
    if fresh:
        store.note_audit("", "examples", SET, {"samples": len(fresh)})
    return len(fresh)


def _row(index: Mapping[str, Any], entry: Mapping[str, Any], run: str, path: str) -> dict[str, Any]:
    projected = entry["method"] == "projected"
    return {
        **{name: index[name] for name in SHARED},
        **{name: entry[name] for name in OWN},
        "strength": index["strength"] if projected else 0.0,
        "projector_run": run if projected else None,
        "image_path": path,
        "prompt_set": SET,
        "n_words": _units(entry),
    }


def _units(entry: Mapping[str, Any]) -> int:
    """How many units a sample has: the words, and *nothing else* where the index says something of it."""
    return max(len(split(entry["prompt"])), 1 + max((word["index"] for word in entry["words"]), default=-1))


def _events(index: Mapping[str, Any], entry: Mapping[str, Any], settings: Any) -> list[dict[str, Any]]:
    texts = {word.index: word.text for word in stored_units(entry["prompt"], _units(entry))}
    return [
        {
            "sample": entry["id"],
            "word_index": word["index"],
            "word": texts[word["index"]],
            "source": "vlm",
            "score": word["score"],
            "distribution": word["distribution"],
            "features": base64.b64decode(word["features"]) if "features" in word else None,
            "scorer": Path(settings.scorer).name,
            "scorer_version": index["scorer_version"],
        }
        for word in entry["words"]
    ]
