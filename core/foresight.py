"""Foresight: the clean latents that the backbone predicts at its first step, and the word scores read off them.

One call of the denoiser at the first time step, without guidance, predicts the finished latents. A LoRA adapter that was
fine-tuned on stored pairs of noise and finished latents (`core.training.foresight`) improves the prediction. A reader
scores each word in it. Together they are the teacher of the reward model and the judge of the projector, which never
follows their gradient: a projector that does finds noise from which the denoiser, but not the sampler, makes more things
(core/training/NOTES.md). The paper has no teacher.

Dimension key: B batch, C H W latents, J words.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from core import checkpoint
from core.adapter import WEIGHTS, Adapter, Conditions
from core.diffusion import Diffuser, Text
from core.loading import autocast
from core.networks.reward import PictureReader

if TYPE_CHECKING:
    from core.training.data import Texts

READER, TUNED = "reader", "foresight"  # folders of a teacher's parts
FOLDER = "teacher"  # of a teacher, in the folder of the reward model that it taught
COPIED = 2**28  # bytes of the largest denoiser of which a copy with the adapter in its weights is kept
LEAST = 0.01  # signal that the first noisy latents need where the network predicts the noise


@dataclass(frozen=True)
class FirstStep:
    """The first time step of a schedule, x = signal * clean + spread * noise, and what the network predicts."""

    time: Tensor
    signal: float
    spread: float
    predicts: str  # epsilon, v_prediction, sample or flow
    gain: float  # scale of the noise at the network's input

    @classmethod
    def of(cls, diffuser: Diffuser, steps: int | None = None) -> FirstStep:
        """The first step of a backbone's schedule of `steps` (its default); ValueError where it allows no prediction."""
        scheduler = type(diffuser.pipe.scheduler).from_config(diffuser.pipe.scheduler.config)
        scheduler.set_timesteps(diffuser.default_steps if steps is None else steps)
        time, config = scheduler.timesteps[0], scheduler.config
        scale = torch.full((1, 1, 1, 1), float(getattr(scheduler, "init_noise_sigma", 1.0)))
        if hasattr(scheduler, "scale_model_input"):
            scale = scheduler.scale_model_input(scale, time)
        gain = float(scale)
        if hasattr(scheduler, "alphas_cumprod"):
            alpha = float(scheduler.alphas_cumprod[min(int(time), len(scheduler.alphas_cumprod) - 1)])
            first = cls(time, alpha**0.5, (1 - alpha) ** 0.5, config.get("prediction_type", "epsilon"), gain)
        else:  # flow matching: x = (1 - sigma) * clean + sigma * noise, and the network predicts noise - clean
            sigma = float(scheduler.sigmas[0])
            first = cls(time, 1 - sigma, sigma, "flow", gain)
        if first.predicts == "epsilon" and first.signal < LEAST:
            raise ValueError(
                f"{diffuser.name} predicts the noise, and of the picture {first.signal:.4f} is left at its first step: "
                "nothing can be foreseen from it. Train the reward model without foresight (foresight_steps=0)."
            )
        return first

    def clean(self, x: Tensor, predicted: Tensor) -> Tensor:
        """The clean latents (B, C, H, W) from the network's input x and its prediction."""
        if self.predicts == "epsilon":
            return (x - self.spread * predicted) / self.signal
        if self.predicts == "v_prediction":
            return self.signal * x - self.spread * predicted
        if self.predicts == "flow":
            return x - self.spread * predicted
        return predicted


class Foresight:
    """noise (B, C, H, W) -> the finished latents that the backbone, or `denoiser` where it is set, predicts."""

    def __init__(self, diffuser: Diffuser) -> None:
        self.diffuser, self.first = diffuser, FirstStep.of(diffuser)
        self.denoiser: Any = None

    def __call__(self, noise: Tensor, text: Conditions, rows: Tensor) -> Tensor:
        """(B, C, H, W) in float32, for the prompts at rows (B,) of text."""
        diffuser, device, dtype = self.diffuser, self.diffuser.device, self.diffuser.dtype
        denoiser = diffuser.denoiser if self.denoiser is None else self.denoiser
        conditions = text.of(rows, torch.ones(len(rows), dtype=torch.bool), noise.shape[-2:])
        if width := denoiser.config.get("time_cond_proj_dim"):  # guidance is an input of such a network
            scale = torch.full((len(rows),), diffuser.default_guidance - 1)
            embedding = diffuser.pipe.get_guidance_scale_embedding(scale, width)
            conditions["timestep_cond"] = embedding.to(device, dtype)
        x, on_cpu = noise.to(device, torch.float32) * self.first.gain, device.type == "cpu"
        if on_cpu and dtype == torch.float32:
            precision = autocast(device)
        else:  # weights of 16 bits beside text of 32
            short = torch.bfloat16 if on_cpu else dtype
            precision = torch.autocast(device.type, short, enabled=dtype != torch.float32)
        with precision:
            predicted = denoiser(x.to(dtype), self.first.time.to(device), **conditions, return_dict=False)[0]
        return self.first.clean(x, predicted.float())


class Teacher:
    """Foresight with its adapter, and a reader."""

    def __init__(self, diffuser: Diffuser, reader: PictureReader, adapter: Adapter | None = None) -> None:
        self.diffuser, self.reader, self.adapter = diffuser, reader.eval(), adapter
        self.foresight = Foresight(diffuser)

    @torch.no_grad()
    def foresee(self, noise: Tensor, text: Conditions, rows: Tensor) -> Tensor:
        """The predicted finished latents (B, C, H, W), for the prompts at rows (B,) of text."""
        if self.adapter and self.foresight.denoiser is None and self._small():
            self.foresight.denoiser = self.adapter.fused(self.diffuser)
        if self.adapter is None or self.foresight.denoiser is not None:
            return self.foresight(noise, text, rows)
        with self.adapter.on(self.diffuser):
            return self.foresight(noise, text, rows)

    def _small(self) -> bool:
        """Whether a copy of the denoiser may be kept: it is small, and no offload moves its weights."""
        hooks, denoiser = ("_hf_hook", "_diffusers_hook"), self.diffuser.denoiser
        if any(hasattr(module, hook) for module in denoiser.modules() for hook in hooks):
            return False
        weights = list(denoiser.parameters())
        return not any(w.is_meta for w in weights) and sum(w.nbytes for w in weights) <= COPIED

    @torch.no_grad()
    def read(self, picture: Tensor, hidden: Tensor, mask: Tensor, words: Tensor) -> Tensor:
        """Logits (B, J, 10) of the words of a picture (B, C, H, W)."""
        device = next(self.reader.parameters()).device
        return self.reader(*(tensor.to(device) for tensor in (picture, hidden, mask, words)))

    def of(self, texts: Texts) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """This teacher for some texts: noise (B, C, H, W) and rows (B,) -> the foreseen picture and the logits of its words."""
        conditions = Conditions.encode(self.diffuser, texts.prompts)

        def teach(noise: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            picture = self.foresee(noise, conditions, rows)
            hidden, mask, words, _ = texts.take(rows)
            return picture, self.read(picture, hidden, mask, words)

        return teach

    def judge(self, texts: Texts) -> Callable[[Tensor, Tensor], Tensor]:
        """This teacher as a judge, for some texts: noise (B, C, H, W) and rows (B,) -> expected scores (B, J)."""
        teach = self.of(texts)
        return lambda noise, rows: PictureReader.expected(teach(noise, rows)[1])

    def logits(self, noise: Tensor, text: Text) -> Tensor:
        """Logits (B, J, 10) of the words of text (B prompts) in the picture foreseen from noise (B, C, H, W)."""
        picture = self.foresee(noise, Conditions(self.diffuser, {}, [text]), torch.arange(len(text)))
        return self.read(picture, text.hidden, text.mask, text.words)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the reader and the adapter's layers into the folder, both in the reader's dtype."""
        self.reader.save_pretrained(Path(folder) / READER)
        if self.adapter:
            (Path(folder) / TUNED).mkdir(parents=True, exist_ok=True)
            layers = load_file(self.adapter.folder / WEIGHTS)
            layers = {name: layer.to(self.reader.dtype) for name, layer in layers.items()}
            save_file(layers, Path(folder) / TUNED / WEIGHTS)

    def half(self) -> Teacher:
        """A copy to be saved in float16."""
        return Teacher(self.diffuser, copy.deepcopy(self.reader).half(), self.adapter)

    @classmethod
    def of_reward(cls, folder: Path | str, diffuser: Diffuser) -> Teacher:
        """Load the teacher of a reward model; ValueError where there is none, or it is of another backbone."""
        manifest, teacher = checkpoint.verify(folder), Path(folder) / FOLDER
        if not (teacher / READER).is_dir():
            raise ValueError(
                f"The reward model in {folder} is of an earlier kind, without a teacher: train it again (train reward) to "
                "choose and to judge noise by what the backbone foresees. Projectors go on working."
            )
        reader = PictureReader.from_pretrained(str(teacher / READER), local_files_only=True)
        reader = reader.float().requires_grad_(False).to(diffuser.device)
        adapter = None
        if (path := teacher / TUNED / WEIGHTS).is_file():
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            adapter = Adapter(path.parent, sha256, manifest["meta"].get("backbone_revision", ""))
            adapter.check_fits(diffuser)
        return cls(diffuser, reader, adapter)


@dataclass
class RewardParts:
    """A reward model and its teacher, saved by `core.checkpoint.save` into one folder."""

    reward: Any
    teacher: Teacher | None

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the reward model into the folder, and the teacher into a subfolder."""
        self.reward.save_pretrained(folder)
        if self.teacher:
            self.teacher.save_pretrained(Path(folder) / FOLDER)
