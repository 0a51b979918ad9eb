"""The commands that make what the project ships: `python -m studio pretrain STAGE`, `ship` and `examples`.

`data/models/make.sh` runs them in order, from nothing to the end.
"""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from studio.cli.commands import SAME, choices
from studio.cli.console import Console
from studio.doors import Result, command, group
from studio.numbers import real, shown, whole
from studio.settings import ROOT, Settings

if TYPE_CHECKING:
    from studio.studio import Studio

PRETRAIN = ("vae", "diffuser", "scorer", "reward")


@group("stage", {stage: {} for stage in PRETRAIN}, "Make an embedded model from the shapes world.")
def pretrain(
    console: Console,
    stage: str,
    *,
    out: Annotated[str | None, "the folder where the model goes"] = None,
    work: Annotated[str | None, "the folder of renders and training state"] = None,
    vae: Annotated[str | None, "the folder of the autoencoder that the diffuser works in"] = None,
    set: Annotated[list[str] | None, "a setting, for example steps=100; may be given several times"] = None,
) -> Result:
    """Make an embedded model from the shapes world."""
    function = pretraining(stage)
    parameters = inspect.signature(function).parameters
    state = Path(work or ROOT / ".studio/pretrain")
    folder = Path(out or (state / "vae-out" if stage == "vae" else ROOT / "data/models" / stage))
    places = {
        "out": folder, "folder": folder, "work": state if stage != "scorer" else state / "scorer",
        "vae_folder": Path(vae or state / "vae-out"), "diffuser_folder": Settings.from_env().backbone,
        "on_progress": console.steps(stage), "stop": console.stop.is_set,
    }  # fmt: skip
    passed = {name: value for name, value in places.items() if name in parameters}
    made = function(**passed | checked_options(stage, choices(set)))
    result, figures = made if isinstance(made, tuple) else (made, {})
    data = {"stage": stage, "folder": str(folder), "result": result, "figures": figures}
    end = "not finished." if result.stopped else f"saved to {folder}."
    text = f"{stage}: {result.step} of {result.total} steps; {end}"
    return Result(data, text, SAME if result.stopped else "")


@command()
def examples(
    console: Console,
    *,
    out: Annotated[str | None, "the folder where they go; without it data/examples"] = None,
    force: Annotated[bool, "write them though the detector finds too much wrong"] = False,
) -> Result:
    """Make the example pairs that an empty studio begins with, by the models in use."""
    from studio.images.examples import make
    from studio.studio import Studio

    folder = Path(out or ROOT / "data/examples")
    stop = console.stop.is_set
    index = make(Settings.from_env(), folder, Studio, console.count("prompts"), stop, force=force)
    size = sum(path.stat().st_size for path in folder.iterdir())
    images, checked = len(index["samples"]), index["checked"]
    data = {
        "folder": str(folder), "images": images, "bytes": size, "made_by": index["made_by"], "checked": checked,
    }  # fmt: skip
    right, digits, over = checked["right"], checked["digits"], checked["passed_over"]
    text = (
        f"{images} images in {folder}, {size / 1000:.0f} kB. By the detector {right} of {digits} digits "
        f"({right / max(1, digits):.1%}) are right; {checked['false_rises']} ▲ are false; {len(over)} prompts were passed over "
        f"for one or for digits{': ' if over else ''}{'; '.join(over)}."
    )
    return Result(data, text)


@command()
def ship(
    studio: "Studio", folder: Annotated[str, "where the folders reward and projector are written"]
) -> Result:
    """Write the reward model (with its teacher) and the projector that are in use, in float16, as the project ships them."""
    from core import checkpoint
    from core.foresight import RewardParts, Teacher

    models, written = studio.models, {}
    for kind in ("reward", "projector"):
        using = models.using(kind)
        if using.folder is None:
            raise ValueError(using.problem)
        model: Any = models.open(kind, using.folder).half()
        if kind == "reward":
            model = RewardParts(model, Teacher.of_reward(using.folder, models.diffuser()).half())
        of = checkpoint.verify(using.folder)
        manifest = checkpoint.save(model, Path(folder) / kind, of["meta"], kind=of["kind"])
        written[kind] = sum(file["bytes"] for file in manifest["files"].values())
    size = sum(written.values()) / 1e6
    data = {"folder": str(Path(folder)), "bytes": written}
    return Result(data, f"{', '.join(written)} are in {Path(folder)}, {size:.1f} MB.")


def pretraining(stage: str) -> Callable[..., Any]:
    """The function that makes a stage's model."""
    module = importlib.import_module(f"studio.pretrain.{'diffuser' if stage == 'vae' else stage}")
    return getattr(module, f"pretrain_{stage}")


def checked_options(stage: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """The settings of a stage, which are the plain keyword arguments of its function, in their types."""
    parameters = inspect.signature(pretraining(stage)).parameters.values()
    known = {p.name: p.default for p in parameters if type(p.default) in (int, float, str)}
    options = {}
    for name, value in chosen.items():
        if name not in known:
            listed = ", ".join(f"{name}={default}" for name, default in known.items())
            raise ValueError(f"The stage {stage} has no setting {shown(name)}: it has {listed}.")
        kind = type(known[name])
        check = {int: whole, float: real}.get(kind)
        options[name] = check(name, value, 0, 10**9) if check else value
    return options
