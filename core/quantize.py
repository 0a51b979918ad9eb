"""Weights of the denoiser in fewer bits than it computes in, by diffusers and its backends.

The text encoders stay as they are, as the projector and the reward model read their hidden states, and so do projector,
reward model and autoencoder. Only `fp8` needs no package: each layer's weights are cast to float8 for storage, and to the
dtype of the computation while the layer computes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from core.families import ModelError

NONE, FP8 = "none", "fp8"
QUANTIZED = "+"  # in a revision, before how its weights are kept


def label_of(weights: str) -> str:
    """How weights are kept, in a revision: its name, or a digest of a file's size and ends."""
    path = Path(weights)
    if not path.is_file():
        return weights[:40]
    digest = hashlib.sha256(str(path.stat().st_size).encode())
    with path.open("rb") as file:
        digest.update(file.read(65_536))
        file.seek(max(0, path.stat().st_size - 65_536))
        digest.update(file.read())
    return digest.hexdigest()[:12]


def unquantized(revision: str) -> str:
    """A revision without how its weights are kept."""
    return revision.partition(QUANTIZED)[0]


def _torchao(dtype: torch.dtype) -> Any:
    from diffusers import TorchAoConfig
    from torchao.quantization import Int8WeightOnlyConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def _quanto(dtype: torch.dtype) -> Any:
    from diffusers import QuantoConfig

    return QuantoConfig(weights_dtype="int8")


def _bitsandbytes_8(dtype: torch.dtype) -> Any:
    from diffusers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True)


def _bitsandbytes_4(dtype: torch.dtype) -> Any:
    from diffusers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _gguf(dtype: torch.dtype) -> Any:
    from diffusers import GGUFQuantizationConfig

    return GGUFQuantizationConfig(compute_dtype=dtype)


@dataclass(frozen=True)
class Quantization:
    """A way to quantise weights: diffusers' configuration for a dtype of the computation, the package that does it, as pip
    and as Python name it, and whether that needs a CUDA GPU."""

    config: Callable[[torch.dtype], Any]
    package: str
    module: str
    gpu: bool = False


QUANTIZATIONS = {
    "torchao-int8": Quantization(_torchao, "torchao", "torchao"),
    "quanto-int8": Quantization(_quanto, "optimum-quanto", "optimum.quanto"),
    "bnb-int8": Quantization(_bitsandbytes_8, "bitsandbytes", "bitsandbytes", gpu=True),
    "bnb-nf4": Quantization(_bitsandbytes_4, "bitsandbytes", "bitsandbytes", gpu=True),
}
GGUF = Quantization(_gguf, "gguf", "gguf")
NAMES = (NONE, FP8, *QUANTIZATIONS)


def is_gguf(name: str) -> bool:
    """Whether a quantisation is a file with the denoiser's weights."""
    return name.lower().endswith(".gguf")


def check_quantization(name: str, device: str | torch.device) -> None:
    """ModelError where a quantisation is not known or this machine lacks what it needs."""
    kind = torch.device(device).type
    if is_gguf(name):
        if not Path(name).is_file():
            raise ModelError(f"There is no file '{name}': set STUDIO_QUANTIZE to a .gguf file, or to none.")
    elif name not in NAMES:
        raise ModelError(
            f"The quantisation {name[:40]!r} is not known: set STUDIO_QUANTIZE to one of {', '.join(NAMES)}, or to a "
            ".gguf file."
        )
    if name == FP8 and kind == "mps":
        raise ModelError("An Apple GPU has no float8: set STUDIO_QUANTIZE to quanto-int8 or none.")
    row = GGUF if is_gguf(name) else QUANTIZATIONS.get(name)
    if row is None:
        return
    if not _installed(row.module):
        raise ModelError(
            f"The quantisation {Path(name).name} needs the package {row.package}: `pip install {row.package}`, or set "
            "STUDIO_QUANTIZE to fp8 or none."
        )
    if row.gpu and kind != "cuda":
        raise ModelError(
            f"The quantisation {name} works on an NVIDIA GPU alone, and this works on {kind}: set STUDIO_QUANTIZE to fp8, "
            "torchao-int8, quanto-int8 or none."
        )


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it
        return False


def quantization_arguments(
    name: str,
    dtype: torch.dtype,
    denoiser: str,
    cls: str,
    source: str | Path,
    revision: str | None,
) -> dict[str, Any]:
    """Arguments of a pipeline's `from_pretrained` that quantise its component `denoiser`, of the class `cls`."""
    if is_gguf(name):
        import diffusers

        network = getattr(diffusers, cls).from_single_file(
            name, config=str(source), subfolder=denoiser, revision=revision, quantization_config=_gguf(dtype),
            torch_dtype=dtype,
        )  # fmt: skip
        return {denoiser: network}
    if name not in QUANTIZATIONS:
        return {}
    from diffusers import PipelineQuantizationConfig

    mapping = {denoiser: QUANTIZATIONS[name].config(dtype)}
    return {"quantization_config": PipelineQuantizationConfig(quant_mapping=mapping)}


def store_in_fp8(denoiser: Any) -> None:
    """Keep the layers' weights in float8 between their calls, and LoRA layers that are put on them in the dtype of the
    computation."""
    dtype = denoiser.dtype
    denoiser.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
    for layer in denoiser.modules():  # else peft would give its layers the dtype of the weights below, float8
        layer.compute_dtype = dtype


def has_plain_weights(denoiser: torch.nn.Module) -> bool:
    """Whether the weights lie where and as they are computed with: not quantised, cast by layers, or offloaded."""
    if getattr(denoiser, "hf_quantizer", None) is not None or any(w.is_meta for w in denoiser.parameters()):
        return False
    for module in denoiser.modules():
        registry = getattr(module, "_diffusers_hook", None)
        if hasattr(module, "_hf_hook") or getattr(registry, "hooks", None):
            return False
    return True
