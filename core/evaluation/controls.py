"""Controls: methods that should not help, against which an experiment's gain is compared.

Dimension key: B batch, C latent channels, H W latent height and width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.evaluation.base import Method, Start
from core.evaluation.methods import Projected

if TYPE_CHECKING:
    from core.diffusion import Diffuser, Text
    from core.networks.projector import NoiseProjector
    from core.noise import Shape


class OtherText(Projected):
    """The base's noise, projected for another prompt: any gain is due to a pattern that it adds for every prompt."""

    def __init__(
        self,
        projector: NoiseProjector,
        diffuser: Diffuser,
        prompts: Sequence[str],
        strength: float = 1.0,
        name: str = "",
        base: Method | None = None,
    ) -> None:
        """prompts: all prompts of the comparison, two or more; each is projected for the one half the list further on."""
        prompts = list(dict.fromkeys(prompts))
        if len(prompts) < 2:
            raise ValueError("There is no other prompt to give the projector: give two or more.")
        super().__init__(projector, strength, name, base)
        half = len(prompts) // 2
        self.others = dict(zip(prompts, prompts[half:] + prompts[:half], strict=True))
        self._texts = diffuser.encode(prompts)

    @property
    def change(self) -> str:
        pairs = "\n".join(f"{prompt} -> {other}" for prompt, other in self.others.items())
        return f"{super().change}:{hashlib.sha256(pairs.encode()).hexdigest()[:16]}"

    def start(self, text: Text, seeds: list[int], shape: Shape) -> Start:
        order = list(self.others)
        rows = [order.index(self.others[prompt]) for prompt in text.prompts]
        return super().start(self._texts.take(rows), seeds, shape)
