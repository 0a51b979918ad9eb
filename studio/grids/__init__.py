"""Grids of images, seeds by variants: axes, making, comparison, votes."""
