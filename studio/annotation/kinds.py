"""The kinds of word in the prompts, kept in the store, so that the queue can be filtered by them. (Not by *nothing else*,
which every prompt has.)"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from core.words import EXTRA, NOTHING_ELSE, split

if TYPE_CHECKING:
    from data.store import Store

log = logging.getLogger("studio")
AT_ONCE = 1000  # prompts; about 30 ms


def named(kind: str) -> str:
    """A kind as a page calls it; all is every kind together."""
    return {EXTRA: NOTHING_ELSE, "all": "all words"}.get(kind, kind)


class Kinds:
    """Keeps up with the store's prompts: some at once, the newest first, many behind the page."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._after = 0  # the newest sample whose prompt, like all before it, is kept
        self._lock, self._thread = threading.Lock(), threading.Thread()

    def keep_up(self) -> None:
        """Returns soon; what is left then is done in the background."""
        with self._lock:
            if self._thread.is_alive() or self._some():
                return
            self._thread = threading.Thread(target=self._rest, name="kinds of words", daemon=True)
            self._thread.start()

    def fill(self) -> None:
        """Returns when all are kept."""
        while not self._some():
            pass

    def _some(self) -> bool:
        """Keep some; whether these were all."""
        prompts, newest = self.store.foreseen.prompts_without_kinds(self._after, AT_ONCE)
        if prompts:
            self.store.foreseen.keep_kinds(
                {prompt: {word.kind for word in split(prompt) if word.scored} for prompt in prompts}
            )
        if len(prompts) < AT_ONCE:
            self._after = newest
        return len(prompts) < AT_ONCE

    def _rest(self) -> None:
        try:
            self.fill()
        except Exception as error:  # noqa: BLE001 - the next one who asks goes on
            log.warning("The kinds of words could not be kept: %s", error)
