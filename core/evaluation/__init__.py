"""Evaluation of the method: statistics with intervals, methods with their costs, experiments.

Nothing is imported here: the statistics need no network, and importing them is not to load the libraries of the others.
"""
