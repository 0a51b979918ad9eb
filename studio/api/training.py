"""Endpoints for training and experiments: what there is, start, stop, go on, and put into use."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from studio.doors import ADMINISTRATORS, RunId, endpoint
from studio.experiments import EXPERIMENTS
from studio.studio import Studio
from studio.training.configs import FIELDS, Field


@endpoint()
def kinds(studio: Studio) -> dict[str, Any]:
    """What can be trained and measured here, and the settings of each.

    Returns: trainings: {kind: {setting: {default, bounds: [low, high] or choices, meaning}}}, for start_training; experiments: {name: {title, question, settings}}, for start_experiment
    """
    own = studio.models.sampling()
    return {
        "trainings": {kind: _settings(fields, own) for kind, fields in FIELDS.items()},
        "experiments": {
            name: {"title": one.title, "question": one.question, "settings": _settings(one.fields, own)}
            for name, one in EXPERIMENTS.items()
        },
    }


@endpoint(ADMINISTRATORS)
def start_training(
    studio: Studio,
    kind: Annotated[
        Literal["cycle", "reward", "warmup", "projector", "calibrator", "lora", "round"],
        "cycle is the whole loop: corrections, calibrator, reward model, projector, held-out result; round makes and scores images with the projector in use, to be corrected next",
    ] = "cycle",
    config: Annotated[
        dict[str, Any] | None,
        'settings of the training where they are not the usual ones, such as {"steps": 200}',
    ] = None,
    who: str = "",
) -> dict[str, Any]:
    """Start a training in the background; one at a time.

    Returns: run: its id, for the endpoint run
    """
    if kind not in FIELDS:
        raise ValueError(f"The kind of a training is one of {', '.join(FIELDS)}.")
    return {"run": studio.runs.start(kind, _given(config))}


@endpoint(ADMINISTRATORS)
def start_experiment(
    studio: Studio,
    name: Annotated[
        Literal["fidelity", "single", "shift", "tau", "alignment", "corrections"],
        "as the endpoint kinds lists them",
    ],
    config: Annotated[
        dict[str, Any] | None, 'settings where they are not the usual ones, such as {"size": "full"}'
    ] = None,
    who: str = "",
) -> dict[str, Any]:
    """Start one of the paper's experiments in the background; one at a time. It is a run, with a report once it is done.

    Returns: run: its id, for the endpoints run and report
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"The experiment is one of {', '.join(EXPERIMENTS)}.")
    return {"run": studio.runs.start("experiment", {**_given(config), "name": name})}


@endpoint(ADMINISTRATORS)
def stop_training(studio: Studio, run: RunId, who: str = "") -> dict[str, Any]:
    """Stop a training or an experiment after the step that it is in; what it has done is kept.

    Returns: run: the id
    """
    studio.runs.stop(run)
    return {"run": run}


@endpoint(ADMINISTRATORS)
def resume_training(studio: Studio, run: RunId, who: str = "") -> dict[str, Any]:
    """Go on with a training or an experiment that was stopped, interrupted or failed.

    Returns: run: the id
    """
    return {"run": studio.runs.resume(run)}


@endpoint(ADMINISTRATORS)
def promote(
    studio: Studio, run: RunId, who: str = "", force: Annotated[bool, "also where it is not better"] = False
) -> dict[str, Any]:
    """Put what a run has trained into use. Refused where its held-out result is worse.

    Returns: run: the id; state: in use
    """
    studio.runs.promote(run, who, force)
    return {"run": run, "state": "in use"}


@endpoint(ADMINISTRATORS)
def rollback(
    studio: Studio,
    kind: Annotated[Literal["cycle", "reward", "projector", "calibrator", "lora"], "of what"],
    who: str = "",
) -> dict[str, Any]:
    """Take the last promotion of a kind back: what was in use before is in use again.

    Returns: kind: the kind; run: what is in use now, or null for what the project ships
    """
    used = studio.runs.rollback(kind, who)
    return {"kind": kind, "run": used["id"] if used else None}


def _given(config: Any) -> dict[str, Any]:
    if config is not None and not isinstance(config, dict):
        raise ValueError('The settings of a training are an object, for example {"steps": 200}.')
    return config or {}


def _settings(fields: Mapping[str, Field], own: Mapping[str, Any]) -> dict[str, Any]:
    """own: the backbone's sampling, which stands where nothing is chosen."""
    return {
        name: {"default": own.get(name, one.default), "bounds": list(one.bounds), "meaning": one.meaning}
        for name, one in fields.items()
    }
