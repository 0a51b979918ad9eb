"""The service that the tabs and the command line both call: joins `core` and `data` (DESIGN section 4).

`Studio` is the facade; its parts are in modules of their own: models (what is loaded), generation (compare, collect,
score), annotation (words, corrections) and learning (train, evaluate, promote). What goes wrong is an exception whose
text is a sentence for the user: `sentence(error)` gives it, and hides what is not meant for them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from studio.settings import Settings
from studio.views import CompareUpdate, Pair, Request, SampleView, WordView, check_request

__all__ = ["CompareUpdate", "Pair", "Request", "SampleView", "Studio", "WordView", "check_request", "sentence"]

Stop = Callable[[], bool] | threading.Event | None


def sentence(error: BaseException) -> str:
    """What a user is told of an exception: its own sentence where it was written for them, else a general one."""
    raise NotImplementedError


class Studio:
    """One studio: settings, store and models. Safe to share between threads; models work for one at a time."""

    ready: bool  # whether diffuser and scorer are loaded
    settings: Settings

    def __init__(self, settings: Settings | None = None) -> None: ...

    # -- models
    def load(self, on_stage: Callable[[str], None] | None = None) -> None:
        """Load everything now; on_stage gets a sentence before each part."""

    def status(self) -> dict[str, Any]:
        """{ready, backbone, scorer, projector: run id | 'shipped' | None, projector_problem: sentence | '', reward,
        reward_problem, device, samples, labels, corrections, training: run id | None}"""

    # -- generation
    def describe_words(self, prompt: str) -> list[WordView]:
        """The words of a prompt without scores, with their seen and known flags."""

    def compare(self, request: Request, stop: threading.Event | None = None) -> Iterator[CompareUpdate]:
        """none and projected of all seeds in one batch; ends with stage 'done' or 'stopped'."""

    def collect(
        self, prompts: Sequence[str], seeds_per_prompt: int = 1, method: str = "none", *, steps: int = 20,
        guidance: float = 4.0, strength: float = 1.0, batch: int | None = None, prompt_set: str = "",
        split: str = "train", on_progress: Callable[[int, int], None] | None = None, stop: Stop = None,
    ) -> list[str]: ...  # fmt: skip

    def score(
        self, sample_ids: Sequence[str] | None = None, on_progress: Callable[[int, int], None] | None = None,
        stop: Stop = None,
    ) -> int: ...  # fmt: skip

    # -- annotation
    def sample(self, id: str, who: str | None = None) -> SampleView: ...
    def next_item(
        self, who: str, order: str = "uncertainty", exclude: str | None = None, **filters: Any
    ) -> SampleView | None: ...
    def why_next(self, order: str = "uncertainty") -> str: ...
    def correct(
        self, sample: str, word_index: int, score: int | None, who: str, source: str = "human"
    ) -> SampleView: ...
    def undo(self, who: str, sample: str | None = None) -> SampleView | None: ...
    def accept(self, sample: str, who: str) -> SampleView: ...
    def submit(self, sample: str, who: str, kind: str = "submit") -> None: ...
    def history(self, who: str, limit: int = 50) -> list[dict[str, Any]]:
        """Newest first: sample, word_index, word, action 'set'|'clear'|'undo', score, before, undone, prompt, seed,
        image_path, created."""

    def progress(self, who: str, **filters: Any) -> dict[str, int]:
        """{samples, scored, submitted, skipped, remaining, corrected_words, corrected_samples}"""

    def simulate(self, samples: Sequence[str] | None = None, count: int = 300, seed: int = 0) -> int: ...

    # -- learning (from the page, start them by studio.jobs so that they outlive it)
    def train(
        self, kind: str, config: dict[str, Any] | None = None, run_id: str | None = None,
        on_progress: Callable[[dict[str, Any]], None] | None = None, stop: Stop = None,
    ) -> dict[str, Any]: ...  # fmt: skip

    def defaults(self, kind: str) -> dict[str, tuple[Any, str]]:
        """The configuration of a kind of training: {field: (default, what it means)}."""

    def evaluate(self, kind: str, config: dict[str, Any] | None = None, **hooks: Any) -> dict[str, Any]: ...
    def runs(self, **filters: Any) -> list[dict[str, Any]]: ...
    def run(self, id: str) -> dict[str, Any]: ...
    def promote(self, run_id: str, who: str, force: bool = False) -> dict[str, Any]: ...
    def rollback(self, kind: str, who: str) -> dict[str, Any] | None: ...
