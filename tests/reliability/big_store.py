"""A store of a million word scores, made at once: ``python -m tests.reliability.big_store FOLDER``.

FOLDER becomes a STUDIO_HOME: the database of the real schema, and a few images that the samples share. All of it is
drawn from one seed: prompts of several sets, methods and splits, the VLM's distributions with features, what a dozen
people said (with corrections of corrections), submissions, skips and remarks. The people worked as people do: most
took the images that the queue gave first, so that the next one lies behind thousands that are done.

It is written in one transaction by plain SQL, for ``add_scores`` takes an hour over it; the triggers that keep the
store append-only wait meanwhile and are put back as they were, and the caches are filled by the store's own SQL.
"""

import argparse
import functools
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from core.words import CURRENT, split
from data.store import Store, checks
from data.store.database import rows
from data.store.samples import COLUMNS, checked_sample
from data.store.schema import DISAGREEMENT, MEANS, POOLS
from data.store.scores import FIELDS
from studio.images import pictures

PARTS = (
    "large small tiny huge".split(),
    "red green blue yellow purple orange white black".split(),
    "circle square triangle star heart ring cross diamond".split(),
    "above below beside under behind near".split(),
)
SETS = ("shapes_train", "shapes_own", "geneval", "t2i_compbench", "partiprompts", "dsg", "compared", "")
METHODS = ("none", "projected", "pag", "none", "projected")
PEOPLE = tuple("ann bob cleo dan eve fay gus hal ida jon kim lea".split())
IMAGES = 16
SCORE = ("seq", *FIELDS, "entropy")


def make(folder: Path, samples: int = 100_000, words: int = 10, seed: int = 0) -> Store:
    """A store with ``samples`` x ``words`` scores of the VLM, and people's on top; the folder must have none yet."""
    if (folder / "studio.db").exists():
        raise ValueError(f"{folder} has a store already; give a folder without one.")
    store, rng = Store(folder / "studio.db"), random.Random(seed)
    drawn = _samples(rng, samples, words, _images(folder))
    spreads = _spreads(rng)
    run = store.runs.new("projector", {})
    for sample in drawn:
        sample["projector_run"] = run if sample["method"] == "projected" and rng.random() < 0.5 else None
    with store.database.writing() as db:
        triggers = rows(db, "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        for trigger in triggers:
            db.execute(f"DROP TRIGGER {trigger['name']}")
        _insert(db, "samples", COLUMNS, ([s[name] for name in COLUMNS] for s in drawn))
        sure = {s["id"]: 0.0 for s in drawn}
        _insert(db, "scores", SCORE, _machine(rng, drawn, spreads, sure))
        _insert(db, "uncertainty", ("sample", "entropy"), sure.items())
        people = People(rng, drawn, sorted(sure, key=lambda id: -sure[id]))
        _insert(db, "scores", SCORE, people.scores(first=sum(len(_scored(s["prompt"])) for s in drawn) + 1))
        _insert(db, "submissions", ("id", "sample", "who", "kind", "created"), people.submissions)
        _insert(db, "remarks", ("id", "sample", "who", "kind", "text", "created"), people.remarks)
        db.execute(DISAGREEMENT.format(which="1"))
        db.execute(MEANS.format(which="1"))
        db.execute(POOLS)
        foreseen = ((id, rng.uniform(0, 5), rng.random(), "shipped") for id in sure)
        _insert(db, "foreseen", ("sample", "points", "promise", "model"), foreseen)
        kinds = {(s["prompt"], word.kind) for s in drawn for word in split(s["prompt"]) if word.scored}
        _insert(db, "kinds", ("prompt", "kind"), sorted(kinds))
        for trigger in triggers:
            db.execute(trigger["sql"])
    store.runs.update(run, state="done")
    return store


def _insert(db: Any, table: str, columns: Any, values: Any) -> None:
    marks = ", ".join("?" * len(columns))
    db.conn.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", values)


def _id(rng: random.Random) -> str:
    return f"{rng.getrandbits(128):032x}"


def _time(second: float) -> str:
    """So many seconds after the first of January; the store's form."""
    then = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    return then.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _images(folder: Path) -> list[tuple[str, str]]:
    """Path and sha256 of a few images of noise."""
    made = []
    for i in range(IMAGES):
        noise = np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        content, path = pictures.png(noise, {"seed": i}), f"images/big/{i}.png"
        pictures.write(folder / path, content)
        made.append((path, pictures.sha256(content)))
    return made


def _prompt(rng: random.Random, words: int) -> str:
    drawn = [rng.choice(PARTS[i % len(PARTS)]) for i in range(words)]
    return " ".join(word if i % len(PARTS) else f"a {word}" for i, word in enumerate(drawn))


def _samples(
    rng: random.Random, count: int, words: int, images: list[tuple[str, str]]
) -> list[dict[str, Any]]:
    """A prompt has twenty seeds or so. Nine of ten are trained on."""
    prompts = [_prompt(rng, words) for _ in range(max(1, count // 20))]
    splits = {prompt: rng.choices(("train", "validation", "heldout"), (18, 1, 1))[0] for prompt in prompts}
    sets = {prompt: rng.choice(SETS) for prompt in prompts}
    same = {"word_rules": CURRENT, "backbone": "diffuser", "backbone_revision": "825ab8513d11", "width": 64, "height": 64,
            "steps": 10, "guidance": 4.0, "sampler": "DDIMScheduler"}  # fmt: skip
    made: list[dict[str, Any]] = []
    for i in range(count):
        prompt, (path, sha), method = rng.choice(prompts), rng.choice(images), rng.choice(METHODS)
        given = {"id": _id(rng), "prompt": prompt, "prompt_set": sets[prompt], "split": splits[prompt],
                 "n_words": len(split(prompt)), "seed": rng.randrange(2**31), "method": method,
                 "strength": float(method == "projected"), "image_path": path, "image_sha256": sha,
                 "created": _time(i)}  # fmt: skip
        made.append(checked_sample({**same, **given}) if i % 100 == 0 else {**made[-1], **given})
    return made


def _spreads(rng: random.Random) -> list[tuple[str, int, float]]:
    """Distributions as the store keeps them, with their likeliest score and their entropy; from sure to undecided."""
    made = []
    for _ in range(2000):
        peak, sharp = rng.randrange(10), rng.uniform(0.05, 3)
        weights = np.exp(-sharp * np.abs(np.arange(10) - peak))
        spread = checks.distribution("distribution", (weights / weights.sum()).tolist())
        made.append((checks.as_json("distribution", spread).replace(" ", ""), peak, checks.entropy(spread)))
    return made


@functools.cache
def _scored(prompt: str) -> list[tuple[int, str]]:
    """Place and text of the words that carry a score."""
    return [(word.index, word.text) for word in split(prompt) if word.scored]


def _machine(
    rng: random.Random, samples: list[dict[str, Any]], spreads: list[Any], sure: dict[str, float]
) -> Iterator[tuple[Any, ...]]:
    """The VLM's scores, in the order of ``SCORE``; ``sure`` gets each sample's mean entropy."""
    seq = 0
    for sample in samples:
        id, said = sample["id"], _scored(sample["prompt"])
        entropy = 0.0
        for index, word in said:
            seq += 1
            spread, peak, width = rng.choice(spreads)
            entropy += width
            yield (seq, _id(rng), id, index, word, "vlm", "", "set", peak, spread, rng.randbytes(256), "scorer",
                   "scorer/1", 1.0, None, None, sample["created"], width)  # fmt: skip
        sure[id] = entropy / len(said)


class People:
    """What the people said, and of which samples they are done. Their names stand in ``PEOPLE``."""

    def __init__(self, rng: random.Random, samples: list[dict[str, Any]], least_sure: list[str]) -> None:
        self.rng = rng
        self.of = {s["id"]: s for s in samples if s["split"] == "train"}
        self.samples = list(self.of)
        self.least_sure = [id for id in least_sure if id in self.of]
        self.submissions: list[tuple[Any, ...]] = []
        self.remarks: list[tuple[Any, ...]] = []

    def _work(self) -> Iterator[tuple[str, str]]:
        """(who, sample): the first takes a twentieth of all by uncertainty, the second by age; the others here and there."""
        most = max(1, len(self.samples) // 20)
        for number, who in enumerate(PEOPLE):
            if number in (0, 2):
                chosen = self.least_sure[: most // (1 + number)]
            elif number == 1:
                chosen = self.samples[::-1][:most]
            else:
                chosen = self.rng.sample(self.samples, max(1, most // 10))
            for sample in chosen:
                yield who, sample

    def scores(self, first: int) -> Iterator[tuple[Any, ...]]:
        """People's events, in the order of ``SCORE``; fills ``submissions`` and ``remarks``."""
        seq, rng = first, self.rng
        for step, (who, sample) in enumerate(self._work()):
            then, said = _time(10**7 + 20 * step), _scored(self.of[sample]["prompt"])
            for index, word in rng.sample(said, min(3, len(said))):
                before = None
                for _ in range(1 + (rng.random() < 0.1)):  # one in ten thinks again
                    id = _id(rng)
                    yield (seq, id, sample, index, word, "human", who, "set", rng.randrange(10), None, None, "",
                           "", 1.0, before, None, then, None)  # fmt: skip
                    seq, before = seq + 1, id
            if step % 50:  # a few are begun and left
                kind = "submit" if step % 20 else "skip"
                self.submissions.append((_id(rng), sample, who, kind, then))
            if step % 40 == 0:
                self.remarks.append((_id(rng), sample, who, "flag", "The image is blurred.", then))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=10)
    given = parser.parse_args()
    began = time.monotonic()
    store = make(given.folder.absolute(), given.samples, given.words)
    with store.database.reading() as db:
        count = db.execute("SELECT count(*) FROM scores").fetchone()[0]
    size = store.database.path.stat().st_size / 1e6
    took = time.monotonic() - began
    print(f"{count:,} scores of {given.samples:,} samples, {size:,.0f} MB, in {took:.0f} s")


if __name__ == "__main__":
    main()
