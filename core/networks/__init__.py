"""The learned parts of the method: the shared trunk, the reward model and the noise projector.

Nothing is offered here, so that whoever needs the blocks alone does not wait for diffusers, which the models import.
"""
