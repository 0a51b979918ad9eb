"""Collecting and scoring by several ranks (core.ranks): each does its share, rank 0 alone writes the store.

Another rank writes images to the image folder and the rows of each finished batch to a file of its own, in
STUDIO_HOME/shards/rank-K (data.exchange.shards). Rank 0 takes these over while it works, at the end, and, after a run in
which a rank was killed, at its next start. So finished work is never lost, and only what is missing is done again.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core import ranks
from data.exchange import shards
from studio.images import pictures
from studio.images.making import Making
from studio.images.models import Models
from studio.images.prompts import Prompts
from studio.settings import Settings

log = logging.getLogger("studio")
STOP = "stop"
KINDS = ("projector", "reward", "calibrator")


class Shard:
    """A rank's stand-in for the store: it reads what rank 0 sent, and writes to a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.samples, self.runs = ShardSamples(self), ShardRuns()
        self.scores, self.missing = ShardWriter(self, "events"), ShardWriter(self, "missing")

    def write(self, kind: str, rows: Iterable[Mapping[str, Any]]) -> None:
        if rows := list(rows):
            name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"  # names are in the order of writing
            pictures.write(self.folder / name, shards.written(kind, rows))


class ShardWriter:
    """Writes new rows of one kind to the folder."""

    def __init__(self, shard: Shard, kind: str) -> None:
        self._shard, self._kind = shard, kind

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._shard.write(self._kind, rows)


class ShardSamples(ShardWriter):
    """The samples of this rank's share; new ones go to the folder."""

    def __init__(self, shard: Shard) -> None:
        super().__init__(shard, "samples")
        self.rows: Sequence[Mapping[str, Any]] = ()

    def find(self, **_: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in self.rows]


class ShardRuns:
    """The runs that are in use. Rank 0 has recorded the shipped models before it shares work out."""

    def __init__(self) -> None:
        self.used: Mapping[str, Any] = {}

    def promoted(self, kind: str) -> dict[str, Any] | None:
        return self.used.get(kind)

    def get(self, id: str) -> dict[str, Any]:
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
        self.mine, self._ids = list(items), set()
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
    own, ids = making.settings.home, set()
    home = home or own
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
    shard.runs.used, shard.samples.rows = used, rows
    return making


@functools.lru_cache(maxsize=1)
def _following(settings: Settings) -> tuple[Shard, Making]:
    """Cached, as the models are loaded once."""
    shard = Shard(folder_of(settings.home) / f"rank-{ranks.rank()}")
    return shard, Making(settings, shard, Models(settings, shard), Prompts(settings.prompts, settings.world))


def halting(settings: Settings, stop: Callable[[], bool] | None) -> Callable[[], bool]:
    """Whether this process was asked to stop, or rank 0 has stopped."""
    file = folder_of(settings.home) / STOP
    return lambda: bool(stop and stop()) or file.exists()
