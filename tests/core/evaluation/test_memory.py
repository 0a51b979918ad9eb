import sys

import numpy as np
import pytest
import torch

from core.evaluation import memory
from core.evaluation.memory import peak


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a mark of a process's memory")
def test_the_peak_is_that_of_the_block():
    held = np.ones(60_000_000, np.uint8)
    del held
    with peak() as small:
        pass
    with peak() as large:
        held = np.ones(120_000_000, np.uint8)
        del held
    if small.bytes is None:
        pytest.skip("this system does not let a process start the mark anew")
    assert large.bytes - small.bytes > 100_000_000


def test_without_a_high_water_mark_the_peak_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PROCESS", tmp_path / "nowhere")
    with peak() as result:
        pass
    assert result.bytes is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_it_is_what_was_allocated_there():
    with peak("cuda") as result:
        torch.empty(50_000_000, dtype=torch.uint8, device="cuda")
    assert result.bytes >= 50_000_000
