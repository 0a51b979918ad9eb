"""The learned parts of the method: the shared trunk, the reward model and the noise projector."""

from core.networks.projector import NoiseProjector, ProjectorOutput
from core.networks.reward import RewardModel, RewardOutput

__all__ = ["NoiseProjector", "ProjectorOutput", "RewardModel", "RewardOutput"]
