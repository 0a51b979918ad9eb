"""`python -m studio benchmark`: what projection, scoring and training cost on this machine.

It measures the models in use, and a pipeline of SDXL's shapes with random weights, by the code that makes images and
trains; the figures are those of `core.evaluation.benchmark`.
"""

from __future__ import annotations

import gc
import platform
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.experiments.watching import Watching
from studio.numbers import plain, shown
from studio.training.configs import FIELDS, check_benchmark

if TYPE_CHECKING:
    import torch

    from core.diffusion import Diffuser
    from core.evaluation.benchmark import Sampling
    from core.progress import Stop
    from studio.images.models import Using
    from studio.studio import Studio

SHARE_AIM = 0.005  # of a 30-step SDXL image, on a data-centre GPU
PAIR_AIM = 1.6  # single images
PROMPTS = 16  # that are scored and trained on
CPU_BATCH = 4  # of a training at SDXL's shapes on a CPU, where 64 would need 28 GB
GIB = 2**30
SDXL = "sdxl"  # the family whose shapes are measured beside the models in use


def measure(
    studio: Studio,
    config: dict[str, Any] | None = None,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    stop: Stop = None,
    family: str = SDXL,
) -> dict[str, Any]:
    """Measure costs; the report's keys are those of the JSON. Raises Stopped. family: other than
    sdxl, an image in its shapes is measured and nothing else."""
    import torch

    settings, models, began = check_benchmark(config), studio.models, time.monotonic()
    watching = Watching(on_progress, stop or (lambda: False))
    if family != SDXL:
        from studio.pretrain.flow_shapes import STACKS

        if family not in STACKS:
            raise ValueError(f"There are no shapes of {shown(family)}: choose {', '.join([SDXL, *STACKS])}.")
    with models.lock:
        if family != SDXL:
            cases = [_flow(studio, family, settings, watching)]
        else:
            cases = [_in_use(studio, settings, watching)]
            if settings["sdxl"]:
                cases.append(_sdxl(studio, settings, watching))
    return plain(
        {
            "device": device_name(models.device),
            "torch": torch.__version__,
            "gpu": models.device.type == "cuda",
            "threads": torch.get_num_threads(),
            "config": settings,
            "seconds": round(time.monotonic() - began, 1),
            "cases": cases,
        }
    )


def _in_use(studio: Studio, settings: dict[str, Any], watching: Watching) -> dict[str, Any]:
    """Measure the models in use, at the backbone's default size."""
    import numpy as np

    from core.evaluation.benchmark import Sampling, scoring_cost

    models, prompts, name = studio.models, _prompts(studio), "models in use"
    sampling = Sampling(settings["steps"], settings["guidance"], timed_steps=settings["steps"])
    used = {kind: models.using(kind) for kind in ("reward", "projector")}
    case = _case(studio, name, models.diffuser(), used, sampling, settings["repeats"], _batches(), watching)
    side = (case["height"], case["width"], 3)
    images = np.random.default_rng(0).integers(0, 256, (len(prompts), *side), dtype=np.uint8)
    scorer = models.scorer()
    cost = scoring_cost(scorer, images, prompts, models.device, settings["repeats"], watching.stop,
                        watching.counter(f"{name}, scoring"))  # fmt: skip
    return {"name": name.capitalize(), **case, "scoring": {"scorer": scorer.name, **cost}}


def _sdxl(studio: Studio, settings: dict[str, Any], watching: Watching) -> dict[str, Any]:
    """Measure SDXL's shapes with random weights; not scoring, which does not depend on the backbone."""
    import torch

    from core.diffusion import Diffuser
    from core.evaluation.benchmark import Sampling
    from studio.pretrain import sdxl_shapes

    device, name = studio.models.device, "SDXL's shapes"
    gpu = device.type == "cuda"
    watching.report(f"{name}, making random weights", 0, 1)
    diffuser = Diffuser(sdxl_shapes.pipeline(getattr(torch, settings["sdxl_dtype"]), device), name)
    steps, size = settings["sdxl_steps"], settings["sdxl_size"]
    timed = min(steps, settings["sdxl_timed_steps"] or (steps if gpu else 1))
    sampling = Sampling(steps, settings["sdxl_guidance"], size, size, timed)
    batches = _batches()
    if settings["sdxl_batch"] or not gpu:
        batches = (settings["sdxl_batch"] or CPU_BATCH,) * 2
    case = _case(studio, name, diffuser, {}, sampling, settings["sdxl_repeats"], batches, watching)
    del diffuser
    gc.collect()
    return {"name": f"{name}, random weights", **case}


def _flow(studio: Studio, family: str, settings: dict[str, Any], watching: Watching) -> dict[str, Any]:
    """Measure an image in the shapes of a family of flow matching; on a CPU composed from two blocks of each stack."""
    import torch

    from core.diffusion import Diffuser
    from core.evaluation.benchmark import Sampling, stacked_cost
    from core.networks.projector import NoiseProjector
    from studio.pretrain import flow_shapes

    device, name = studio.models.device, f"{family}'s shapes"
    watching.report(f"{name}, making random weights", 0, 1)
    # float32 on a CPU, most of which compute slower in bfloat16
    dtype = getattr(torch, settings["sdxl_dtype"]) if device.type == "cuda" else torch.float32
    # one more than are timed, as the last block of SD3's is smaller
    diffuser = Diffuser(flow_shapes.pipeline(family, dtype, device, 3), name)
    torch.manual_seed(0)
    shape = {"latent_channels": diffuser.channels, "text_width": diffuser.text_width}
    projector = NoiseProjector(**shape).to(device)
    own, size = diffuser.sampling, settings["sdxl_size"]
    sampling = Sampling(own.steps, own.guidance, size, size)
    stacks = {blocks: whole for _, blocks, whole in flow_shapes.STACKS[family]}
    prompt, repeats = _prompts(studio)[0], settings["sdxl_repeats"]
    cost = stacked_cost(
        diffuser,
        projector,
        prompt,
        stacks,
        sampling,
        repeats,
        watching.stop,
        watching.counter(f"{name}, image"),
    )
    with torch.device("meta"):
        whole = flow_shapes.transformer(family).num_parameters()
    return {
        "name": f"{name}, random weights",
        "backbone": diffuser.name,
        "projector": "new, in its default shape",
        "dtype": str(dtype).removeprefix("torch."),
        "parameters": {"denoiser": whole, "projector": projector.num_parameters()},
        "height": size,
        "width": size,
        "steps": own.steps,
        "guidance": own.guidance,
        "timed_steps": 1,
        "composed": True,
        "stacks": stacks,
        "seconds": {part: cost[part] for part in ("projector", "denoising", "decoding", "image")},
        "share": cost["share"],
    }


def _batches() -> tuple[int, int]:
    """Default batches of the reward model's and of the projector's training."""
    return FIELDS["reward"]["reward_batch"].default, FIELDS["projector"]["projector_batch"].default


def _prompts(studio: Studio) -> list[str]:
    from data.prompts import load

    return load("shapes_heldout", PROMPTS, studio.settings.world)


def _case(
    studio: Studio,
    name: str,
    diffuser: Diffuser,
    used: Mapping[str, Using],
    sampling: Sampling,
    repeats: int,
    batches: tuple[int, int],
    watching: Watching,
) -> dict[str, Any]:
    """Measure image and training of a backbone, with the models that are used with it or new ones in their default shape."""
    import torch

    from core.evaluation.benchmark import image_cost, training_cost
    from core.training.data import Texts
    from studio.images.models import class_of

    prompts = _prompts(studio)
    models = {kind: using.model for kind, using in used.items() if using.model is not None}

    def fresh(kind: str) -> Any:
        shape = {"latent_channels": diffuser.channels, "text_width": diffuser.text_width}
        made = class_of(kind).from_config(models[kind].config) if kind in models else class_of(kind)(**shape)
        return made.to(studio.models.device)

    projector = models.get("projector") or fresh("projector")
    cost = image_cost(
        diffuser, projector, prompts[0], sampling, repeats, watching.stop, watching.counter(f"{name}, image")
    )
    texts, shape = Texts.encode(diffuser.encode, prompts), cost.shape
    training: dict[str, Any]
    try:
        training = training_cost(fresh("reward"), fresh("projector"), texts, shape, batches, repeats, watching.stop,
                                 watching.counter(f"{name}, training"))  # fmt: skip
    except torch.OutOfMemoryError:
        problem = f"Batches of {batches[0]} and {batches[1]} do not fit: set a smaller sdxl_batch."
        training = {"problem": problem}
    sizes = {"denoiser": diffuser.denoiser.num_parameters(), "projector": projector.num_parameters()}
    return {
        "backbone": diffuser.name,
        "projector": used["projector"].name if "projector" in models else "new, in its default shape",
        "dtype": str(diffuser.dtype).removeprefix("torch."),
        "parameters": sizes,
        "height": shape[1] * diffuser.scale,
        "width": shape[2] * diffuser.scale,
        "steps": sampling.steps,
        "guidance": sampling.guidance,
        "timed_steps": sampling.timed_steps,
        "composed": sampling.timed_steps < sampling.steps,
        "seconds": cost.seconds,
        "share": cost.share,
        "pair_in_images": cost.pair_in_images,
        "pair_in_singles": cost.pair_in_singles,
        "image_peak": cost.peak,
        "training": training,
    }


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    try:
        model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        model = None
    return f"CPU, {model[1].strip() if model else platform.processor() or platform.machine()}"


def table(report: dict[str, Any]) -> str:
    """The report as Markdown: a table for each case, each figure with its spread and, where there is one, its aim."""
    memory = "what torch holds on the GPU" if report["gpu"] else "that of the whole process"
    lines = [
        f"{report['device']}; torch {report['torch']}, {report['threads']} threads. Medians of the rounds [quartiles]; "
        + f"memory is {memory}, weights included."
    ]
    for case in report["cases"]:
        timed = f"all {case['steps']} steps timed"
        if case["composed"]:
            timed = f"{case['timed_steps']} of {case['steps']} steps timed, the image composed from them"
        if stacks := case.get("stacks"):
            blocks = " and ".join(f"{count} {name}" for name, count in stacks.items())
            timed = f"a step composed from those with one and two blocks for {blocks}; the text is not timed"
        lines += [
            "",
            (
                f"**{case['name']}**: {case['backbone']}, projector {case['projector']}, "
                f"{case['width']}x{case['height']}, {case['steps']} steps, guidance {case['guidance']:g}, {case['dtype']}, "
                f"{case['parameters']['denoiser'] / 1e6:,.0f} M parameters beside the projector's "
                f"{case['parameters']['projector'] / 1e6:.1f} M; {case['share']['rounds']} rounds, {timed}."
            ),
            "",
            "| figure | measured | aim |",
            "|---|---|---|",
            *(f"| {name} | {value} | {aim} |" for name, value, aim in _rows(case)),
        ]
    return "\n".join(lines)


def _rows(case: dict[str, Any]) -> list[tuple[str, str, str]]:
    seconds = case["seconds"]
    large = not case["name"].startswith("Models")
    rows = [(f"{name}, seconds", _spread(seconds[name]), "") for name in seconds]
    rows += [
        ("projector's share of an image", _spread(case["share"], 100, " %"),
         f"at most {100 * SHARE_AIM:g} % on a data-centre GPU" if large else ""),
    ]  # fmt: skip
    if case.get("stacks"):
        return rows
    peak = case["image_peak"]
    rows += [
        ("pair in one batch, in single images", _spread(case["pair_in_images"]), f"at most {PAIR_AIM}"),
        ("pair in one batch, against one image without and one with", _spread(case["pair_in_singles"]), ""),
    ]  # fmt: skip
    if scoring := case.get("scoring"):
        of = f"{scoring['images']} images of {scoring['words']} words in one batch"
        rows += [
            (f"scoring an image, seconds ({of})", _spread(scoring["per_image"]), ""),
            ("scoring a word, seconds", _spread(scoring["per_word"]), ""),
        ]
    image = [peak[name] for name in ("text", "denoising", "decoding")]
    pair = [peak[name] for name in ("text", "projector", "pair denoising", "pair decoding")]
    memory = {"an image": _most(image), "the projector": peak["projector"], "a pair": _most(pair)}
    memory |= {"scoring": scoring["peak"]} if scoring else {}
    for name, cost in case["training"].items():
        if name == "problem":
            rows.append(("training", cost, ""))
            continue
        memory[f"training the {name}"] = cost["peak"]
        speed = _spread(cost["steps_per_second"])
        rows.append((f"training the {name}, steps a second at batch {cost['batch']}", speed, ""))
    rows += [(f"peak memory of {n}, GiB", f"{b / GIB:.2f}" if b else "-", "") for n, b in memory.items()]
    return rows


def _most(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None


def _spread(rounds: dict[str, float], times: float = 1.0, unit: str = "") -> str:
    low, middle, high = (_number(rounds[name] * times) for name in ("low", "median", "high"))
    return f"{middle}{unit}" if rounds["rounds"] == 1 else f"{middle}{unit} [{low}, {high}]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
