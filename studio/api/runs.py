"""Endpoints for runs: what was trained or measured, how it compares, its card and its files, and its end."""

from typing import Any, Literal

import gradio as gr

from studio.api.answers import file
from studio.experiments import PAGE, REPORT, report_of
from studio.numbers import plain, whole
from studio.pages import shared
from studio.studio import Studio

TOLD = "id kind state promoted parent message created finished".split()


class Runs:
    """Expects the studio."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def runs(
        self,
        kind: str | None = None,
        state: Literal["queued", "running", "stopped", "interrupted", "done", "failed"] | None = None,
        limit: int = 20,
    ) -> list[dict[str, Any]]:
        """Training runs and experiments, the newest first.

        Parameters:
            kind: only this kind: cycle, reward, projector, calibrator, lora, experiment, ...
            state: only in this state
            limit: runs in the answer, 200 at most

        Returns:
            runs: [{id, kind, state, promoted, parent, message, created, finished}]
        """
        given = {"kind": kind, "state": state}
        filters = {name: value for name, value in given.items() if value is not None}
        found = self._studio.runs.find(limit=whole("limit", limit, 1, 200), **filters)
        return [{name: run[name] for name in TOLD} for run in found]

    def run(self, run: str) -> dict[str, Any]:
        """One run, how far it is, where it comes from and what came of it.

        Parameters:
            run: the run's id

        Returns:
            id, kind, state, stage, step, total, left: seconds or null, metrics: the latest, message, promoted, config, results: its held-out result and the like, labels: that it saw, parents: ids, the nearest first, children: ids, promotions: [{action, who, created}], bytes: of its files or null, part_of: the loop that it belongs to or null, samples: methods for start_grid that show the projector before and after it
        """
        found, page = self._studio.runs.status(run), self._studio.runs.page(run)
        row = found["run"]
        told = "id kind state stage step total left metrics message".split()
        return {name: found[name] for name in told} | {
            "promoted": row["promoted"],
            "config": row["config"],
            "results": row["metrics"] or {},
            "labels": row["labels"] or {},
            "parents": [one["id"] for one in page["parents"]],
            "children": [one["id"] for one in page["children"]],
            "promotions": [
                {name: event[name] for name in ("action", "who", "created")} for event in page["promotions"]
            ],
            "bytes": page["bytes"],
            "part_of": page["part_of"],
            "samples": self._studio.runs.sample_methods(run),
        }

    def curves(self, run: str, limit: int = 500) -> list[dict[str, Any]]:
        """What a run reported as it went on, the latest last.

        Parameters:
            run: the run's id
            limit: reports in the answer, 5000 at most

        Returns:
            reports: [{stage, step, total, left, metrics}]
        """
        return plain(self._studio.runs.status(run, whole("limit", limit, 1, 5000))["history"])

    def compare_runs(self, run: str, other: str) -> dict[str, Any]:
        """How two runs differ in their settings and labels, and their held-out results.

        Parameters:
            run: a run's id
            other: another one's

        Returns:
            runs: the two ids; settings: [{name, values, differ}]; labels: of each, how many by source; events: score events between their labels, or null; heldout: the result of each, or null; comparable: whether both were judged on the same prompts and seeds by the same judge; why: the sentence where they were not
        """
        found = self._studio.runs.compare(run, other)
        return plain({**found, "runs": [one["id"] for one in found["runs"]]})

    def model_card(self, run: str) -> str:
        """The model card of a run, in Markdown with the Hub's front matter.

        Parameters:
            run: the run's id

        Returns:
            the card
        """
        return self._studio.runs.model_card(run)

    def download_run(self, run: str) -> dict[str, Any]:
        """A run's checkpoint, verified, with its model card.

        Parameters:
            run: the run's id

        Returns:
            the zip
        """
        with shared.room() as made:
            return file(self._studio.runs.pack(run, made))

    def report(self, run: str, format: Literal["html", "json"] = "html") -> dict[str, Any]:
        """The report of an experiment that is done.

        Parameters:
            run: the run's id
            format: html (opens offline) or json (its data)

        Returns:
            the file
        """
        found = self._studio.runs.get(run)
        report_of(self._studio, found)
        if format not in ("html", "json"):
            raise ValueError("A report is there as html and as json: choose one of them.")
        return file(self._studio.runs.folder(found["id"]) / (REPORT if format == "json" else PAGE))

    def delete_run(
        self, run: str, sure: bool = False, who: str = "", profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """Delete a run's files; what it was and its results stay. Refused for what is on, in use or part of a loop. For those who may manage the studio.

        Parameters:
            run: the run's id
            sure: true, as what is deleted is gone
            who: from sign_in

        Returns:
            run: the id; bytes: that are free again
        """
        name = shared.admin(self._studio, who, profile)
        if sure is not True:
            raise ValueError("Say that you are sure (sure: true): what is deleted is gone.")
        return {"run": run, "bytes": self._studio.runs.delete(run, name)}
