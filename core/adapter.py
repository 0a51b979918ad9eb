"""LoRA adapters of a denoiser: loading them, putting them on and merging them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core import checkpoint
from core.backbone import Backbone
from core.diffusion import Diffuser
from core.quantize import unquantized

if TYPE_CHECKING:
    from diffusers import ModelMixin

KIND = "lora"
WEIGHTS = "pytorch_lora_weights.safetensors"  # as diffusers names them
LOADED = "lora_"  # prefix of the names of adapters on a denoiser
HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
)


@dataclass(frozen=True)
class Adapter:
    """A verified adapter on disk: its folder, the digest of its manifest, and the revision of the backbone it changes."""

    folder: Path
    sha256: str
    backbone_revision: str

    @classmethod
    def load(cls, folder: Path | str) -> Adapter:
        """Load the adapter of a checkpoint; CheckpointError where it is damaged or holds something else."""
        manifest = checkpoint.verify(folder, KIND, "LoRA")
        return cls(Path(folder), checkpoint.digest(folder), manifest["meta"].get("backbone_revision", ""))

    def check_fits(self, diffuser: Diffuser) -> None:
        """ValueError where it was trained on another backbone."""
        if unquantized(self.backbone_revision) != unquantized(diffuser.revision):
            trained_on = Backbone.read(self.folder).title
            named = f"{trained_on}, another backbone" if trained_on else "another backbone"
            raise ValueError(
                f"The LoRA in {self.folder} was trained on {named} than {diffuser.name}: train one on this backbone, or choose "
                "its backbone."
            )

    def _check(self, diffuser: Diffuser) -> None:
        """ValueError where the layers cannot be put on the diffuser's denoiser."""
        self.check_fits(diffuser)
        check_loaded(diffuser)
        adapters = getattr(diffuser.denoiser, "peft_config", {})
        if foreign := [name for name in adapters if not name.startswith(LOADED)]:
            raise ValueError(
                f"The backbone has an adapter of its own ({foreign[0]}): fuse it into the weights (fuse_lora, "
                "save_pretrained) before a LoRA is put on it."
            )

    @contextmanager
    def on(self, diffuser: Diffuser) -> Iterator[None]:
        """Put the layers on the diffuser's denoiser while the block runs; afterwards it is bit for bit what it was.

        The layers stay on the denoiser, disabled, so that the next batch need not load them again.
        """
        self._check(diffuser)
        denoiser, name = diffuser.denoiser, LOADED + self.sha256[:16]
        adapters = getattr(denoiser, "peft_config", {})
        if name not in adapters:
            if adapters:
                denoiser.unload_lora()
            self._load(denoiser, diffuser, name)
            denoiser.requires_grad_(False)
        denoiser.set_adapters([name])
        denoiser.enable_lora()
        try:
            yield
        finally:
            denoiser.disable_lora()

    def fused(self, diffuser: Diffuser) -> ModelMixin:
        """A copy of the diffuser's denoiser with the layers merged into its weights: half the time of a call with separate
        layers, for the memory of a second denoiser."""
        self._check(diffuser)
        tuned = copy.deepcopy(diffuser.denoiser)
        for name in HOOKS:  # whatever counts the calls of the original does not count those of the copy
            getattr(tuned, name).clear()
        if getattr(tuned, "peft_config", {}):
            tuned.unload_lora()
        self._load(tuned, diffuser, LOADED)
        tuned.fuse_lora()
        tuned.unload_lora()
        return tuned.requires_grad_(False).eval()

    def _load(self, denoiser: ModelMixin, diffuser: Diffuser, name: str) -> None:
        denoiser.load_lora_adapter(
            str(self.folder), prefix=diffuser.family.denoiser, weight_name=WEIGHTS, adapter_name=name,
            local_files_only=True,
        )  # fmt: skip


def takes_adapters(diffuser: Diffuser) -> bool:
    """Whether diffusers can put LoRA layers on the denoiser; not on PixArt's."""
    return hasattr(diffuser.denoiser, "add_adapter")


def check_loaded(diffuser: Diffuser) -> None:
    """ValueError where the denoiser is loaded a layer at a time (sequential offload): LoRA layers on it would stay empty."""
    if any(parameter.is_meta for parameter in diffuser.denoiser.parameters()):
        raise ValueError(
            f"A LoRA needs all of {diffuser.name}'s denoiser at once, and it is brought to the device a layer at a time: "
            "set STUDIO_OFFLOAD to model or none, or leave the LoRA out."
        )
