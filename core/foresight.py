"""Foresight: the clean latents that the backbone predicts at its first step, and the word scores read off them.

One call of the denoiser at the first time step, without classifier-free guidance, predicts the finished latents: the
pipeline's own call, ended before its first step, so that it serves every family. A LoRA adapter that was
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
from core.adapter import WEIGHTS, Adapter
from core.diffusion import Diffuser, Text
from core.loading import autocast
from core.networks.reward import PictureReader
from core.quantize import has_plain_weights

if TYPE_CHECKING:
    from core.training.data import Texts

READER, TUNED = "reader", "foresight"  # folders of a teacher's parts
FOLDER = "teacher"  # of a teacher, in the folder of the reward model that it taught
COPIED = 2**28  # bytes of the largest denoiser of which a copy with the adapter in its weights is kept
LEAST = 0.01  # signal that the first noisy latents need where the network predicts the noise


def clean(scheduler: Any, sample: Tensor, predicted: Tensor) -> Tensor:
    """The clean latents (B, C, H, W) that a prediction at the first step of a scheduler's schedule stands for, from what the
    scheduler got it for. Prediction types: epsilon, v, the sample itself, flow matching (noise - clean) and trigflow."""
    config, time = scheduler.config, scheduler.timesteps[0]
    if (
        config.get("prediction_type") == "trigflow"
    ):  # Sana-Sprint: x = cos(t) clean + sin(t) noise, scaled by sigma_data
        return (time.cos() * sample - time.sin() * predicted) / config.sigma_data
    if is_flow(scheduler):  # x = (1 - sigma) clean + sigma noise
        return sample - float(scheduler.sigmas[0]) * predicted
    x = scheduler.scale_model_input(sample, time)  # signal * clean + spread * noise
    signal, spread = signal_and_spread(scheduler)
    if config.get("prediction_type", "epsilon") == "epsilon":
        return (x - spread * predicted) / signal
    return predicted if config.prediction_type == "sample" else signal * x - spread * predicted


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler is one of flow matching."""
    config = scheduler.config
    flow = config.get("prediction_type") == "flow_prediction" or config.get("use_flow_sigmas")
    return bool(flow) or not hasattr(scheduler, "alphas_cumprod")


def signal_and_spread(scheduler: Any) -> tuple[float, float]:
    """How much of the clean latents and of the noise the network gets at the first step."""
    alphas = scheduler.alphas_cumprod
    alpha = float(alphas[min(int(scheduler.timesteps[0]), len(alphas) - 1)])
    return alpha**0.5, (1 - alpha) ** 0.5


def check_first_step(diffuser: Diffuser, steps: int | None = None) -> None:
    """ValueError where the first step of the backbone's schedule of `steps` (its default) allows no prediction of the picture."""
    scheduler = type(diffuser.scheduler).from_config(diffuser.scheduler.config)
    if is_flow(scheduler) or scheduler.config.get("prediction_type", "epsilon") != "epsilon":
        return
    scheduler.set_timesteps(diffuser.default_steps if steps is None else steps)
    signal, _ = signal_and_spread(scheduler)
    if signal < LEAST:
        raise ValueError(
            f"{diffuser.name} predicts the noise, and of the picture {signal:.4f} is left at its first step: "
            "nothing can be foreseen from it. Train the reward model without foresight (foresight_steps=0)."
        )


class Foresight:
    """noise (B, C, H, W) -> the finished latents that the backbone predicts at its first step."""

    def __init__(self, diffuser: Diffuser) -> None:
        check_first_step(diffuser)
        self.diffuser = diffuser

    def __call__(self, noise: Tensor, text: Text, rows: Tensor) -> Tensor:
        """(B, C, H, W) in float32, for the prompts at rows (B,) of text."""
        diffuser, on_cpu = self.diffuser, self.diffuser.device.type == "cpu"
        if on_cpu and diffuser.dtype == torch.float32:
            precision = autocast(diffuser.device)
        else:  # weights of 16 bits beside text of 32
            short = torch.bfloat16 if on_cpu else diffuser.dtype
            precision = torch.autocast(diffuser.device.type, short, enabled=diffuser.dtype != torch.float32)
        with precision:
            sample, predicted = diffuser.first(text.take(rows.tolist()), noise)
        return clean(diffuser.pipe.scheduler, sample.float(), predicted.float())


class Teacher:
    """Foresight with its adapter, and a reader."""

    def __init__(self, diffuser: Diffuser, reader: PictureReader, adapter: Adapter | None = None) -> None:
        self.diffuser, self.reader, self.adapter = diffuser, reader.eval(), adapter
        self.foresight = Foresight(diffuser)

    @torch.no_grad()
    def foresee(self, noise: Tensor, text: Text, rows: Tensor) -> Tensor:
        """The predicted finished latents (B, C, H, W), for the prompts at rows (B,) of text."""
        fused = self.foresight.diffuser is not self.diffuser
        if self.adapter and not fused and self._small():
            self.foresight = Foresight(self.diffuser.with_denoiser(self.adapter.fused(self.diffuser)))
            fused = True
        if self.adapter is None or fused:
            return self.foresight(noise, text, rows)
        with self.adapter.on(self.diffuser):
            return self.foresight(noise, text, rows)

    def _small(self) -> bool:
        """Whether a copy of the denoiser may be kept: it is small, and its weights can be merged with the adapter's."""
        denoiser = self.diffuser.denoiser
        return has_plain_weights(denoiser) and sum(w.nbytes for w in denoiser.parameters()) <= COPIED

    @torch.no_grad()
    def read(self, picture: Tensor, hidden: Tensor, mask: Tensor, words: Tensor) -> Tensor:
        """Logits (B, J, 10) of the words of a picture (B, C, H, W)."""
        device = next(self.reader.parameters()).device
        return self.reader(*(tensor.to(device) for tensor in (picture, hidden, mask, words)))

    def of(self, texts: Texts) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """This teacher for some texts: noise (B, C, H, W) and rows (B,) -> the foreseen picture and the logits of its words."""
        conditions = self.diffuser.encode_many(texts.prompts)

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
        picture = self.foresee(noise, text, torch.arange(len(text)))
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
