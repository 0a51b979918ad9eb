"""A tiny random VLM that tests of scoring and of its training share; nothing is downloaded."""

import pytest

from core.training.scorer_model import ScorerConfig, make_scorer
from tests.tiny import answering

VOCABULARY = (
    "a an the of to is red blue green circle square star above below left right and describe where".split()
)
TINY = ScorerConfig(image=32, patch=8, vision_width=32, vision_depth=1, width=32, depth=2, heads=2, feed=48)


@pytest.fixture(scope="session")
def tiny_scorer():
    return answering(make_scorer(VOCABULARY, TINY))
