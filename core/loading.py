"""Loads diffusers pipelines from a folder or the hub and places them on a device; failures are sentences (ModelError).

diffusers itself is imported when a model is loaded: that takes longer than the rest of a start, and the page does not
need it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from core.checkpoint import CheckpointError, verify
from core.families import ORDINARY, ModelError, Sampling, check_prediction, family_of
from core.quantize import FP8, NONE, check_quantization, quantization_arguments, store_in_fp8

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
OFFLOADS = ("none", "model", "group", "sequential")
COMPILE: dict[str, Any] = {}  # arguments of torch.compile


def load_pipeline(
    source: str | Path,
    device: str | torch.device,
    dtype: torch.dtype,
    revision: str | None = None,
    variant: str | None = None,
    offload: str = "none",
    slicing: bool = False,
    vae_slicing: bool = False,
    vae_tiling: bool = False,
    quantize: str = NONE,
    compile_blocks: bool = False,
) -> tuple[Any, str]:
    """Load a pipeline, and the revision of its weights: a folder's digest, or the commit of a model of the hub.

    offload: "model" keeps one component at a time on the device, "sequential" one layer at a time, "group" the next layer
    as well, which is copied while one computes. slicing: attention and autoencoder work on slices and tiles: slower, in
    less memory. vae_slicing, vae_tiling: the autoencoder alone works image by image, and in tiles. quantize: how the
    denoiser's weights are kept (core.quantize). compile_blocks: compile the denoiser's repeated blocks when they are first
    called.
    """
    if dtype not in DTYPES.values():
        raise ModelError(f"The model cannot work in {dtype}: take one of {', '.join(DTYPES)}.")
    if offload not in OFFLOADS:
        raise ModelError(f"The offload {str(offload)[:40]!r} is not known: choose {', '.join(OFFLOADS)}.")
    if offload != "none" and torch.device(device).type == "cpu":
        raise ModelError(
            f"The offload {offload!r} brings parts of the model to a GPU when they are needed, and this works on the "
            "CPU: set STUDIO_OFFLOAD to none."
        )
    check_quantization(quantize, device)
    if revision and Path(source).is_dir():
        raise ModelError(
            f"The model at '{source}' is a folder, which has no revision {revision[:40]!r}: leave STUDIO_REVISION "
            "empty, or give a hub id."
        )
    from diffusers import DiffusionPipeline

    try:
        index, commit = DiffusionPipeline.load_config(str(source), revision=revision, return_commit_hash=True)
        family = family_of([str(index.get("_class_name"))])
        unused: dict[str, Any] = {
            name: None for name in (*family.left_out, *family.processors) if name in index
        }
        if "requires_safety_checker" in index:
            unused["requires_safety_checker"] = False
        named_class = str((index.get(family.denoiser) or ["", ""])[1])
        quantized = quantization_arguments(
            quantize, dtype, family.denoiser, named_class, source, commit or revision
        )
        pipe = DiffusionPipeline.from_pretrained(
            str(source),
            dtype={"default": dtype, "vae": torch.float32},
            revision=commit or revision,  # a branch may move during the download
            variant=variant,
            **unused,
            **quantized,
        )
        for name in family.processors:
            pipe.register_modules(**{name: tokenizer_of(source, name, commit or revision)})
        check_prediction(family, pipe.scheduler.config)
        if not upcast(pipe.vae):
            torch.nn.Module.to(pipe.vae, dtype=dtype)  # diffusers' own `to` warns needlessly
        denoiser = getattr(pipe, family.denoiser)
        if quantize == FP8:
            store_in_fp8(denoiser)
        place(pipe, device, offload, slicing, vae_slicing, vae_tiling)
        if compile_blocks:
            compile_repeated(denoiser)
    except ModelError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        named = f" in the variant {variant[:40]!r}" if variant else ""
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(
            f"The diffusion model at '{source}' cannot be loaded{named} ({reason}). Give a folder that "
            "`save_pretrained` wrote, or the id of a model on the hub"
            + (", or leave STUDIO_VARIANT empty." if variant else ".")
        ) from error
    return pipe, revision_of(source) or commit or ""


def tokenizer_of(source: str | Path, name: str, revision: str | None) -> Any:
    """The tokenizer of a component that is a processor: the processor itself needs torchvision."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(source), subfolder=name, revision=revision)


def place(
    pipe: Any,
    device: str | torch.device,
    offload: str,
    slicing: bool,
    vae_slicing: bool = False,
    vae_tiling: bool = False,
) -> None:
    """Move the pipeline to its device, after it was told in which pieces to work."""
    if slicing:
        pipe.enable_attention_slicing("max")  # one head at a time; "auto" fails with a single head
    for wanted, way in ((slicing or vae_slicing, "slicing"), (slicing or vae_tiling, "tiling")):
        if not wanted:
            continue
        try:
            getattr(pipe.vae, f"enable_{way}")()
        except (AttributeError, NotImplementedError) as error:
            raise ModelError(
                f"The autoencoder {type(pipe.vae).__name__} has no {way}: set STUDIO_SLICING and STUDIO_VAE_{way.upper()} to no."
            ) from error
    if offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "group":
        pipe.enable_group_offload(
            onload_device=torch.device(device),
            offload_type="leaf_level",
            use_stream=torch.device(device).type == "cuda",
        )
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.to(device)


def compile_repeated(denoiser: Any) -> None:
    """Compile the blocks that a denoiser repeats, when they are first called; ModelError where it repeats none."""
    try:
        denoiser.compile_repeated_blocks(**COMPILE)
    except ValueError as error:
        raise ModelError(
            f"{type(denoiser).__name__} names no blocks that repeat, so they cannot be compiled: set STUDIO_COMPILE to no."
        ) from error


def upcast(vae: Any) -> bool:
    """Whether the autoencoder's configuration asks for float32: SDXL's overflows in float16."""
    return bool(getattr(vae.config, "force_upcast", False))


def own_sampling(source: str | Path, revision: str | None = None) -> Sampling:
    """Default sampling of a model, from its configuration files alone; ORDINARY where they cannot be read."""
    try:
        index = _configuration(source, revision, "model_index.json")
        family = family_of([str(index.get("_class_name"))])
        scheduler = _configuration(source, revision, "scheduler/scheduler_config.json")
        network = _configuration(source, revision, f"{family.denoiser}/config.json")
    except (OSError, ValueError):
        return ORDINARY
    return family.sampling(scheduler, network, index)


def _configuration(source: str | Path, revision: str | None, name: str) -> dict[str, Any]:
    """A configuration file of a model, in a folder or on the hub; OSError or ValueError where there is none."""
    path = Path(source) / name
    if not Path(source).is_dir():
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError

        try:
            path = Path(hf_hub_download(str(source), name, revision=revision))
        except HfHubHTTPError as error:
            raise OSError(str(error)) from error
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{name} of '{source}' is no configuration.")
    return content


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception, or its cause, is a lack of memory of the GPU or the machine."""
    phrases = ("out of memory", "not enough memory", "can't allocate memory")
    while error is not None:
        text = str(error).lower()
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(p in text for p in phrases):
            return True
        error = error.__cause__ or error.__context__
    return False


def revision_of(source: str | Path) -> str:
    """A short digest of a folder's model (names, sizes, heads and tails of its files), or the revision that its manifest
    names, where the same weights were written again in another form; "" for a model of the hub."""
    folder = Path(source)
    if not folder.is_dir():
        return ""
    with contextlib.suppress(CheckpointError):
        if revision := verify(folder)["meta"].get("revision"):
            return revision
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(str(path.stat().st_size).encode())
        with path.open("rb") as file:
            digest.update(file.read(65_536))
            if path.stat().st_size > 131_072:
                file.seek(-65_536, 2)
                digest.update(file.read())
    return digest.hexdigest()[:12]


def autocast(device: torch.device, enabled: bool = True) -> torch.autocast:
    """bfloat16 autocast where the device computes faster in it: on GPUs, and on CPUs with instructions for it. On others a
    convolution in bfloat16 takes some twenty times as long as in float32."""
    fast = device.type != "cpu" or (
        torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled and fast)
