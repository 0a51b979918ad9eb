"""Endpoints for training: start, watch, stop, and put into use."""

from typing import Any, Literal

import gradio as gr

from studio import jobs
from studio.checks import whole
from studio.service import Studio
from studio.tabs import shared

TOLD = "id kind state promoted parent message created finished".split()


class Training:
    """Expects the studio."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def status(self) -> dict[str, Any]:
        """How the studio stands: whether its models are loaded, which are in use, how much is labelled, what is training.

        Returns:
            ready, backbone, scorer, projector, reward, device, samples, scored, corrections, training: a run's id or null
        """
        return self._studio.status()

    def runs(
        self,
        kind: str | None = None,
        state: Literal["queued", "running", "stopped", "interrupted", "done", "failed"] | None = None,
        limit: int = 20,
    ) -> list[dict[str, Any]]:
        """Training runs, the newest first.

        Parameters:
            kind: only this kind: cycle, reward, projector, calibrator, lora, experiment, ...
            state: only in this state
            limit: runs in the answer, 200 at most

        Returns:
            runs: [{id, kind, state, promoted, parent, message, created, finished}]
        """
        given = {"kind": kind, "state": state}
        filters = {name: value for name, value in given.items() if value is not None}
        found = self._studio.runs(limit=whole("limit", limit, 1, 200), **filters)
        return [{name: run[name] for name in TOLD} for run in found]

    def run(self, run: str) -> dict[str, Any]:
        """One run, and how far it is.

        Parameters:
            run: the run's id

        Returns:
            id, kind, state, stage, step, total, left: seconds or null, metrics: the latest, message, config, results: its held-out result and the like
        """
        found = jobs.status(self._studio, run)
        row = found["run"]
        told = "id kind state stage step total left metrics message".split()
        return {name: found[name] for name in told} | {
            "promoted": row["promoted"],
            "config": row["config"],
            "results": row["metrics"] or {},
        }

    def start_training(
        self,
        kind: Literal["cycle", "reward", "projector", "calibrator", "lora"] = "cycle",
        config: dict[str, Any] | None = None,
        who: str = "",
        profile: gr.OAuthProfile | None = None,
    ) -> dict[str, Any]:
        """Start a training in the background; one at a time. For those who may manage the studio.

        Parameters:
            kind: cycle is the whole loop: corrections, calibrator, reward model, projector, held-out result
            config: settings of the training where they are not the usual ones, such as {"steps": 200}
            who: from sign_in

        Returns:
            run: its id, for the endpoint run
        """
        shared.admin(self._studio, who, profile)
        if config is not None and not isinstance(config, dict):
            raise ValueError('The settings of a training are an object, for example {"steps": 200}.')
        if kind not in ("cycle", "reward", "projector", "calibrator", "lora"):
            raise ValueError("The kind of a training is cycle, reward, projector, calibrator or lora.")
        return {"run": jobs.start(self._studio, kind, config or {})}

    def stop_training(
        self, run: str, who: str = "", profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """Stop a training after the step that it is in; what it has done is kept.

        Parameters:
            run: the run's id
            who: from sign_in

        Returns:
            run: the id
        """
        shared.admin(self._studio, who, profile)
        jobs.stop(self._studio, run)
        return {"run": run}

    def resume_training(
        self, run: str, who: str = "", profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """Go on with a training that was stopped, interrupted or failed.

        Parameters:
            run: the run's id
            who: from sign_in

        Returns:
            run: the id
        """
        shared.admin(self._studio, who, profile)
        return {"run": jobs.resume(self._studio, run)}

    def promote(
        self, run: str, who: str = "", force: bool = False, profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """Put what a run has trained into use. Refused where its held-out result is worse.

        Parameters:
            run: the run's id
            who: from sign_in
            force: also where it is not better

        Returns:
            run: the id; state: in use
        """
        name = shared.admin(self._studio, who, profile)
        self._studio.promote(run, name, force=force is True)
        return {"run": run, "state": "in use"}

    def rollback(
        self,
        kind: Literal["cycle", "reward", "projector", "calibrator", "lora"],
        who: str = "",
        profile: gr.OAuthProfile | None = None,
    ) -> dict[str, Any]:
        """Take the last promotion of a kind back: what was in use before is in use again.

        Parameters:
            kind: of what
            who: from sign_in

        Returns:
            kind: the kind; run: what is in use now, or null for what the project ships
        """
        name = shared.admin(self._studio, who, profile)
        found = self._studio.rollback(kind, name)
        return {"kind": kind, "run": found["id"] if found else None}
