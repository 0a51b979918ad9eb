"""Where a model computes, and in what."""

import pytest
import torch

from core.loading import autocast


@pytest.mark.parametrize("fast", [True, False])
def test_a_cpu_computes_in_bfloat16_only_where_it_has_instructions_for_it(fast, monkeypatch):
    """Without them a training step of the reader took 13 s in place of half a second. The fake stands for another CPU."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: fast, raising=False)
    layer, x = torch.nn.Linear(4, 4), torch.ones(2, 4)
    with autocast(torch.device("cpu")):
        assert layer(x).dtype == (torch.bfloat16 if fast else torch.float32)
    with autocast(torch.device("cpu"), enabled=False):
        assert layer(x).dtype == torch.float32
