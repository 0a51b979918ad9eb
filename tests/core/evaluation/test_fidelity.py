import json

import numpy as np
import pytest

from core.evaluation.choosing import predict
from core.evaluation.fidelity import agreement, fidelity, scorer_agreement
from core.noise import draw
from core.scoring.scores import from_truth

PROMPTS = ["a red circle", "a blue square above a red star"]


@pytest.fixture(scope="module")
def samples(diffuser, networks):
    """Samples whose VLM says just what the reward model expects."""
    out = []
    for prompt in PROMPTS:
        text = diffuser.encode([prompt] * 4)
        _, words = predict(networks[1], draw(range(4), diffuser.latent_shape()), text)
        out += [
            {"prompt": prompt, "seed": s, "vlm": {i: from_truth(v) for i, v in words[s].items()}}
            for s in range(4)
        ]
    return out


def test_a_vlm_with_the_reward_models_scores_agrees_fully_and_people_are_compared_with_both(
    diffuser, networks, samples
):
    result = fidelity(networks[1], diffuser, samples[::-1], draws=100)
    json.dumps(result, allow_nan=False)
    assert result["samples"] == 8 and result["prompts"] == 2 and "human" not in result
    block = result["vlm"]
    assert block["words"] == 4 * (2 + 5) and block["mae"] < 1e-3
    assert block["pearson"]["estimate"] == pytest.approx(1, abs=1e-3)
    assert block["within_prompt"]["estimate"] == pytest.approx(1, abs=1e-2)
    assert sum(map(sum, block["confusion"])) == 28
    kinds = {kind: part["words"] for kind, part in block["kinds"].items()}
    assert kinds == {"colour": 12, "object": 12, "relation": 4, "extra": 8}
    corrected = [samples[0] | {"human": {"1": 9, 2: 0}}, *samples[1:]]
    result = fidelity(networks[1], diffuser, corrected, draws=50)
    assert (result["human"]["words"], result["vlm_human"]["words"], result["vlm"]["words"]) == (2, 2, 28)
    with pytest.raises(ValueError, match="no sample"):
        fidelity(networks[1], diffuser, [])


def test_nothing_else_is_a_kind_of_its_own_and_not_among_the_words():
    rows = [
        {"prompt": p, "index": 1, "kind": kind, "reward": p / 9, "vlm": abs(right - p / 9), "reward_digit": p, "vlm_digit": 9}
        for p in range(9)
        for kind, right in (("colour", 0.0), ("extra", 1.0))
    ]  # fmt: skip
    result = agreement(rows, "reward", "vlm", 50)
    assert (result["words"], result["mae"]) == (9, 0)
    assert result["kinds"]["extra"]["words"] == 9 and result["kinds"]["extra"]["mae"] > 0.4
    assert sum(map(sum, result["confusion"])) == 9


def test_knowing_only_which_prompt_is_hard_is_no_agreement_within_prompts():
    rng = np.random.default_rng(0)
    rows = [
        {"prompt": p, "index": 1, "kind": "colour", "reward": p / 40, "vlm": p / 40 + rng.normal() / 9}
        | {"reward_digit": 0, "vlm_digit": 0}
        for p in range(40)
        for _ in range(8)
    ]
    result = agreement(rows, "reward", "vlm", 100)
    assert result["pearson"]["estimate"] > 0.8 and result["within_prompt"]["estimate"] is None


def test_a_scorer_is_measured_by_kind_of_word():
    rows = [
        {"prompt": p, "kind": kind, "score": truth if kind == "colour" else 0.5, "digit": round(9 * truth), "truth": truth}
        for p in range(6)
        for kind in ("colour", "relation")
        for truth in (0.0, 1.0)
    ]  # fmt: skip
    result = scorer_agreement(rows, draws=100)
    assert {kind: part["auc"]["estimate"] for kind, part in result["kinds"].items()} == {
        "colour": 1,
        "relation": 0.5,
    }
    assert np.trace(result["confusion"]) == 24 and result["shown"] == 0.5
