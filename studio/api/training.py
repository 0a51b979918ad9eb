"""Endpoints for training and experiments: what there is, start, stop, go on, and put into use."""

from collections.abc import Mapping
from typing import Any, Literal

import gradio as gr

from studio.experiments import EXPERIMENTS
from studio.pages import shared
from studio.studio import Studio
from studio.training.configs import FIELDS, Field


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

    def kinds(self) -> dict[str, Any]:
        """What can be trained and measured here, and the settings of each.

        Returns:
            trainings: {kind: {setting: {default, bounds: [low, high] or choices, meaning}}}, for start_training; experiments: {name: {title, question, settings}}, for start_experiment
        """
        own = self._studio.models.sampling()
        return {
            "trainings": {kind: _settings(fields, own) for kind, fields in FIELDS.items()},
            "experiments": {
                name: {"title": one.title, "question": one.question, "settings": _settings(one.fields, own)}
                for name, one in EXPERIMENTS.items()
            },
        }

    def start_training(
        self,
        kind: Literal["cycle", "reward", "warmup", "projector", "calibrator", "lora", "round"] = "cycle",
        config: dict[str, Any] | None = None,
        who: str = "",
        profile: gr.OAuthProfile | None = None,
    ) -> dict[str, Any]:
        """Start a training in the background; one at a time. For those who may manage the studio.

        Parameters:
            kind: cycle is the whole loop: corrections, calibrator, reward model, projector, held-out result; round makes and scores images with the projector in use, to be corrected next
            config: settings of the training where they are not the usual ones, such as {"steps": 200}
            who: from sign_in

        Returns:
            run: its id, for the endpoint run
        """
        shared.admin(self._studio, who, profile)
        if kind not in FIELDS:
            raise ValueError(f"The kind of a training is one of {', '.join(FIELDS)}.")
        return {"run": self._studio.runs.start(kind, _given(config))}

    def start_experiment(
        self,
        name: Literal["fidelity", "single", "shift", "tau", "alignment", "corrections"],
        config: dict[str, Any] | None = None,
        who: str = "",
        profile: gr.OAuthProfile | None = None,
    ) -> dict[str, Any]:
        """Start one of the paper's experiments in the background; one at a time. It is a run, with a report once it is done. For those who may manage the studio.

        Parameters:
            name: as the endpoint kinds lists them
            config: settings where they are not the usual ones, such as {"size": "full"}
            who: from sign_in

        Returns:
            run: its id, for the endpoints run and report
        """
        shared.admin(self._studio, who, profile)
        if name not in EXPERIMENTS:
            raise ValueError(f"The experiment is one of {', '.join(EXPERIMENTS)}.")
        return {"run": self._studio.runs.start("experiment", {**_given(config), "name": name})}

    def stop_training(
        self, run: str, who: str = "", profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """Stop a training or an experiment after the step that it is in; what it has done is kept. For those who may manage the studio.

        Parameters:
            run: the run's id
            who: from sign_in

        Returns:
            run: the id
        """
        shared.admin(self._studio, who, profile)
        self._studio.runs.stop(run)
        return {"run": run}

    def resume_training(
        self, run: str, who: str = "", profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """Go on with a training or an experiment that was stopped, interrupted or failed. For those who may manage the studio.

        Parameters:
            run: the run's id
            who: from sign_in

        Returns:
            run: the id
        """
        shared.admin(self._studio, who, profile)
        return {"run": self._studio.runs.resume(run)}

    def promote(
        self, run: str, who: str = "", force: bool = False, profile: gr.OAuthProfile | None = None
    ) -> dict[str, Any]:
        """Put what a run has trained into use. Refused where its held-out result is worse. For those who may manage the studio.

        Parameters:
            run: the run's id
            who: from sign_in
            force: also where it is not better

        Returns:
            run: the id; state: in use
        """
        name = shared.admin(self._studio, who, profile)
        self._studio.runs.promote(run, name, force=force is True)
        return {"run": run, "state": "in use"}

    def rollback(
        self,
        kind: Literal["cycle", "reward", "projector", "calibrator", "lora"],
        who: str = "",
        profile: gr.OAuthProfile | None = None,
    ) -> dict[str, Any]:
        """Take the last promotion of a kind back: what was in use before is in use again. For those who may manage the studio.

        Parameters:
            kind: of what
            who: from sign_in

        Returns:
            kind: the kind; run: what is in use now, or null for what the project ships
        """
        name = shared.admin(self._studio, who, profile)
        found = self._studio.runs.rollback(kind, name)
        return {"kind": kind, "run": found["id"] if found else None}


def _given(config: Any) -> dict[str, Any]:
    if config is not None and not isinstance(config, dict):
        raise ValueError('The settings of a training are an object, for example {"steps": 200}.')
    return config or {}


def _settings(fields: Mapping[str, Field], own: Mapping[str, Any]) -> dict[str, Any]:
    """own: the backbone's sampling, which stands where nothing is chosen."""
    return {
        name: {
            "default": own.get(name, field.default),
            "bounds": list(field.bounds),
            "meaning": field.meaning,
        }
        for name, field in fields.items()
    }
