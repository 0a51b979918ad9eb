"""The calibrator: predicts people's scores from the VLM's, taught by a few hundred corrections.

A multinomial logistic model on what the scorer computed for a word: logits(k) = sum_b basis_b(k) (W_b . z). The bases over
the digits k are the VLM's own log-probabilities, a slope, a bow, and the two ends; z has 1, the kind of word, and the
leading principal components of the standardised hidden state. W starts at the VLM's own logits, so that without
corrections nothing changes, and ridge regression shrinks it towards them, with a strength chosen by cross-validation
grouped by prompt. The loss is convex.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core import checkpoint
from core.metrics import auc, bootstrap, finite, pearson
from core.scoring.scores import DIGITS, TOP, check, check_digit, expected

KINDS = ("colour", "object", "relation", "size", "count", "extra", "other")
# of files that do not name their kinds; the oldest lack "extra", which was "other" then
UNNAMED = ("colour", "object", "relation", "size", "count", "extra", "other")
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
COMPONENTS = 32  # principal components of the hidden state that are kept
LEAST = 1e-4  # least probability read from the VLM, and of a calibrated digit
FEWEST = 20  # corrected words below which nothing is learned
FOLDS = 5
GAIN = 0.01  # least gain of log-loss that is worth a change of labels


@dataclass(frozen=True)
class Row:
    """One corrected word: the VLM's p(digit) (10,), its hidden state (D,) or None, the kind of word, the person's digit, the
    prompt (words of one prompt are never split between fitting and evaluation), and the label's weight."""

    distribution: np.ndarray
    hidden: np.ndarray | None
    kind: str
    score: int
    prompt: str
    weight: float = 1.0


def _logs(distributions: np.ndarray) -> np.ndarray:
    p = np.clip(check(distributions), LEAST, 1)
    return np.log(p / p.sum(-1, keepdims=True))


def _digits() -> np.ndarray:
    """Bases over the digits (4, 10): slope, bow, the lowest and the highest digit."""
    digits = np.arange(DIGITS)
    k = digits / TOP * 2 - 1
    return np.stack([k, 1.5 * k * k - 0.5, digits == 0, digits == TOP]).astype(np.float64)


@dataclass
class _Encoder:
    """Maps a word to z: mean, scale and principal components of the hidden state (empty where there is none)."""

    mean: np.ndarray
    scale: np.ndarray
    components: np.ndarray  # (D, principal components)

    @classmethod
    def of(cls, hidden: np.ndarray | None) -> _Encoder:
        if hidden is None:
            return cls(np.zeros(0), np.ones(0), np.zeros((0, 0)))
        mean, scale = hidden.mean(0), hidden.std(0) + 1e-3
        _, values, turn = np.linalg.svd((hidden - mean) / scale, full_matrices=False)
        keep = min(COMPONENTS, int((values > 1e-6 * max(values[0], 1e-12)).sum()))
        # scaled so that the first component has unit variance and weaker ones keep their smaller share
        return cls(mean, scale, turn[:keep].T * (np.sqrt(len(hidden)) / max(values[0], 1e-12)))

    def __call__(self, hidden: np.ndarray | None, kinds: Sequence[str]) -> np.ndarray:
        """(N, D) and N kinds -> z (N, F)."""
        kind = np.array([[k == name for name in KINDS[:-1]] for k in kinds], np.float64)
        columns = [np.ones((len(kinds), 1)), kind.reshape(-1, len(KINDS) - 1)]
        if self.components.size:
            if hidden is None or hidden.shape[-1] != len(self.mean):
                shape = None if hidden is None else hidden.shape
                raise ValueError(
                    f"The calibrator was fitted on hidden states of width {len(self.mean)}, but got {shape}: score the "
                    "samples again with the scorer it was fitted for, or fit it again."
                )
            columns.append(((hidden - self.mean) / self.scale) @ self.components)
        return np.concatenate(columns, 1)


def _bases(logs: np.ndarray) -> np.ndarray:
    """(N, 10) -> (N, B, 10), the VLM's own log-probabilities first."""
    rest = np.broadcast_to(_digits(), (len(logs), 4, DIGITS))
    return np.concatenate([logs[:, None], rest], 1)


def _identity(bases: np.ndarray, z: np.ndarray) -> np.ndarray:
    """W (B, F) that gives the VLM's own logits."""
    w = np.zeros((bases.shape[1], z.shape[1]))
    w[0, 0] = 1.0
    return w


def _solve(
    bases: np.ndarray,
    z: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    strength: float,
    start: np.ndarray,
) -> np.ndarray:
    """W (B, F) at the minimum of the weighted mean log-loss + strength / 2 * |W - identity|^2, from `start`."""
    from scipy.optimize import minimize  # here, as a page should not wait for it
    from scipy.special import log_softmax, softmax

    home, rows = _identity(bases, z), np.arange(len(target))
    share = weight / weight.sum()
    hit = bases[rows, :, target]
    ridge = np.full(home.shape, strength)
    ridge[:, 0] *= 0.1  # the overall corrections are freer than those of a kind or a direction

    def logits(w: np.ndarray) -> np.ndarray:
        return np.einsum("nbk,nb->nk", bases, z @ w.reshape(home.shape).T)

    def loss(w: np.ndarray) -> float:
        off = w.reshape(home.shape) - home
        return float(-share @ log_softmax(logits(w), 1)[rows, target] + 0.5 * (ridge * off**2).sum())

    def gradient(w: np.ndarray) -> np.ndarray:
        mean = np.einsum("nbk,nk->nb", bases, softmax(logits(w), 1))
        return (((mean - hit) * share[:, None]).T @ z + ridge * (w.reshape(home.shape) - home)).ravel()

    def curvature(w: np.ndarray) -> np.ndarray:
        p = softmax(logits(w), 1)
        mean = np.einsum("nbk,nk->nb", bases, p)
        spread = np.einsum("nbk,nck,nk->nbc", bases, bases, p) - mean[:, :, None] * mean[:, None]
        curve = np.empty((*home.shape, *home.shape))
        for b, c in combinations_with_replacement(range(len(home)), 2):
            curve[b, :, c] = z.T @ (z * (spread[:, b, c] * share)[:, None])
            curve[c, :, b] = curve[b, :, c]
        return curve.reshape(home.size, home.size) + np.diag(ridge.ravel())

    how = {"method": "trust-exact", "options": {"gtol": 1e-6}}
    return minimize(loss, start.ravel(), jac=gradient, hess=curvature, **how).x.reshape(home.shape)


class Calibrator:
    """Re-scores words: `apply` maps what the VLM computed to p(digit). `report` has its cross-validated accuracy."""

    def __init__(
        self, encoder: _Encoder, weights: np.ndarray, report: dict[str, Any], scorer: str = ""
    ) -> None:
        self.encoder, self.weights, self.report, self.scorer = encoder, weights, report, scorer

    @classmethod
    def fit(cls, rows: Sequence[Row], scorer: str = "", seed: int = 0) -> Calibrator:
        """Fit on corrected words and cross-validate by prompt. scorer: the version that scored these words."""
        rows = list(rows)
        prompts = sorted({row.prompt for row in rows})
        if len(rows) < FEWEST or len(prompts) < FOLDS:
            raise ValueError(
                f"There are {len(rows)} corrected words on {len(prompts)} prompts: correct at least {FEWEST} words on "
                f"{FOLDS} prompts first."
            )
        target = np.array([check_digit(row.score) for row in rows])
        weight = np.array([row.weight for row in rows], np.float64)
        if not np.isfinite(weight).all() or weight.min() <= 0:
            raise ValueError(f"The weight of a correction is a positive number, but one is {weight.min()}.")
        p = np.stack([np.asarray(row.distribution) for row in rows])
        states = [row.hidden for row in rows if row.hidden is not None]
        # hidden states are used where all words have one of the same width
        usable = len(states) == len(rows) and len({len(state) for state in states}) == 1
        hidden = np.stack(states).astype(np.float64) if usable else None
        kinds = [row.kind for row in rows]
        bases = _bases(_logs(p))
        rng = np.random.default_rng(seed)
        fold_of = dict(zip(prompts, rng.permutation(len(prompts)) % FOLDS, strict=True))
        fold = np.array([fold_of[row.prompt] for row in rows])

        def path(train: np.ndarray, test: np.ndarray) -> np.ndarray:
            """p(digit) on `test` for every strength, fitted on `train`: (strengths, N_test, 10)."""
            states, states_test = (None if hidden is None else hidden[rows] for rows in (train, test))
            encoder = _Encoder.of(states)
            z, z_test = (
                encoder(states, [kinds[i] for i in train]),
                encoder(states_test, [kinds[i] for i in test]),
            )
            w, predictions = _identity(bases, z), []
            for strength in reversed(STRENGTHS):
                w = _solve(bases[train], z, target[train], weight[train], strength, w)
                predictions.append(_predict(bases[test], z_test, w))
            return np.stack(predictions[::-1])

        def loss_on(p: np.ndarray, members: np.ndarray) -> np.ndarray:
            """Weighted log-loss of every strength, summed over `members`."""
            return -(weight[members] * np.log(p[:, np.arange(len(members)), target[members]])).sum(1)

        every = np.arange(len(rows))
        outer, inner, total = [], np.zeros((FOLDS, len(STRENGTHS))), np.zeros(len(STRENGTHS))
        for f in range(FOLDS):
            outer.append(path(every[fold != f], every[fold == f]))
            total += loss_on(outer[f], every[fold == f])
        # a fit without the folds f and g selects g's strength on f, and f's on g
        for f, g in combinations(range(FOLDS), 2):
            both = every[(fold == f) | (fold == g)]
            p_both = path(every[(fold != f) & (fold != g)], both)
            inner[f] += loss_on(p_both[:, fold[both] == g], both[fold[both] == g])
            inner[g] += loss_on(p_both[:, fold[both] == f], both[fold[both] == f])
        # nested cross-validation: neither the fit nor the strength behind a word's p(digit) saw its prompt
        held = np.zeros(p.shape)
        for f in range(FOLDS):
            held[fold == f] = outer[f][inner[f].argmin()]
        strength = STRENGTHS[int(total.argmin())]
        encoder = _Encoder.of(hidden)
        z = encoder(hidden, kinds)
        w = _solve(bases, z, target, weight, strength, _identity(bases, z))
        report = judge(np.exp(_logs(p)), held, target, weight, kinds, [row.prompt for row in rows], seed)
        report |= {"strength": strength, "words": len(rows), "prompts": len(prompts)}
        return cls(encoder, w, report | {"hidden": hidden is not None}, scorer)

    def apply(self, distributions: np.ndarray, hidden: np.ndarray | None, kinds: Sequence[str]) -> np.ndarray:
        """Predict people's scores: p(digit) (N, 10), from the VLM's (N, 10), its hidden states (N, D) and N kinds."""
        p = np.asarray(distributions, np.float64).reshape(-1, DIGITS)
        if len(p) != len(kinds):
            raise ValueError(f"{len(p)} distributions but {len(kinds)} kinds of words: give one each.")
        if not len(p):
            return np.zeros((0, DIGITS), np.float32)
        hidden = None if hidden is None else np.asarray(hidden, np.float64)
        return _predict(_bases(_logs(p)), self.encoder(hidden, kinds), self.weights).astype(np.float32)

    def save(self, folder: Path | str, meta: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Save as a checkpoint, with further entries of its manifest's meta; returns the manifest."""
        arrays = {
            "weights": self.weights, "mean": self.encoder.mean, "scale": self.encoder.scale,
            "parts": self.encoder.components,
        }  # fmt: skip
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        about = {**(meta or {}), "report": self.report, "scorer": self.scorer, "kinds": list(KINDS)}
        return checkpoint.save(tensors, folder, about, kind="Calibrator")

    @classmethod
    def load(cls, folder: Path | str) -> Calibrator:
        """Load a verified checkpoint (CheckpointError where it is damaged)."""
        meta = checkpoint.verify(folder, "Calibrator")["meta"]
        arrays = {name: tensor.numpy() for name, tensor in checkpoint.load_tensors(folder).items()}
        encoder, weights = _Encoder(arrays["mean"], arrays["scale"], arrays["parts"]), arrays["weights"]
        kinds = meta.get("kinds")
        if kinds is None:
            missing = len(UNNAMED) + arrays["parts"].shape[-1] - weights.shape[1]
            kinds = [kind for kind in UNNAMED if kind != "extra" or not missing]
        # z is 1, the kinds but "other", the components; a kind that the file lacks gets no weight, as "other" has none
        of_kind = dict(zip(kinds[:-1], weights[:, 1 : len(kinds)].T, strict=True))
        none = np.zeros(len(weights))
        columns = [of_kind.get(kind, none) for kind in KINDS[:-1]]
        weights = np.column_stack([weights[:, 0], *columns, weights[:, len(kinds) :]])
        return cls(encoder, weights, meta["report"], meta["scorer"])


def _predict(bases: np.ndarray, z: np.ndarray, w: np.ndarray) -> np.ndarray:
    """p(digit) (N, 10), each at least about LEAST / 10."""
    from scipy.special import softmax  # here, as a page should not wait for it

    p = softmax(np.einsum("nbk,nb->nk", bases, z @ w.T), 1)
    return (p + LEAST / DIGITS) / (1 + LEAST)


def judge(
    raw: np.ndarray,
    calibrated: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    kinds: Sequence[str],
    prompts: Sequence[str],
    seed: int = 0,
) -> dict[str, Any]:
    """Raw VLM (N, 10) against calibrated (N, 10) on people's digits (N,): log-loss; mean squared and absolute error and
    Pearson of the expected score; AUC for a digit of 5 and more; the changes with 95 % intervals from a bootstrap
    clustered by prompt; the same by kind of word. `better`: the log-loss is significantly lower by more than GAIN, and
    the squared error is not significantly higher (the absolute one is no proper scoring rule: it favours confidence).
    """
    truth = target / TOP
    both = (("raw", raw), ("cal", calibrated))
    losses = {n: -np.log(np.clip(p[np.arange(len(target)), target], 1e-12, 1)) for n, p in both}
    errors = {n: expected(p) - truth for n, p in both}
    order = np.argsort(prompts, kind="stable")  # in which the bootstrap numbers the prompts

    def figures(p: np.ndarray, name: str, keep: np.ndarray) -> dict[str, float | None]:
        given, w = expected(p[keep]), weight[keep]
        return {
            "log_loss": float(np.average(losses[name][keep], weights=w)),
            "mse": float(np.average(errors[name][keep] ** 2, weights=w)),
            "mae": float(np.average(np.abs(errors[name][keep]), weights=w)),
            "pearson": finite(pearson(given, truth[keep])),
            "auc": finite(auc(given, target[keep] >= 5)),
        }

    def interval(difference: np.ndarray) -> list[float]:
        w, weighted = weight[order], (weight * difference)[order]

        def mean(times: np.ndarray) -> np.ndarray:
            return times @ weighted / np.maximum(times @ w, 1e-12)

        return list(bootstrap(mean, np.asarray(prompts)[order], draws=1000, seed=seed)[1:])

    everything = np.ones(len(target), bool)
    report: dict[str, Any] = {
        "raw": figures(raw, "raw", everything),
        "calibrated": figures(calibrated, "cal", everything),
        "log_loss_change": interval(losses["cal"] - losses["raw"]),
        "mse_change": interval(errors["cal"] ** 2 - errors["raw"] ** 2),
        "mae_change": interval(np.abs(errors["cal"]) - np.abs(errors["raw"])),
        "by_kind": {},
    }
    for kind in sorted(set(kinds)):
        keep = np.array([k == kind for k in kinds])
        report["by_kind"][kind] = {
            "words": int(keep.sum()),
            "raw": figures(raw, "raw", keep),
            "calibrated": figures(calibrated, "cal", keep),
        }
    report["better"] = report["log_loss_change"][1] < -GAIN and report["mse_change"][0] <= 0
    return report
