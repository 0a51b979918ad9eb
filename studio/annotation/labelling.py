"""What people say of words: views of samples, corrections, the queue, and the simulated annotator."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from core.scoring.scores import check_digit, entropy, expected
from core.words import units_of
from data.store import Store
from data.store.database import now
from data.store.leases import LEASE_SECONDS
from data.store.queue import ORDERS
from studio.access.identity import SIMULATED, check_name
from studio.annotation import HABITS, desk, gold
from studio.annotation.foreseeing import Foreseer
from studio.annotation.kinds import Kinds
from studio.images import pictures
from studio.images.models import Models
from studio.images.views import SampleView, WordView, total_of, word_views
from studio.numbers import shown, whole
from studio.settings import Settings

log = logging.getLogger("studio")
FORESEEN = ("reward", "projected")  # orders that ask the reward model
STAY = "prompt"  # an order of the studio's own: other images of the prompt that was on the screen come first
WHY = {
    "uncertainty": "Next comes the image of whose words the VLM is least sure: there a correction teaches most. In "
    "between comes any image, for what is learned of unsure ones alone is wrong of the others. How unsure is the entropy "
    "of the VLM's ten probabilities for a word, 0 sure to 1 no idea, on average over the words that you have not scored yet.",
    "disagreement": "Next comes the image on whose words people disagree most, by the mean distance of the highest "
    "from the lowest score that a word was given: another opinion tells who is right.",
    "reward": "Next comes the image on which the reward model, which foretells scores from the noise alone, and the "
    "VLM, which saw the image, are furthest apart on average over the words: one of the two is wrong.",
    "projected": "Next comes an image of projected noise of which the reward model expects much and the VLM is unsure: the "
    "projector follows the reward model, and there it may be led astray. Images without projection come after these, in "
    "the same order. By the mean over the words of the expected score times the entropy of the VLM's ten probabilities.",
    "random": "Next comes any image that you have not done yet, in an order of your own that stays the same.",
    "newest": "Next comes the newest image that you have not done yet.",
    STAY: "Next comes another image of the same prompt, the least sure first, so that you judge alike what is alike. "
    "When a prompt is done, the image comes of whose words the VLM is least sure.",
}


def orders() -> tuple[str, ...]:
    """What the queue can be ordered by: the store's orders, and staying with a prompt."""
    return (*ORDERS, STAY)


def turn(order: str, before: str | None) -> dict[str, Any]:
    """The store's order, and a filter, for the sample that follows `before`, the id of the one on the screen. Half of
    those that uncertainty gives are any scored ones: the calibrator is used for all images, so it learns from all kinds."""
    if order == STAY:
        return {"order": "uncertainty"}
    if order == "uncertainty" and before and hashlib.sha256(before.encode()).digest()[0] % 2:
        return {"order": "random", "scored": True}
    return {"order": order}


class Annotation:
    """Views of samples, people's corrections of them, the queue, and the simulated annotator."""

    def __init__(
        self, settings: Settings, store: Store, models: Models, foreseer: Foreseer, kinds: Kinds
    ) -> None:
        """foreseer, kinds: keep what some orders and filters of the queue need up to date."""
        self.settings, self.store, self.models = settings, store, models
        self.foreseer, self.kinds = foreseer, kinds

    def sample(self, id: str, who: str | None = None) -> SampleView:
        """A stored sample and what stands for its words; with `who`, the corrections are that person's."""
        return self.view_of(self.store.samples.get(id), self.store.scores.current(id, who))

    def view_of(self, row: dict[str, Any], current: dict[int, dict[str, Any]]) -> SampleView:
        """A sample's row and what stands for its words, as a page shows them."""
        diffuser = self.models.loaded_diffuser
        units = _views(row["prompt"], diffuser, row["word_rules"])[: row["n_words"]]
        words = [_filled(view, current.get(view.index, {})) for view in units]
        path = self.settings.home / row["image_path"] if row["image_path"] else None
        return SampleView(
            row["id"],
            row["prompt"],
            row["seed"],
            row["method"],
            row["strength"],
            row["steps"],
            row["guidance"],
            str(path) if path and path.is_file() else None,
            words,
            total_of(words),
            row["word_rules"],
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
        """The sample this person should see next, or None. Only prompts that are trained on, unless `split` says so.

        It is this person's for `lease` seconds, renewed by each correction: nobody else is given it meanwhile, or, with
        `overlap` (STUDIO_OVERLAP), at most so many people in all. `lease=None` only looks. `exclude`: the sample on the
        screen, whose prompt the order "prompt" stays with.
        """
        self.why_next(order)
        self._keep_up(order, filters)
        who, filters = check_name(who), {"split": "train", **filters}
        given = {"lease": lease, "overlap": overlap or self.settings.overlap or None}
        if row := gold.next_gold(self, who, exclude, lease, filters):
            return self.sample(row["id"], who)
        wanted: list[dict[str, Any]] = [filters]
        if order == STAY and exclude and not filters.get("prompt"):
            wanted.insert(0, {**filters, "prompt": self.store.samples.get(exclude)["prompt"]})
        for chosen in wanted:
            row = self.store.queue.next(who, exclude=exclude, **turn(order, exclude), **given, **chosen)
            if row:
                return self.sample(row["id"], who)
        if order in FORESEEN and self.foreseer.busy:  # meanwhile, what is known of all images
            return self.next(who, "uncertainty", exclude, overlap=overlap, lease=lease, **filters)
        return None

    def why_next(self, order: str = "uncertainty") -> str:
        """How the next item is chosen."""
        if order not in orders():
            raise ValueError(f"The order {shown(order)} is not known: choose one of {', '.join(orders())}.")
        notice = self.foreseer.notice() if order in FORESEEN else ""
        return f"{WHY[order]} {notice}".strip()

    def _keep_up(self, order: str, filters: dict[str, Any]) -> None:
        """What an order or a filter needs that is kept beside the samples is brought up to date."""
        if order in FORESEEN:
            self.foreseer.keep_up()
        if filters.get("kind") is not None:
            self.kinds.keep_up()

    def correct(
        self, sample: str, word_index: int, score: int | None, who: str, source: str = "human"
    ) -> SampleView:
        """Set a word's score, or take this person's correction back where it is None; on disk when this returns."""
        self.keep(sample, word_index, score, who, source)
        return self.sample(sample, who)

    def keep(
        self, sample: str, word_index: int, score: int | None, who: str, source: str = "human"
    ) -> dict[str, Any] | None:
        """`correct` without a look at the sample afterwards: the event that stands for it, None where there was nothing to take back."""
        who = check_name(who) if source == "human" else who
        word = self.scored_word(sample, word_index)
        digit = None if score is None else check_digit(score)
        if source == "human":
            self.store.leases.hold(sample, who)
        if digit is None:
            return self.store.scores.clear(sample, word.index, who, source)
        return self.store.scores.set(sample, word.index, digit, who, source, word=word.text)

    def scored_word(self, sample: str, word_index: Any) -> Any:
        row = self.store.samples.get(sample)
        words = units_of(row)
        index = whole("place of the word", word_index, 0, max(0, len(words) - 1))
        if not words or not words[index].scored:
            raise ValueError(f"The word at place {index} carries no score: choose one that has a chip.")
        return words[index]

    def undo(self, who: str, sample: str | None = None) -> SampleView | None:
        """Undo this person's last score, submit or skip (on this sample); the sample it was on, or None where nothing is
        left."""
        step = desk.back(self.store, who, sample)
        return self.sample(step.sample, who) if step else None

    def accept(self, sample: str, who: str, but: Collection[int] = ()) -> SampleView:
        """Say of every shown score that it is right: each becomes this person's own, in one step of undo. `but`: places
        of words whose score this person was not shown."""
        who = check_name(who)
        event = {"sample": sample, "source": "human", "who": who, "created": now()}
        with self.store.database.writing():  # nothing comes between what is shown and what is said of it
            self.store.leases.hold(sample, who)
            self.store.scores.add(
                {**event, "word_index": word.index, "word": word.text, "score": word.score}
                for word in self.sample(sample, who).words
                if word.scored and word.score is not None and word.by != who and word.index not in but
            )
            return self.sample(sample, who)

    def submit(
        self,
        sample: str,
        who: str,
        kind: str = "submit",
        *,
        confirm: bool | None = None,
        but: Collection[int] = (),
    ) -> None:
        """This person is done with the sample (submit) or passes it by (skip): it does not come again.

        A submit confirms the scores that were shown and left as they are: each is stored as it stands, as confirmed and
        not as a score of this person's. `confirm` None: as STUDIO_CONFIRM says. `but`: places of words whose score this
        person was not shown. A skip confirms nothing.
        """
        if kind not in ("submit", "skip"):
            raise ValueError(f"A sample can be submitted or skipped, not {shown(kind)}.")
        who = check_name(who)
        if kind == "skip":
            self.store.queue.skip(sample, who)
        elif confirm if confirm is not None else self.settings.confirm == "yes":
            with self.store.database.writing():
                self.store.queue.submit(sample, who, [
                    {"word_index": word.index, "word": word.text, "score": word.score}
                    for word in self.sample(sample, who).words
                    if word.scored and word.score is not None and word.by != who and word.index not in but
                ])  # fmt: skip
        else:
            self.store.queue.submit(sample, who)

    def history(self, who: str, limit: int = 50) -> list[dict[str, Any]]:
        """This person's steps, newest first: sample, word_index, word, action set|clear|undo, score, before, undone,
        prompt, seed, image_path (relative to the home folder), created."""
        return self.store.scores.history(check_name(who), limit)

    def progress(self, who: str, **filters: Any) -> dict[str, int]:
        """{samples, scored, submitted, skipped, remaining, corrected_words, corrected_samples}; as `next`, of the
        prompts that are trained on unless `split` says otherwise."""
        return self.store.tallies.progress(check_name(who), **{"split": "train", **filters})

    def simulate(
        self,
        samples: Sequence[str] | None = None,
        count: int = 300,
        who: str = SIMULATED,
        seed: int = 0,
        order: str = "uncertainty",
        habit: str = "every",
        on_progress: Any = None,
    ) -> dict[str, int]:
        """Judgements by the detector, a whole sample at a time, until `count` words or a few more have one.

        digit = round(9 truth), stored with source 'simulated'. Samples: those given, else the annotator's own queue
        of training prompts, as a person would get them, but every second one is of a prompt drawn by the seed, so that the
        same images are judged each time. `habit`, what of a sample is typed: every word; wrong, only
        words whose digit is on the wrong side of 5, then Done; clean, the same, but n where no word is wrong. What is
        not typed is confirmed as a person's Done and n would (STUDIO_CONFIRM). Such a confirmation has the source
        'simulated' too, so that nothing takes it for a person's, and the scorer 'confirmed'.

        Returns {words, typed, confirmed, samples, changed: typed, and other than the scorer's}.
        """
        from studio.images.detecting import truth_of  # with the detector's libraries, which no page needs

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
                    log.warning("Passed by: %s", error)
            if truth is None:
                self.store.queue.skip(row["id"], who)
                continue
            units = units_of(row)
            current, texts = self.store.scores.current(row["id"]), {w.index: w.text for w in units}
            digits = {index: round(9 * value) for index, value in truth.units.items() if index in texts}
            stood = {index: _digit((current.get(index) or {}).get("vlm")) for index in digits}
            said = judged_by(habit, digits, stood, confirms=self.settings.confirm == "yes")
            self.store.scores.add(
                {"sample": row["id"], "word_index": index, "word": texts[index], "source": "simulated", "who": who,
                 "score": digit, "scorer": "" if typed else "confirmed"}
                for index, (digit, typed) in said.items()
            )  # fmt: skip
            self.store.queue.submit(row["id"], who)
            done["words"] += len(said)
            done["typed"] += sum(typed for _, typed in said.values())
            done["confirmed"] = done["words"] - done["typed"]
            done["changed"] += sum(stood[index] not in (None, digit) for index, (digit, _) in said.items())
            done["samples"] += 1
            if on_progress:
                on_progress(done["words"], count)
        return done

    def _to_judge(
        self, samples: Sequence[str] | None, who: str, order: str, seed: int
    ) -> Iterator[dict[str, Any]]:
        """The samples that `simulate` goes through, one after the other is done."""
        rng, prompts = np.random.default_rng(seed), iter(())
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
    habit: str, digits: Mapping[int, int], stood: Mapping[int, int | None], confirms: bool = True
) -> dict[int, tuple[int, bool]]:
    """What somebody of a habit (see ``Annotation.simulate``) leaves in the store of a sample: {word_index: (digit,
    whether it was typed)}. digits: what is right of each word; stood: the digit that was shown, None where none was;
    confirms: whether Done confirms."""
    if habit == "every":
        return {index: (digit, True) for index, digit in digits.items()}
    wrong = {i: d for i, d in digits.items() if stood[i] is not None and (d >= 5) != (stood[i] >= 5)}
    nothing_wrong = habit == "clean" and not wrong and None not in stood.values()
    rest = {i: d for i, d in stood.items() if d is not None and i not in wrong}
    typed = {index: (digit, True) for index, digit in wrong.items()}
    return typed | ({i: (d, False) for i, d in rest.items()} if confirms or nothing_wrong else {})


def _digit(event: Mapping[str, Any] | None) -> int | None:
    """What is shown of a scorer's event: its digit, else the likeliest."""
    if not event:
        return None
    return event["score"] if event["score"] is not None else int(np.argmax(event["distribution"]))


@lru_cache(maxsize=4096)
def _views(prompt: str, diffuser: Any, rules: int) -> tuple[WordView, ...]:
    return tuple(word_views(prompt, diffuser, rules))


def _filled(view: WordView, said: dict[str, Any]) -> WordView:
    """A word with what stands for it in the store."""
    vlm, calibrated = said.get("vlm"), said.get("calibrated")
    correction = said.get("human") or said.get("simulated")
    spread = vlm["distribution"] if vlm else None
    digit, other = _digit(vlm), _digit(calibrated)
    human = correction["score"] if correction else None
    return replace(
        view,
        vlm=digit,
        expected=9 * float(expected(np.array(spread)))
        if spread
        else (None if digit is None else float(digit)),
        calibrated=other,
        human=human,
        by=correction["who"] if correction else None,
        score=human if human is not None else digit,
        uncertain=float(entropy(np.array(spread))) if spread else 0.0,
    )
