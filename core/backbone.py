"""The backbone that a checkpoint was trained for: facts in the meta of its manifest (`core.checkpoint`).

A projector or reward model reads latents and text of one backbone. Another backbone of other shapes cannot be served; one of
the same shapes may be, where it is a fine-tune, so that is a warning. A checkpoint of an earlier version has no facts: only
its shapes are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from core.checkpoint import MANIFEST
from core.jsonfile import read_or
from core.quantize import unquantized

if TYPE_CHECKING:
    from core.diffusion import Diffuser

META = "backbone"  # the key in a manifest's meta
VALUES = 64  # of each weight matrix, in a fingerprint
ADVICE = (
    "use it on the backbone that it was trained for (STUDIO_BACKBONE), or train one for this backbone "
    "(start=fresh)"
)


@dataclass(frozen=True)
class Backbone:
    """Facts of a backbone; "" and 0 are unknown. name and revision are those of a folder or of a model of the hub."""

    family: str = ""
    name: str = ""
    revision: str = ""
    text: str = ""  # fingerprint of the text encoders
    channels: int = 0  # C of its latents
    text_width: int = 0  # D of its hidden states
    height: int = 0  # of its images, in pixels
    width: int = 0
    prediction: str = ""  # what its denoiser predicts: epsilon, v_prediction, ...
    steps: int = 0  # default sampling steps
    denoiser: str = ""  # fingerprint of the denoiser

    @classmethod
    def of(cls, diffuser: Diffuser, readable: bool = True) -> Backbone:
        """The facts of a loaded diffuser. readable: whether this process can read its weights."""
        height, width = diffuser.size
        prediction = diffuser.pipe.scheduler.config.get("prediction_type") or diffuser.family.predictions[0]
        text = fingerprint(diffuser.text_encoders) if readable else ""
        denoiser = fingerprint([diffuser.denoiser]) if readable else ""
        return cls(
            diffuser.family.name, diffuser.name[-200:], unquantized(diffuser.revision), text,
            diffuser.channels, diffuser.text_width, height, width, str(prediction), diffuser.default_steps, denoiser,
        )  # fmt: skip

    @classmethod
    def read(cls, folder: Path | str) -> Backbone:
        """The facts in the manifest of a checkpoint's folder; unknown ones where it has no manifest, or an earlier one."""
        meta = read_or({}, Path(folder) / MANIFEST).get("meta")
        kept = meta.get(META) if isinstance(meta, dict) else None
        if not isinstance(kept, dict):  # the meta of a LoRA of an earlier version has the name alone
            return cls()
        unknown: dict[str, Any] = asdict(cls())
        return cls(**{name: kept[name] for name, v in unknown.items() if type(kept.get(name)) is type(v)})

    def meta(self) -> dict[str, Any]:
        """The facts as an entry of a manifest's meta."""
        return {META: asdict(self)}

    @property
    def title(self) -> str:
        """Its name with family and revision, for sentences."""
        about = [self.family, f"revision {self.revision[:12]}" if self.revision else ""]
        listed = ", ".join(filter(None, about))
        return f"{self.name[:80]} ({listed})" if listed else self.name[:80]

    def refused(self, trained_for: Backbone, config: Mapping[str, Any]) -> str:
        """The sentence for a projector or reward model whose configuration has other shapes than this backbone, with the
        backbone that it was trained for; '' where the shapes are the same."""
        channels, width = config["latent_channels"], config["text_width"]
        if (channels, width) == (self.channels, self.text_width):
            return ""
        named = f"was trained for {trained_for.title}: it " if trained_for.name else ""
        return (
            f"It {named}reads {channels} latent channels and text of width {width}, and this backbone, {self.title}, has "
            f"{self.channels} and {self.text_width}: {ADVICE}."
        )

    def warning(self, trained_for: Backbone) -> str:
        """The sentence that names both where a model was trained for another backbone than this one; '' for the same one,
        or where that is not known."""
        if not trained_for.name or self._is(trained_for):
            return ""
        differences = []
        if trained_for.family != self.family:
            differences.append("it is of another family")
        if trained_for.text and self.text and trained_for.text != self.text:
            differences.append("its text encoders are others")
        if trained_for.prediction != self.prediction:
            differences.append(f"it predicts {self.prediction} and not {trained_for.prediction}")
        hope = (
            f"{', and '.join(differences).capitalize()}: expect less"
            if differences
            else "For a fine-tune of the same model it may well serve"
        )
        return (
            f"It was trained for {trained_for.title} and is used on {self.title}. {hope}; compare images with and without "
            "it, or train one for this backbone (start=fresh)."
        )

    def _is(self, other: Backbone) -> bool:
        """Whether both are one backbone by what is known of both, whatever they are called and wherever they were loaded from.
        Where the weights cannot be compared, two digests of folders or two commits of the hub are, or else the names."""
        names = ["family", "text", "prediction", "denoiser"]
        if not (self.denoiser and other.denoiser) and len(self.revision) == len(other.revision):
            names.append("revision")

        def known(name: str) -> bool:
            return bool(getattr(self, name) and getattr(other, name))

        if not any(known(name) for name in names[1:] if name != "prediction"):
            names.append("name")
        return all(getattr(self, name) == getattr(other, name) for name in names if known(name))


def fingerprint(networks: Iterable[nn.Module]) -> str:
    """A digest of text encoders, or of a denoiser, that number format, device, saving and the names of layers do not change:
    the shape of every weight matrix and the signs of `VALUES` of its values. "" where the weights are quantised or elsewhere
    (sequential offload)."""
    digest = hashlib.sha256()
    for network in networks:
        named = network.named_parameters()
        matrices = [weight.detach() for name, weight in named if weight.ndim > 1 and "lora_" not in name]
        plain = all(weight.is_floating_point() and not weight.is_meta for weight in matrices)
        if not plain or getattr(network.config, "quantization_config", None):
            return ""
        for mark in sorted({_mark(weight) for weight in matrices}):
            digest.update(mark)
    return digest.hexdigest()[:16]


def _mark(weight: torch.Tensor) -> bytes:
    """A digest of a matrix: its shape and the signs of values that are spread evenly over it."""
    count = min(VALUES, weight.numel())
    at = torch.arange(count, device=weight.device) * (weight.numel() - 1) // max(1, count - 1)
    signs = weight.reshape(-1)[at].float().signbit().cpu().numpy().tobytes()
    return hashlib.sha256(repr(tuple(weight.shape)).encode() + signs).digest()
