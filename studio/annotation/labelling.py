"""Annotation: views of samples, corrections, gold scores, the queue, and the simulated annotator."""

from __future__ import annotations

import hashlib
import itertools
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from core.scoring.scores import check_digit, entropy
from core.words import VERSION, Word, split, units_of
from data.store import Store
from data.store.database import now
from data.store.labels import expected
from data.store.queue import LEASE_SECONDS, ORDERS
from studio.access.identity import SIMULATED, check_name
from studio.annotation import HABITS, desk
from studio.annotation.foreseeing import Foreseer
from studio.images import pictures
from studio.images.detecting import truth_of
from studio.images.models import Models
from studio.images.views import SampleView, WordView, total_of, word_views
from studio.numbers import shown, whole
from studio.settings import Settings

if TYPE_CHECKING:
    from core.diffusion import Diffuser

log = logging.getLogger("studio")
PROMPTS_AT_ONCE = 1000  # about 30 ms
FORESEEN = ("reward", "projected")  # orders that ask the reward model
STAY = "prompt"  # an order of the studio's own: other images of the prompt that was on the screen come first
WHY = {
    "uncertainty": "Queue order: the image whose words the VLM is least sure of, where a correction teaches most, "
    "alternating with any image, because unsure images are unlike the others. The measure is the entropy of the VLM's ten "
    "probabilities of a word (0: sure, 1: no idea), averaged over the words that you have not scored yet.",
    "disagreement": "Queue order: the image on whose words people disagree most, measured by the mean difference between "
    "the highest and the lowest score of a word. Another opinion tells who is right.",
    "reward": "Queue order: the image on which the reward model, which predicts scores from the noise alone, and the "
    "VLM, which saw the image, differ most on average over the words. One of the two is wrong.",
    "projected": "Queue order: images of projected noise of which the reward model expects much and the VLM is unsure, "
    "because the projector follows the reward model and may be misled there; then the others in the same order. The "
    "measure is the mean over the words of the expected score times the entropy of the VLM's ten probabilities.",
    "random": "Queue order: random, in an order of your own that stays the same.",
    "newest": "Queue order: the newest image that you have not done yet.",
    STAY: "Queue order: other images of the same prompt, the least sure first, so that you judge alike what is alike; then "
    "the image whose words the VLM is least sure of.",
}


class Kinds:
    """The kinds of word in the prompts, kept in the store so that the queue can be filtered by them (not by *nothing
    else*, which every prompt has). The newest prompts are added at once, many in the background."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._after = 0  # the newest sample whose prompt, like all before it, is kept
        self._lock, self._thread = threading.Lock(), threading.Thread()

    def keep_up(self) -> None:
        """Returns soon; the rest is done in the background."""
        with self._lock:
            if self._thread.is_alive() or self._some():
                return
            self._thread = threading.Thread(target=self._rest, name="kinds of words", daemon=True)
            self._thread.start()

    def _some(self) -> bool:
        """Keep those of some prompts; whether these were all."""
        prompts, newest = self.store.foreseen.prompts_without_kinds(self._after, PROMPTS_AT_ONCE, VERSION)
        if prompts:
            self.store.foreseen.keep_kinds(
                {prompt: {word.kind for word in split(prompt) if word.scored} for prompt in prompts},
                VERSION,
            )
        if len(prompts) < PROMPTS_AT_ONCE:
            self._after = newest
        return len(prompts) < PROMPTS_AT_ONCE

    def _rest(self) -> None:
        try:
            while not self._some():
                pass
        except Exception as error:  # noqa: BLE001 - the next request tries again
            log.warning("The kinds of words could not be kept: %s", error)


def orders() -> tuple[str, ...]:
    """The orders of the queue: the store's, and staying with a prompt."""
    return (*ORDERS, STAY)


def turn(order: str, before: str | None) -> dict[str, Any]:
    """The store's order, and a filter, for the sample after `before`, the id of the one on the screen. Half of the samples
    that uncertainty gives are any scored ones: the calibrator is used for all images, so it learns from all of them."""
    if order == STAY:
        return {"order": "uncertainty"}
    if order == "uncertainty" and before and hashlib.sha256(before.encode()).digest()[0] % 2:
        return {"order": "random", "scored": True}
    return {"order": order}


def gold_is_due(who: str, done: int, every: int) -> bool:
    """Whether a person who has done so many images is given gold now: once in each `every`, at a place that looks random
    and is the same after a reload."""
    if every < 1:
        return False
    stretch, place = divmod(done, every)
    digest = hashlib.sha256(f"{who} {stretch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % every == place


class Annotation:
    """Views of samples, people's corrections of them, the queue, and the simulated annotator."""

    def __init__(self, settings: Settings, store: Store, models: Models, foreseer: Foreseer) -> None:
        self.settings, self.store, self.models = settings, store, models
        self.foreseer, self.kinds = foreseer, Kinds(store)

    def sample(self, id: str, who: str | None = None) -> SampleView:
        """A stored sample with its current scores; with `who`, the corrections are that person's."""
        return self.view_of(self.store.samples.get(id), self.store.scores.current(id, who))

    def view_of(self, row: dict[str, Any], current: dict[int, dict[str, Any]]) -> SampleView:
        """The view of a sample's row. current: its scores by word and source."""
        diffuser = self.models.loaded_diffuser
        units = _views(row["prompt"], diffuser, row["word_rules"])[: row["n_words"]]
        words = [_scored(view, current.get(view.index, {})) for view in units]
        path = self.settings.home / row["image_path"] if row["image_path"] else None
        columns = ("id", "prompt", "seed", "method", "strength", "steps", "guidance")
        return SampleView(
            **{name: row[name] for name in columns},
            image_path=str(path) if path and path.is_file() else None,
            words=words,
            total=total_of(words),
            word_rules=row["word_rules"],
        )

    def next(
        self,
        who: str,
        order: str = "uncertainty",
        exclude: str | None = None,
        *,
        overlap: int | None = None,
        lease: float | None = LEASE_SECONDS,
        **filters: Any,
    ) -> SampleView | None:
        """The sample this person should see next, or None; of prompts that are trained on, unless `split` says otherwise.

        It is leased to this person for `lease` seconds, renewed by each correction: nobody else is given it meanwhile, or,
        with `overlap` (STUDIO_OVERLAP), at most so many people in all. lease None: only look. exclude: the sample on the
        screen, whose prompt the order "prompt" stays with.
        """
        self.why_next(order)
        self._keep_up(order, filters)
        who, filters = check_name(who), {"split": "train", **filters}
        is_due = gold_is_due(who, self.store.gold.done(who), self.settings.gold_every)
        if is_due and (row := self.store.gold.next(who, exclude, lease=lease, **filters)):
            return self.sample(row["id"], who)
        leased: dict[str, Any] = {"lease": lease, "overlap": overlap or self.settings.overlap or None}
        choices: list[dict[str, Any]] = [filters]
        if order == STAY and exclude and not filters.get("prompt"):
            choices.insert(0, {**filters, "prompt": self.store.samples.get(exclude)["prompt"]})
        for chosen in choices:
            row = self.store.queue.next(who, exclude=exclude, **turn(order, exclude), **leased, **chosen)
            if row:
                return self.sample(row["id"], who)
        if order in FORESEEN and self.foreseer.busy:  # meanwhile, an order that is known of all images
            return self.next(who, "uncertainty", exclude, overlap=overlap, lease=lease, **filters)
        return None

    def why_next(self, order: str = "uncertainty") -> str:
        """A sentence on how the next sample is chosen."""
        if order not in orders():
            raise ValueError(f"The order {shown(order)} is not known: choose one of {', '.join(orders())}.")
        notice = self.foreseer.notice() if order in FORESEEN else ""
        return f"{WHY[order]} {notice}".strip()

    def _keep_up(self, order: str, filters: dict[str, Any]) -> None:
        """Bring up to date what an order or a filter needs beside the samples."""
        if order in FORESEEN:
            self.foreseer.keep_up()
        if filters.get("kind") is not None:
            self.kinds.keep_up()

    def correct(
        self, sample: str, word_index: int, score: int | None, who: str, source: str = "human"
    ) -> SampleView:
        """Set a word's score, or withdraw this person's correction if it is None; on disk when this returns."""
        self.keep(sample, word_index, score, who, source)
        return self.sample(sample, who)

    def keep(
        self, sample: str, word_index: int, score: int | None, who: str, source: str = "human"
    ) -> dict[str, Any] | None:
        """`correct`, which gives the stored event; None where there was nothing to withdraw."""
        who = check_name(who) if source == "human" else who
        word = self.scored_word(sample, word_index)
        digit = None if score is None else check_digit(score)
        if source == "human":
            self.store.leases.hold(sample, who)
        if digit is None:
            return self.store.scores.clear(sample, word.index, who, source)
        return self.store.scores.set(sample, word.index, digit, who, source, word=word.text)

    def scored_word(self, sample: str, word_index: Any) -> Word:
        """A word of a sample that carries a score; ValueError for another index."""
        row = self.store.samples.get(sample)
        words = units_of(row)
        index = whole("place of the word", word_index, 0, max(0, len(words) - 1))
        if not words or not words[index].scored:
            raise ValueError(f"The word at place {index} carries no score: choose one that has a chip.")
        return words[index]

    def set_gold(self, sample: str, word_index: int, score: int | None, who: str) -> dict[str, Any] | None:
        """Set a word's gold score, which counts as right, or withdraw it if it is None; the gold score, or None. The
        caller has made sure that `who` may do this."""
        word = self.scored_word(sample, word_index)
        digit = None if score is None else check_digit(score)
        return self.store.gold.set(sample, word.index, digit, check_name(who), word=word.text)

    def undo(self, who: str, sample: str | None = None) -> SampleView | None:
        """Undo this person's last score, submit or skip (on this sample); the sample it was on, None where there is none."""
        step = desk.back(self.store, who, sample)
        return self.sample(step.sample, who) if step else None

    def accept(self, sample: str, who: str, but: Collection[int] = ()) -> SampleView:
        """Accept every shown score: each becomes this person's own, in one step of undo. but: indices of words whose score
        this person was not shown."""
        who = check_name(who)
        event = {"sample": sample, "source": "human", "who": who, "created": now()}
        with self.store.database.writing():  # no score changes between reading and accepting it
            self.store.leases.hold(sample, who)
            self.store.scores.add({**event, **score} for score in self._others_scores(sample, who, but))
            return self.sample(sample, who)

    def _others_scores(self, sample: str, who: str, but: Collection[int]) -> list[dict[str, Any]]:
        """{word_index, word, score} of the shown scores of a sample that are not this person's, except those of `but`."""
        return [
            {"word_index": word.index, "word": word.text, "score": word.score}
            for word in self.sample(sample, who).words
            if word.scored and word.score is not None and word.by != who and word.index not in but
        ]

    def submit(
        self,
        sample: str,
        who: str,
        kind: str = "submit",
        *,
        confirm: bool | None = None,
        but: Collection[int] = (),
    ) -> None:
        """Submit or skip a sample for this person, who is not given it again.

        A submit confirms the shown scores that were left unchanged: each is stored as confirmed, and not as a score of this
        person's. confirm None: as STUDIO_CONFIRM says. but: indices of words whose score this person was not shown. A skip
        confirms nothing.
        """
        if kind not in ("submit", "skip"):
            raise ValueError(f"A sample can be submitted or skipped, not {shown(kind)}.")
        who = check_name(who)
        if kind == "skip":
            self.store.queue.skip(sample, who)
        elif confirm if confirm is not None else self.settings.confirm == "yes":
            with self.store.database.writing():
                self.store.queue.submit(sample, who, self._others_scores(sample, who, but))
        else:
            self.store.queue.submit(sample, who)

    def history(self, who: str, limit: int = 50) -> list[dict[str, Any]]:
        """This person's steps, newest first: sample, word_index, word, action set|clear|undo, score, before, undone,
        prompt, seed, image_path (relative to the home folder), created."""
        return self.store.scores.history(check_name(who), limit)

    def progress(self, who: str, **filters: Any) -> dict[str, int]:
        """{samples, scored, submitted, skipped, remaining, corrected_words, corrected_samples}, of the prompts that are
        trained on unless `split` says otherwise."""
        return self.store.tallies.progress(check_name(who), **{"split": "train", **filters})

    def simulate(
        self,
        samples: Sequence[str] | None = None,
        count: int = 300,
        who: str = SIMULATED,
        seed: int = 0,
        order: str = "uncertainty",
        habit: str = "every",
        on_progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, int]:
        """Simulated corrections by the detector, a whole sample at a time, until `count` words or a few more have one.

        digit = round(9 truth), stored with source 'simulated'. Samples: those given, else the annotator's own queue
        of training prompts, as a person would get them, but every second one is of a prompt drawn by the seed, so that the
        same images are judged each time. habit, what is typed of a sample: every word; wrong: only words whose digit is on
        the wrong side of 5, then Done; clean: the same, but n where no word is wrong. What is not typed is confirmed as a
        person's Done and n would (STUDIO_CONFIRM). Such a confirmation has the source 'simulated' too, so that it is not
        taken for a person's, and the scorer 'confirmed'.

        Returns {words, typed, confirmed, samples, changed: typed, and other than the scorer's}.
        """
        if habit not in HABITS:
            raise ValueError(f"The habit {shown(habit)} is not known: choose {', '.join(HABITS)}.")
        count = whole("number of corrections", count, 1, 1_000_000)
        done = {"words": 0, "typed": 0, "confirmed": 0, "samples": 0, "changed": 0}
        for row in self._to_judge(samples, who, order, seed):
            if done["words"] >= count:
                break
            truth = None
            if row["image_path"]:
                try:
                    image = pictures.read(self.settings.home / row["image_path"], row["image_sha256"])
                    truth = truth_of(row["prompt"], image, row["word_rules"])
                except ValueError as error:
                    log.warning("Skipped: %s", error)
            if truth is None:
                self.store.queue.skip(row["id"], who)
                continue
            current, texts = self.store.scores.current(row["id"]), {w.index: w.text for w in units_of(row)}
            digits = {index: round(9 * value) for index, value in truth.units.items() if index in texts}
            before = {index: _digit((current.get(index) or {}).get("vlm")) for index in digits}
            scores = judged_by(habit, digits, before, confirms=self.settings.confirm == "yes")
            self.store.scores.add(
                {"sample": row["id"], "word_index": index, "word": texts[index], "source": "simulated", "who": who,
                 "score": digit, "scorer": "" if typed else "confirmed"}
                for index, (digit, typed) in scores.items()
            )  # fmt: skip
            self.store.queue.submit(row["id"], who)
            done["words"] += len(scores)
            done["typed"] += sum(typed for _, typed in scores.values())
            done["confirmed"] = done["words"] - done["typed"]
            done["changed"] += sum(before[index] not in (None, digit) for index, (digit, _) in scores.items())
            done["samples"] += 1
            if on_progress:
                on_progress(done["words"], count)
        return done

    def _to_judge(
        self, samples: Sequence[str] | None, who: str, order: str, seed: int
    ) -> Iterator[dict[str, Any]]:
        """The samples that `simulate` judges, one after another; each is asked for when the last one is done."""
        rng, prompts = np.random.default_rng(seed), iter(list[str]())
        if samples is not None:
            yield from (self.store.samples.get(id) for id in rng.permutation(list(samples)).tolist())
            return
        if order == "uncertainty":
            scored = self.store.samples.find(split="train", scored=True, limit=10_000_000)
            prompts = iter(rng.permutation(sorted({row["prompt"] for row in scored})).tolist())
        for place in itertools.count():
            some = prompts if place % 2 else ()
            asked = (self.store.queue.next(who, order, split="train", prompt=prompt) for prompt in some)
            row = next(filter(None, asked), None) or self.store.queue.next(who, order, split="train")
            if row is None:
                return
            yield row


def judged_by(
    habit: str, digits: Mapping[int, int], before: Mapping[int, int | None], confirms: bool = True
) -> dict[int, tuple[int, bool]]:
    """The scores that an annotator with a habit (see ``Annotation.simulate``) gives a sample: {word_index: (digit, whether
    it was typed)}. digits: the right ones; before: the shown ones, None for none; confirms: whether Done confirms."""
    if habit == "every":
        return {index: (digit, True) for index, digit in digits.items()}
    shown_digits = {index: digit for index, digit in before.items() if digit is not None}
    wrong = {i: digits[i] for i, digit in shown_digits.items() if (digits[i] >= 5) != (digit >= 5)}
    nothing_wrong = habit == "clean" and not wrong and len(shown_digits) == len(before)
    scores = {index: (digit, True) for index, digit in wrong.items()}
    if confirms or nothing_wrong:
        scores |= {index: (digit, False) for index, digit in shown_digits.items() if index not in wrong}
    return scores


def _digit(event: Mapping[str, Any] | None) -> int | None:
    """The digit of a scorer's event, else its likeliest one."""
    if not event:
        return None
    return event["score"] if event["score"] is not None else int(np.argmax(event["distribution"]))


@lru_cache(maxsize=4096)
def _views(prompt: str, diffuser: Diffuser | None, rules: int) -> tuple[WordView, ...]:
    return tuple(word_views(prompt, diffuser, rules))


def _scored(view: WordView, current: dict[str, Any]) -> WordView:
    """A word with its current scores by source."""
    vlm = current.get("vlm")
    correction = current.get("human") or current.get("simulated")
    human, digit = correction["score"] if correction else None, _digit(vlm)
    return replace(
        view,
        vlm=digit,
        expected=expected(vlm) if vlm else None,
        calibrated=_digit(current.get("calibrated")),
        human=human,
        by=correction["who"] if correction else None,
        score=human if human is not None else digit,
        uncertain=float(entropy(np.array(vlm["distribution"]))) if vlm and vlm["distribution"] else 0.0,
    )
