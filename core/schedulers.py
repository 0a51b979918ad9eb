"""Other schedulers for a model than the one that it came with, by diffusers' class names.

A scheduler is made `from_config` of the model's own, so it keeps the model's noise schedule, prediction type and spacing of
steps. Which ones serve is decided by what the model predicts: noise, v or the sample on a schedule of betas, or the flow of
a rectified flow.
"""

from __future__ import annotations

from typing import Any

BETAS = ("epsilon", "v_prediction", "sample")
FLOW = "flow_prediction"
# what each works with, in the order of a list to choose from
SCHEDULERS: dict[str, tuple[str, ...]] = {
    "EulerDiscreteScheduler": BETAS,
    "EulerAncestralDiscreteScheduler": BETAS[:2],
    "HeunDiscreteScheduler": BETAS[:2],
    "DDIMScheduler": BETAS,
    "PNDMScheduler": BETAS[:2],
    "LMSDiscreteScheduler": BETAS[:2],
    "DPMSolverMultistepScheduler": (*BETAS, FLOW),
    "UniPCMultistepScheduler": (*BETAS, FLOW),
    "DEISMultistepScheduler": (*BETAS, FLOW),
    "KDPM2AncestralDiscreteScheduler": BETAS[:2],
    "LCMScheduler": BETAS,
    "TCDScheduler": BETAS,
    "FlowMatchEulerDiscreteScheduler": (FLOW,),
}


def predicted(config: dict[str, Any]) -> str:
    """The prediction type of a scheduler's configuration; "" for one of another kind (consistency models' own)."""
    if str(config.get("_class_name", "")).startswith("FlowMatch") or config.get("use_flow_sigmas"):
        return FLOW
    known = "beta_start" in config or "trained_betas" in config
    return str(config.get("prediction_type", "epsilon")) if known else ""


def serving(scheduler: Any, own_sigmas: bool = False) -> list[str]:
    """The names of the schedulers that serve a model, by the one that it came with, which is the first. own_sigmas: the
    pipeline sets the times of its steps itself, which the solvers for betas do not take."""
    config = {**scheduler.config, "_class_name": type(scheduler).__name__}
    kind, own = predicted(config), type(scheduler).__name__
    names = [name for name, kinds in SCHEDULERS.items() if kind in kinds and name != own]
    return [own, *(name for name in names if not own_sigmas or SCHEDULERS[name] == (FLOW,))]


def like(scheduler: Any, name: str, own_sigmas: bool = False) -> Any:
    """A scheduler of another class with the configuration of a model's own; ValueError for one that cannot serve it."""
    import diffusers

    names = serving(scheduler, own_sigmas)
    if name not in names:
        raise ValueError(
            f"The scheduler {str(name)[:60]!r} does not serve this model, which came with {names[0]}: choose one of "
            f"{', '.join(names)}."
        )
    if name == names[0]:
        return type(scheduler).from_config(scheduler.config)
    config = scheduler.config
    # Runge-Kutta steps at the start need four steps and more, and models of Stable Diffusion come without them
    more: dict[str, Any] = {"skip_prk_steps": True} if name == "PNDMScheduler" else {}
    if predicted({**config, "_class_name": names[0]}) == FLOW:
        shift = config.get("shift") or config.get("flow_shift") or 1.0
        solver = {"use_flow_sigmas": True, "prediction_type": FLOW, "flow_shift": shift}
        more = {"shift": shift} if SCHEDULERS[name] == (FLOW,) else solver
    return getattr(diffusers, name).from_config(config, **more)


def calls_a_step(scheduler: Any, name: str = "") -> int:
    """How many predictions a sampling step of a scheduler takes, or of another class where that is named."""
    import diffusers

    return getattr(getattr(diffusers, name) if name else scheduler, "order", 1)
