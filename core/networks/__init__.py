"""The learned parts of the method: the shared trunk, the reward model and the noise projector.

Nothing is imported here: the blocks alone do not need diffusers, which the models import.
"""
