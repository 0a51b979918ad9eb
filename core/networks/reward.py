"""The reward model R_phi (arXiv 2510.14526): scores of each word of a prompt, from the noise alone.

`Foresight` predicts the picture's latents from the trunk's maps; word queries, made of u_j and the sentence, read that
picture (`core.networks.reader`); a perceptron and a 10-way classifier return logits over the scores 0..9. No image is
made. The reading part is a model of its own, `PictureReader`: it is trained on finished pictures, and also reads the
backbone's own prediction (`core.foresight`).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from einops import einsum, rearrange
from torch import Tensor, nn

from core.networks.blocks import TextIn, ordinals
from core.networks.reader import Foresight, Reader, Sight
from core.networks.trunk import Trunk, check_inputs, trim

SCORES = 10


@dataclass
class RewardOutput:
    """logits (B, J, 10) of every word; picture (B, C, H, W): the foreseen latents; losses: load_balance, router_z."""

    logits: Tensor
    picture: Tensor
    losses: dict[str, Tensor]


class PictureReader(ModelMixin, ConfigMixin):
    """Latents of a picture (B, C, H, W) and text (B, L, D) -> logits (B, J, 10) of its words."""

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,  # C of the backbone
        text_width: int = 128,  # D of the backbone's text encoder(s), concatenated
        patch: int = 2,  # latents a side of a cell that is read
        heads: int = 4,
        sight_width: int = 64,  # channels of the map of a picture's latents
        head_width: int = 96,  # of the word queries
        head_depth: int = 3,
        dropout: float = 0.1,
        extra: bool = False,  # whether it was taught *nothing else*
    ) -> None:
        super().__init__()
        self.sight = Sight(latent_channels, sight_width, head_width, patch)
        self.word_in = TextIn(text_width, head_width)
        self.sentence_in = nn.Linear(head_width, head_width)
        self.reader = Reader(head_width, heads, head_depth, dropout)
        self.classify = nn.Sequential(
            nn.LayerNorm(head_width), nn.Linear(head_width, head_width), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(head_width, SCORES),
        )  # fmt: skip

    def forward(self, picture: Tensor, text: Tensor, mask: Tensor, words: Tensor) -> Tensor:
        """picture (B, C, H, W), text (B, L, D), mask (B, L), words (B, J, L) averaging weights -> logits (B, J, 10), which are
        meaningless for a word whose weights are zero (padding, or past the window)."""
        return self.read(self.sight(picture.to(self.dtype)), text, mask, words)

    def read(self, shown: Tensor, text: Tensor, mask: Tensor, words: Tensor) -> Tensor:
        """As `forward`, from the map (B, W, h, w) that `sight` made of a picture."""
        return self._read(shown, *self._trimmed(text, mask, words))

    @staticmethod
    def expected(logits: Tensor) -> Tensor:
        """r_j = sum_k k p_k / 9: logits (..., 10) -> expected score (...) in [0, 1]."""
        scores = torch.arange(SCORES, device=logits.device, dtype=logits.dtype)
        return (logits.softmax(-1) * scores).sum(-1) / (SCORES - 1)

    def _trimmed(self, text: Tensor, mask: Tensor, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """text, mask and words cut after the last token that any item uses."""
        if words.dim() != 3 or words.shape[0] != text.shape[0] or words.shape[2] != text.shape[1]:
            raise ValueError(
                f"Word weights {tuple(words.shape)} are not (B, J, L) for text {tuple(text.shape)}."
            )
        text, mask = trim(text.to(self.dtype), mask)
        return text, mask, words[..., : text.shape[1]].to(self.dtype)

    def _read(self, shown: Tensor, text: Tensor, mask: Tensor, words: Tensor) -> Tensor:
        """Logits of the words from the map (B, W, h, w), with inputs that are trimmed."""
        tokens, keep = self.word_in(text), rearrange(mask, "b l -> b l 1").to(text.dtype)
        sentence = (tokens * keep).sum(1) / keep.sum(1).clamp_min(1)
        query = einsum(words, tokens, "b j l, b l f -> b j f")
        query = query + ordinals(query.shape[1], query.shape[2], query)
        query = query + rearrange(self.sentence_in(sentence), "b f -> b 1 f")
        # a word attends to the words that have tokens, and always to itself
        itself = torch.eye(words.shape[1], dtype=torch.bool, device=words.device)
        peers = rearrange(words.abs().sum(-1) > 0, "b j -> b 1 j") | itself
        return self.classify(self.reader(query, shown, peers)).float()


class RewardModel(PictureReader):
    """noise (B, C, H, W) and text (B, L, D) -> logits (B, J, 10)."""

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,  # C of the backbone
        text_width: int = 128,  # D of the backbone's text encoder(s), concatenated
        width: int = 64,  # W: positions and text inside the trunk
        patch: int = 2,  # latents a side of one noise position
        heads: int = 4,
        depth: int = 2,  # trunk blocks: self-attention, cross-attention, mixture of experts
        experts: int = 4,
        top_k: int = 2,  # experts picked for a position
        channels: Sequence[int] = (64, 128, 192),  # of the encoder; each after the first halves the map
        sight_width: int = 64,  # channels of the map of a picture's latents
        head_width: int = 96,  # of the word queries
        head_depth: int = 3,
        dropout: float = 0.1,
        extra: bool = False,  # whether it was taught *nothing else*
    ) -> None:
        # by keyword: register_to_config takes positional arguments for defaults
        super().__init__(
            latent_channels=latent_channels, text_width=text_width, patch=patch, heads=heads, sight_width=sight_width,
            head_width=head_width, head_depth=head_depth, dropout=dropout, extra=extra,
        )  # fmt: skip
        self.trunk = Trunk(
            latent_channels, text_width, width, patch, heads, depth, experts, top_k, tuple(channels), dropout
        )
        self.foresight = Foresight(channels, latent_channels, patch)
        self.from_map = nn.Conv2d(channels[0], head_width, 1)
        for parameter in self.from_map.parameters():  # initially only the picture is read
            nn.init.zeros_(parameter)

    def forward(  # type: ignore[override]  # a reader of noise, whose output has the foreseen picture beside the logits
        self, noise: Tensor, text: Tensor, mask: Tensor, words: Tensor
    ) -> RewardOutput:
        """noise (B, C, H, W), text (B, L, D), mask (B, L), words (B, J, L) averaging weights -> logits (B, J, 10)."""
        check_inputs(noise, text, mask, self.config.latent_channels, self.config.text_width)
        text, mask, words = self._trimmed(text, mask, words)
        trunk = self.trunk(noise.to(self.dtype), text, mask)
        picture = self.foresight(trunk.maps, *noise.shape[-2:])
        shown = self.sight(picture) + self.from_map(trunk.maps[0])
        return RewardOutput(self._read(shown, text, mask, words), picture.float(), trunk.losses)

    def reading(self) -> PictureReader:
        """A copy of the reading part."""
        names = inspect.signature(PictureReader.__init__).parameters
        reader = PictureReader(**{name: self.config[name] for name in names if name in self.config})
        reader.load_state_dict({name: self.state_dict()[name] for name in reader.state_dict()})
        return reader.to(self.device).train(self.training)

    def take(self, reader: PictureReader) -> None:
        """Copy the weights of a reader; ValueError where it has another shape."""
        weights, reading = self.state_dict(), reader.state_dict()
        if any(weights[name].shape != value.shape for name, value in reading.items()):
            raise ValueError("The reader is of another shape than this reward model: begin both anew.")
        self.load_state_dict({**weights, **reading})
        self.register_to_config(extra=reader.config.extra)
