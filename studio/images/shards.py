"""Collecting and scoring by several ranks (core.ranks): each does its share, rank 0 alone writes the store.

Another rank writes images to the image folder and the rows of each finished batch to a file of its own, in
STUDIO_HOME/shards/rank-K (data.exchange.shards). Rank 0 takes these over while it works, at the end, and, after a run in
which a rank was killed, at its next start. So finished work is never lost, and only what is missing is done again.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from core import ranks
from data.exchange import shards
from data.store import Store
from studio.images import pictures
from studio.images.making import Making
from studio.images.models import Models
from studio.images.prompts import Prompts
from studio.settings import Settings

log = logging.getLogger("studio")
STOP = "stop"
KINDS = ("projector", "reward", "calibrator")


class Shard:
    """A rank's stand-in for the store: it reads the rows and runs that rank 0 sent, and writes new rows to a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: Sequence[Mapping[str, Any]] = ()  # the samples of this rank's share
        self.used: Mapping[
            str, Any
        ] = {}  # the run of each kind that is in use; rank 0 has recorded the shipped ones
        self.samples = SimpleNamespace(find=self._samples, add=partial(self.write, "samples"))
        self.scores = SimpleNamespace(add=partial(self.write, "events"))
        self.missing = SimpleNamespace(add=partial(self.write, "missing"))
        self.runs = SimpleNamespace(promoted=lambda kind: self.used.get(kind), get=self._run)

    def write(self, kind: str, rows: Iterable[Mapping[str, Any]]) -> None:
        if rows := list(rows):
            name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"  # names are in the order of writing
            pictures.write(self.folder / name, shards.written(kind, rows))

    def _samples(self, **_: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in self.rows]

    def _run(self, id: str) -> dict[str, Any]:
        runs = (run for run in self.used.values() if run and run["id"] == id)
        return next(runs, {"id": id, "metrics": {}})


def folder_of(home: Path) -> Path:
    return home / "shards"


class Sharing:
    """Work that rank 0 shares out among all ranks; `mine`: its own items."""

    def __init__(
        self,
        making: Making,
        work: Callable[..., None],
        items: Sequence[Any],
        size: int,
        halt: Callable[[], bool],
        **how: Any,
    ) -> None:
        """work(settings, used, items, size, **how, stop=...): what the other ranks run; each item goes to one rank, in
        batches of `size`. An error before `end` leaves their shards for the next start."""
        self.making, self.halt = making, halt
        self.shared = ranks.world() > 1 and ranks.rank() == 0 and len(items) > size
        self.mine = list(items)
        self._ids: set[str] = set()
        if self.shared:
            used = {kind: making.store.runs.promoted(kind) for kind in KINDS}
            (folder_of(making.settings.home) / STOP).unlink(missing_ok=True)
            self._finish = ranks.call(work, making.settings, used, list(items), size, **how)
            self.mine = ranks.deal(items, size)

    def others(self) -> int:
        """How many samples of the other ranks are in the store by now."""
        if self.shared:
            self._ids |= merge(self.making)
        return len(self._ids)

    def end(self) -> int:
        """Wait for the other ranks, which stop where this one was stopped; how many samples they did."""
        if self.shared:
            if self.halt():
                pictures.write(folder_of(self.making.settings.home) / STOP, b"")
            try:
                self._finish()
            finally:
                self.others()
        return len(self._ids)


def merge(making: Making, home: Path | None = None) -> set[str]:
    """Take over the shards of STUDIO_HOME, or of another machine's home; the ids of the samples that they are about.

    Left out are samples that the store has already (made elsewhere from the same seed and settings in the same bytes),
    and those whose image is gone or damaged, which will be made again.
    """
    own = making.settings.home
    home, ids = home or own, set[str]()
    for path in sorted(folder_of(home).glob("rank-*/*.json"), key=lambda p: p.name):
        with contextlib.suppress(FileNotFoundError):  # another process was first
            batch = shards.read(path)
            batch.samples = [
                row
                for row in batch.samples
                if _has_image(home, own, row) and making.same(row, row["image_sha256"]) in (None, row["id"])
            ]
            shards.take_over(making.store, batch)
            ids |= batch.ids()
            if home == own:
                path.unlink()
    return ids


def _has_image(home: Path, own: Path, row: Mapping[str, Any]) -> bool:
    """Whether a sample's image is undamaged; it is copied from another machine's home."""
    try:
        content = (home / row["image_path"]).read_bytes()
    except OSError:
        content = b""
    if pictures.sha256(content) != row["image_sha256"]:
        log.warning("The image %s is gone or damaged: its sample is left out.", row["image_path"])
        return False
    if home != own and not (own / row["image_path"]).exists():
        pictures.write(own / row["image_path"], content)
    return True


# ---- the other ranks ----------------------------------------------------------------------------------------------


def follower(settings: Settings, used: Mapping[str, Any], rows: Sequence[Mapping[str, Any]] = ()) -> Making:
    """Makes images with a shard in place of the store. used: the run of each kind that is in use; rows: the samples that
    this rank reads."""
    shard, making = _following(settings)
    shard.used, shard.rows = used, rows
    return making


@lru_cache(maxsize=1)
def _following(settings: Settings) -> tuple[Shard, Making]:
    """Cached, as the models are loaded once."""
    shard = Shard(folder_of(settings.home) / f"rank-{ranks.rank()}")
    store = cast(Store, shard)  # it has what making and scoring ask of a store
    return shard, Making(settings, store, Models(settings, store), Prompts(settings.prompts, settings.world))


def halting(settings: Settings, stop: Callable[[], bool] | None) -> Callable[[], bool]:
    """Whether this process was asked to stop, or rank 0 has stopped."""
    file = folder_of(settings.home) / STOP
    return lambda: bool(stop and stop()) or file.exists()
