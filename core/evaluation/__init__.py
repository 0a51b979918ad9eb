"""Evaluation of the method: figures with intervals, methods with their costs, experiments.

Nothing is offered here: the figures need no network, and whoever asks for these alone should not wait for the libraries
of the others.
"""
