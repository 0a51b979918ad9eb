"""The whole loop on tiny random backbones of every family, and a table of what works on each:

python -m tests.studio.images.loop              all of them, some ten minutes on two cores
python -m tests.studio.images.loop flux-dev     those that are named

loop: collect, score, correct, train, promote and compare, and a grid of seeds, on square images and others; own draw: an
image from our latents equals that of the pipeline's own draw with the seed's generator, square and not; foresight: what is
foreseen equals a slow reference; guiders: the kinds of guidance whose images are made and differ.
"""

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from core import checkpoint
from core.backbone import Backbone
from core.diffusion import Diffuser
from core.guidance import Guided
from core.guiders import GUIDERS
from core.networks.projector import NoiseProjector
from core.networks.reward import RewardModel
from core.noise import draw
from data.prompts import load
from studio.studio import Studio, check_request
from tests import backbones, tiny
from tests.studio.gridded import grid_of

SIZES = {"64x64": (64, 64), "96x64": (64, 96)}
CYCLE = {
    "prompts": 4, "warmup_steps": 1, "projector_steps": 2, "projector_batch": 2, "heldout_prompts": 1, "heldout_seeds": 1,
    "foresight_steps": 2, "foresight_rank": 2, "reader_steps": 2, "reward_steps": 2, "reward_batch": 4,
    "corrections_needed": 8, "seed": 3,
}  # fmt: skip


def prepare(top: Path, name: str) -> Path:
    """Write a backbone, and a projector and a reward model that fit it, where that is not done yet."""
    folder = top / name
    if not folder.exists():
        diffuser = Diffuser(backbones.build(name), size=(64, 64))
        torch.manual_seed(1)
        shape = {"latent_channels": diffuser.channels, "text_width": diffuser.text_width}
        projector = NoiseProjector(**shape, **tiny.SMALL)
        torch.nn.init.normal_(projector.out.weight, std=0.2)  # a fresh one changes almost nothing
        checkpoint.save(projector, folder / "projector")
        checkpoint.save(RewardModel(**shape, **tiny.SMALL, head_width=16, head_depth=1), folder / "reward")
        backbones.save(name, folder / "diffuser")
    return folder


def studio_at(home: Path, folder: Path, models: Path, /, **changes: Any) -> Studio:
    """A studio on a backbone that `prepare` wrote; its scorer is that of the tiny models."""
    settings = dataclasses.replace(
        tiny.settings_at(home, models),
        backbone=str(folder / "diffuser"),
        projector=folder / "projector",
        reward=folder / "reward",
        **changes,
    )
    return Studio(settings)


def last(studio: Studio, *asked: Any, **more: Any) -> Any:
    """The end of a comparison."""
    return list(studio.comparison.compare(check_request(*asked, **more)))[-1]


def pixels(view: Any) -> np.ndarray:
    return np.asarray(Image.open(view.image_path))


def run(studio: Studio, size: tuple[int, int], guidance: float, of: Callable[[str, int], list[str]]) -> None:
    """Go through the loop on a studio that samples in two steps; AssertionError where something is not as it should be."""
    studio.prompts.of = lambda split, count: of(split, min(count, 8))  # type: ignore[method-assign]  # fewer, for time
    ids = studio.collecting.collect(load("shapes_train", 3), 2)
    ids += studio.collecting.collect(load("shapes_train", 2), 1, "projected")
    ids += studio.collecting.collect(load("shapes_validation", 2), 1)
    assert studio.scoring.score(ids) == len(ids)
    made = {
        tuple(row[k] for k in ("height", "width", "steps", "guidance"))
        for row in studio.store.samples.find(ids=ids)
    }
    assert made == {(*size, 2, guidance)}
    assert studio.annotation.simulate(count=20)["words"] >= 20
    cycle = studio.training.train("cycle", CYCLE)
    metrics = cycle["metrics"]
    assert cycle["state"] == "done" and metrics["labels"]["vlm"] > 0 and metrics["labels"]["simulated"] > 0
    sampling = metrics["heldout"]["sampling"]
    assert sampling["steps"] == cycle["config"]["steps"] == 2 and sampling["guidance"] == guidance
    trained = [Backbone.read(studio.runs.folder(cycle["id"]) / part) for part in ("reward", "projector")]
    assert trained == [studio.models.backbone()] * 2
    studio.runs.promote(cycle["id"], "Ann", force=True)
    update = last(studio, "a red circle above a blue square", "1, 2", **studio.models.sampling())
    assert update.stage == "done" and [pair.seed for pair in update.pairs] == [1, 2]
    for pair in update.pairs:
        assert pixels(pair.none).shape == pixels(pair.projected).shape == (*size, 3)
        assert not np.array_equal(pixels(pair.none), pixels(pair.projected))
        assert pair.none.total is not None and pair.projected.total is not None
    row = studio.store.samples.get(update.pairs[0].projected.id)
    assert row["projector_run"] == f"{cycle['id']}-projector"
    view = grid_of(studio, steps="2")
    assert all(cell.sample for cell in view.cells)


def main(names: list[str]) -> None:
    from tests.core import test_families

    top = Path(tempfile.mkdtemp())
    models = tiny.models(top / "models")
    print(
        "| backbone | loop, square | loop, 96 x 64 | own draw | foresight | guiders | s |\n"
        + "|---" * 7
        + "|"
    )
    for name in names or list(backbones.SAMPLING):
        began, folder = time.monotonic(), prepare(top, name)
        cells = []
        for text, size in SIZES.items():
            studio = studio_at(top / f"{name}-{text}", folder, models, size=text, steps="2")
            cells.append(outcome(lambda: run(studio, size, backbones.SAMPLING[name][1], studio.prompts.of)))  # noqa: B023
        loaded = {name: Diffuser.load(folder / "diffuser", size=(64, 64))}
        own, foreseen = (
            test_families.test_an_image_from_our_latents_equals_the_pipelines_own_draw_with_the_seeds_generator,
            test_families.test_foresight_is_what_the_first_step_of_the_whole_schedule_says,
        )
        cells.append(outcome(lambda: [own(loaded, name, size) for size in SIZES.values()]))  # noqa: B023
        cells.append(outcome(lambda: foreseen(loaded, name)))  # noqa: B023
        cells.append(", ".join(guiders(loaded[name])) or "none")
        print("|", " | ".join([name, *cells, f"{time.monotonic() - began:.0f}"]), "|", flush=True)


def outcome(check: Callable[[], Any]) -> str:
    """Yes, or the error of any kind."""
    try:
        check()
    except Exception as error:  # noqa: BLE001
        return f"no ({type(error).__name__}: {str(error).splitlines()[0][:150] if str(error) else ''})"
    return "yes"


def guiders(diffuser: Diffuser) -> list[str]:
    """The kinds of guidance whose images are made and differ from the plain ones."""
    text, noise = diffuser.encode(["a red circle", "a blue star"]), draw([3, 4], diffuser.latent_shape())
    guidance = diffuser.default_guidance or (3.0 if diffuser.guided else 0.0)
    plain, working = diffuser.sample(text, noise, 3, guidance), []
    for kind in [kind for kind in GUIDERS if kind != "cfg"]:
        try:
            latents = Guided(diffuser, kind).sample(text, noise, 3, guidance)
        except ValueError:
            continue
        except Exception as error:  # noqa: BLE001
            working.append(f"{kind} fails ({type(error).__name__})")
            continue
        if latents.isfinite().all() and not torch.allclose(latents, plain, atol=1e-4):
            working.append(kind)
    return working


if __name__ == "__main__":
    main(sys.argv[1:])
