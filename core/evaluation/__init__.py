"""Evaluation of the method: figures with intervals, methods with their costs, experiments."""

from core.evaluation.experiments import alignment, drift, seeds_for
from core.evaluation.fidelity import fidelity, scorer_agreement
from core.evaluation.methods import (
    Method,
    MethodResult,
    Settings,
    best_noise_of,
    best_of,
    by_reward,
    by_scorer,
    guided,
    none,
    projected,
    tuned,
)
from core.evaluation.report import markdown

__all__ = [
    "Method",
    "MethodResult",
    "Settings",
    "alignment",
    "best_noise_of",
    "best_of",
    "by_reward",
    "by_scorer",
    "drift",
    "fidelity",
    "guided",
    "markdown",
    "none",
    "projected",
    "scorer_agreement",
    "seeds_for",
    "tuned",
]
