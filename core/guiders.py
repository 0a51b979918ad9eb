"""The kinds of guidance that diffusers has, by name: one table, which is read without loading diffusers (core.guidance
samples with them).

The number in a method's name (pag-3) sets the argument `number` of the class. Where that is `guidance_scale`, the kind
takes the place of classifier-free guidance, and without a number it has the guidance of the sampling. Those that weaken
blocks otherwise add a third pass to classifier-free guidance, and their number is the weight of that pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Guider:
    """A kind of guidance.

    cls      its class in diffusers.guiders
    paper    on arXiv
    number   the argument that a number in the method's name sets
    default  that number where the name has none; None: the class's own, or the guidance of the sampling
    layers   the argument that takes the blocks of the denoiser's middle that are weakened; "": none are
    weakens  what of these blocks is left out, as of diffusers' LayerSkipConfig
    options  further arguments
    package  what it needs beside diffusers
    zeroes   its first prediction is zero
    maps     it works on predictions (B, C, H, W), not on sequences
    note     what stands behind the method's name, where the class is not what its name says
    """

    title: str
    cls: str
    paper: str
    number: str = "guidance_scale"
    default: float | None = None
    layers: str = ""
    weakens: Mapping[str, bool] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    package: str = ""
    zeroes: bool = False
    maps: bool = False
    note: str = ""

    @property
    def third(self) -> bool:
        """Whether it adds a third pass."""
        return bool(self.layers) and self.number != "guidance_scale"


BLOCKS = {"skip_attention": True, "skip_ff": True}
SCORES = {"skip_attention": False, "skip_ff": False, "skip_attention_scores": True}
GUIDERS = {
    "cfg": Guider("classifier-free guidance", "ClassifierFreeGuidance", "2207.12598"),
    "cfg-zero": Guider("CFG-Zero*", "ClassifierFreeZeroStarGuidance", "2503.18886", zeroes=True),
    "tcfg": Guider("tangential classifier-free guidance", "TangentialClassifierFreeGuidance", "2503.18137"),
    "mag": Guider("magnitude-aware guidance", "MagnitudeAwareGuidance", "2508.03442"),
    "apg": Guider(
        "adaptive projected guidance", "AdaptiveProjectedGuidance", "2410.02416",
        # the paper's values; those of the class leave out the projection and the momentum
        options={"eta": 0.0, "adaptive_projected_guidance_momentum": -0.5},
    ),
    "apg-mix": Guider(
        "classifier-free, after six steps adaptive projected guidance", "AdaptiveProjectedMixGuidance", "2410.02416",
        number="adaptive_projected_guidance_scale", default=10.0,
    ),
    "fdg": Guider(
        "frequency-decoupled guidance", "FrequencyDecoupledGuidance", "2506.19713", number="high_scale", package="kornia", maps=True,
    ),
    "autoguidance": Guider(
        "autoguidance", "AutoGuidance", "2406.02507", layers="auto_guidance_config", weakens=BLOCKS,
        note="layer drop",
    ),
    "slg": Guider(
        "skip-layer guidance", "SkipLayerGuidance", "2411.18664", number="skip_layer_guidance_scale", default=2.8,
        layers="skip_layer_config", weakens=BLOCKS,
    ),
    "pag": Guider(
        "perturbed attention guidance", "PerturbedAttentionGuidance", "2403.17377", number="perturbed_guidance_scale",
        default=3.0, layers="perturbed_guidance_config", weakens=SCORES,
        # the window begins after this share of the steps: 0 would skip the first
        options={"perturbed_guidance_start": -1.0, "perturbed_guidance_stop": 1.0},
    ),
    "seg": Guider(
        "smoothed energy guidance", "SmoothedEnergyGuidance", "2408.00760", number="seg_guidance_scale", default=3.0,
        layers="seg_guidance_config",
    ),
}  # fmt: skip


def guidance_at(kind: str, scale: float | None, guidance: float) -> float:
    """The guidance against the prediction without the prompt that a kind of a scale has, where that of the sampling is
    `guidance`: its own scale where it takes the place of that."""
    return scale if scale and GUIDERS[kind].number == "guidance_scale" else guidance


def check_guidance(kind: str, scale: float | None) -> float | None:
    """The scale of a kind, its default for None; ValueError for an unknown kind or a scale that is not above 0."""
    if kind not in GUIDERS:
        raise ValueError(f"There is no guidance {kind!r}: choose one of {', '.join(GUIDERS)}.")
    scale = GUIDERS[kind].default if scale is None else float(scale)
    if scale is not None and not 0 < scale <= 100:
        raise ValueError(f"The scale {scale:g} of {kind} is out of range: use a number above 0, up to 100.")
    return scale
