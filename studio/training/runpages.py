"""What there is to know of a run: where it comes from, what came of it, what it differs in from another; and its end.

A run that is deleted loses its files and stays in the store, archived: samples and other runs name it.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import checkpoint
from studio.access.identity import check_name
from studio.images.models import SHIPPED
from studio.training import jobs, modelcard
from studio.training.configs import FIELDS
from studio.training.runs import Learning

MOST = 1000  # runs of a family that are looked through
PROJECTS = ("cycle", "projector", "warmup")  # kinds that make a projector


class RunPages(Learning):
    """The part of `Studio` for the page of a run."""

    def run_page(self, run_id: str) -> dict[str, Any]:
        """{run, settings: [{name, value, default, meaning}], parents: nearest first, children, promotions: its own events,
        bytes: of its files | None, part_of: the loop that it belongs to | None}; ValueError where there is no such run."""
        run = self.run(run_id)
        fields = FIELDS.get(run["kind"], {})
        given = {k: v for k, v in run["config"].items() if k not in ("used", "cycle", "source", "name")}
        settings = [
            {
                "name": name,
                "value": value,
                "default": fields[name].default if name in fields else None,
                "meaning": fields[name].meaning if name in fields else "",
            }
            for name, value in given.items()
        ]
        promotions = [e for e in self.store.runs.promotions(run["kind"], MOST) if e["run"] == run_id]
        return {
            "run": run,
            "settings": settings,
            "parents": self._parents(run),
            "children": self.store.runs.find(parent=run_id, limit=MOST, archived=True),
            "promotions": promotions,
            "bytes": None if run["archived"] else _bytes(self.run_folder(run_id)),
            "part_of": run["config"].get("cycle"),
        }

    def _parents(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while run["parent"] and len(found) < MOST:
            run = self.run(run["parent"])
            found.append(run)
        return found

    def sample_methods(self, run_id: str) -> list[str]:
        """The projector before and this run's, as ``check_grid`` takes them; none where the run makes no projector."""
        run = self.run(run_id)
        if run["kind"] not in PROJECTS or run["state"] != "done" or run["archived"]:
            return []
        before = (run["config"].get("used") or {}).get("projector") or SHIPPED
        return list(dict.fromkeys([f"projected:{before}", f"projected:{projector_of(run)}"]))

    def compare_runs(self, one: str, other: str) -> dict[str, Any]:
        """How two runs differ: {runs: [one, other], settings: [{name, values: [a, b], differ}], labels: [counts by
        source, each], events: score events between their labels | None, heldout: [result | None, each], comparable: whether
        both were judged on the same prompts and seeds by the same judge, why: the sentence where they were not}."""
        if one == other:
            raise ValueError("These are one and the same run: choose another one to compare it with.")
        runs = [self.run(one), self.run(other)]
        hidden = ("used", "cycle", "source")
        names = dict.fromkeys(name for run in runs for name in run["config"] if name not in hidden)
        rows = [(name, [run["config"].get(name) for run in runs]) for name in names]
        rows.append(("began from", [(run["config"].get("used") or {}).get("projector") for run in runs]))
        last = [(run["labels"] or {}).get("last") for run in runs]
        heldout = [self._heldout_of(run) for run in runs]
        why = ""
        if None in heldout:
            missing = " and ".join(run["id"] for run, found in zip(runs, heldout, strict=True) if not found)
            why = f"There is no held-out result of {missing}."
        elif heldout[0]["key"] != heldout[1]["key"]:
            why = "They were judged on other prompts, seeds or settings, so their figures say nothing of each other."
        return {
            "runs": runs,
            "settings": [{"name": n, "values": v, "differ": v[0] != v[1]} for n, v in rows],
            "labels": [(run["labels"] or {}).get("sources", {}) for run in runs],
            "events": None if None in last else abs(last[1] - last[0]),
            "heldout": heldout,
            "comparable": not why,
            "why": why,
        }

    def delete_run(self, run_id: str, who: str) -> int:
        """Delete a run's files, its parts' with it, and archive it; how many bytes that freed. ValueError for what is on,
        in use or part of a loop."""
        who = check_name(who)
        jobs.sweep(self)
        with self.store.database.writing():
            run = self.run(run_id)
            if run["config"].get("source") == "shipped":
                raise ValueError("This is what the project ships: it cannot be deleted.")
            if loop := run["config"].get("cycle"):
                raise ValueError(f"The run {run_id} is a part of the loop {loop}: delete that.")
            parts = [
                c["id"] for c in self.store.runs.find(parent=run_id, limit=MOST) if "cycle" in c["config"]
            ]
            self.store.runs.archive([run_id, *parts])
            folder = self.run_folder(run_id)
            freed = _bytes(folder) or 0
            self.store.audit.note(
                who, "delete run", run_id, {"kind": run["kind"], "parts": parts, "bytes": freed}
            )
        gone = folder.with_name(f".deleted-{run_id}-{uuid.uuid4().hex[:8]}")
        with contextlib.suppress(FileNotFoundError):
            folder.rename(gone)  # at once, so that nothing reads half of it
        for left in self.settings.runs.glob(".deleted-*"):  # also what an earlier, killed deletion has left
            shutil.rmtree(left, ignore_errors=True)
        return freed

    def model_card(self, run_id: str) -> str:
        """The model card of a run, in Markdown with the Hub's front matter."""
        run = self.run(run_id)
        return modelcard.card(run, self._heldout_of(run), self.settings.backbone)

    def pack_run(self, run_id: str, folder: Path | str) -> Path:
        """A zip in this folder with a run's checkpoint, verified, and its model card as README.md."""
        run = self.run(run_id)
        if run["archived"]:
            raise ValueError(f"The run {run_id} was deleted: its checkpoint is gone.")
        source = self.models.folder_of(run)
        checkpoint.verify(source)
        target = Path(folder) / f"{run['kind']}-{run_id}.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
            card = zipfile.ZipInfo("README.md")  # without the time: the same run gives the same bytes
            card.external_attr = 0o644 << 16
            packed.writestr(card, self.model_card(run_id), zipfile.ZIP_DEFLATED)
            for path in sorted(p for p in source.rglob("*") if p.is_file()):
                packed.write(path, path.relative_to(source).as_posix())
        return target


def projector_of(run: Mapping[str, Any]) -> str:
    """The run under which a training's projector stands in the store."""
    return f"{run['id']}-projector" if run["kind"] == "cycle" else run["id"]


def _bytes(folder: Path) -> int | None:
    """The size of all files of a folder, or None where it is not there."""
    if not folder.is_dir():
        return None
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def changed(settings: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of a run page's settings those that are not the default, first; then the others."""
    return sorted(settings, key=lambda s: s["value"] == s["default"])
