"""The commands that make what the project ships: `python -m studio pretrain STAGE`, `ship` and `examples`.

`data/models/make.sh` runs them in order, from nothing to the end.
"""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import Any

from studio.cli.commands import Result, choices, studio_of
from studio.numbers import real, shown, whole
from studio.settings import ROOT, Settings

PRETRAIN = ("vae", "diffuser", "scorer", "reward")


def pretrain(given: argparse.Namespace, console: Any) -> Result:
    """Make an embedded model from the shapes world."""
    function = pretraining(given.stage)
    parameters = inspect.signature(function).parameters
    out, work = (
        Path(given.out or ROOT / "data/models" / given.stage),
        Path(given.work or ROOT / ".studio/pretrain"),
    )
    if given.stage == "vae" and not given.out:
        out = work / "vae-out"
    hooks = {"on_progress": console.steps(given.stage), "stop": console.stop.is_set}
    places = {
        "out": out, "folder": out, "work": work if given.stage != "scorer" else work / "scorer",
        "vae_folder": Path(given.vae or work / "vae-out"), "diffuser_folder": Settings.from_env().backbone,
    }  # fmt: skip
    chosen = checked_options(given.stage, choices(given.set))
    values = {**{k: v for k, v in {**places, **hooks}.items() if k in parameters}, **chosen}
    found = function(**values)
    result, figures = found if isinstance(found, tuple) else (found, {})
    data = {"stage": given.stage, "folder": str(out), "result": result, "figures": figures}
    text = f"{given.stage}: {result.step} of {result.total} steps; " + (
        "not finished." if result.stopped else f"saved to {out}."
    )
    return Result(data, text, "the same command" if result.stopped else "")


def examples(given: argparse.Namespace, console: Any) -> Result:
    """Make the example pairs that an empty studio begins with, by the models in use."""
    from studio.images.examples import make
    from studio.studio import Studio

    folder = Path(given.out or ROOT / "data/examples")
    progress, stop = console.count("prompts"), console.stop.is_set
    index = make(Settings.from_env(), folder, Studio, progress, stop, force=given.force)
    size = sum(path.stat().st_size for path in folder.iterdir())
    data = {
        "folder": str(folder),
        "images": len(index["samples"]),
        "bytes": size,
        "made_by": index["made_by"],
        "checked": index["checked"],
    }
    text = "{images} images in {folder}, {kb:.0f} kB. By the detector {right} of {digits} digits ({share:.1%}) are right"
    text = text.format(**data, **index["checked"], kb=size / 1000, share=share(index["checked"]))
    over = index["checked"]["passed_over"]
    text += f"; {index['checked']['false_rises']} ▲ are false; {len(over)} prompts were passed over for one or for digits"
    return Result(data, f"{text}{': ' if over else ''}{'; '.join(over)}.")


def share(checked: dict[str, Any]) -> float:
    """Of the digits that are right."""
    return checked["right"] / max(1, checked["digits"])


def ship(given: argparse.Namespace, console: Any) -> Result:
    """Write the reward model (with its teacher) and the projector that are in use, in float16, as the project ships them."""
    from core import checkpoint
    from core.foresight import RewardParts, Teacher

    models, folder, found = studio_of(given).models, Path(given.folder), {}
    for kind in ("reward", "projector"):
        using = models.using(kind)
        if using.model is None:
            raise ValueError(using.problem)
        model: Any = models.open(kind, using.folder).half()
        if kind == "reward":
            model = RewardParts(model, Teacher.of_reward(using.folder, models.diffuser()).half())
        of = checkpoint.verify(using.folder)
        manifest = checkpoint.save(model, folder / kind, of["meta"], kind=of["kind"])
        found[kind] = sum(file["bytes"] for file in manifest["files"].values())
    size = sum(found.values())
    return Result(
        {"folder": str(folder), "bytes": found}, f"{', '.join(found)} are in {folder}, {size / 1e6:.1f} MB."
    )


def pretraining(stage: str) -> Any:
    """The function of studio.pretrain.diffuser that makes a stage's model."""
    if stage == "scorer":
        from studio.pretrain.scorer import pretrain_scorer

        return pretrain_scorer
    if stage == "reward":
        from studio.pretrain.reward import pretrain_reward

        return pretrain_reward
    from studio.pretrain import diffuser

    return getattr(diffuser, f"pretrain_{stage}")


def checked_options(stage: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """The settings of a stage, which are the plain keyword arguments of its function, in their types."""
    parameters = inspect.signature(pretraining(stage)).parameters.values()
    known = {p.name: p.default for p in parameters if type(p.default) in (int, float, str)}
    found = {}
    for name, value in chosen.items():
        if name not in known:
            listed = ", ".join(f"{name}={default}" for name, default in known.items())
            raise ValueError(f"The stage {stage} has no setting {shown(name)}: it has {listed}.")
        kind = type(known[name])
        check = {int: whole, float: real}.get(kind)
        found[name] = check(name, value, 0, 10**9) if check else value
    return found
