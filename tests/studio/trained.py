"""Configurations of the smallest trainings."""

from tests.tiny import STEPS

WARMUP = {"prompts": 8, "seed": 3, "warmup_steps": 4}
PROJECTOR = {
    **WARMUP, "projector_steps": 3, "projector_batch": 4, "heldout_prompts": 3, "heldout_seeds": 2, "steps": STEPS,
}  # fmt: skip
REWARD = {"foresight_steps": 2, "reader_steps": 2, "reward_steps": 3, "reward_batch": 8}
CYCLE = {**PROJECTOR, **REWARD, "corrections_needed": 20}
