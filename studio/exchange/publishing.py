"""Publishing: a projector as a folder that others use without this repository, by three doors.

projector/               the weights and their configuration, and the class that loads them
block.py                 diffusers' modular pipelines, with modular_config.json and modular_model_index.json; left out where
                         diffusers has no modular pipeline for the backbone's family
pipeline.py              a custom pipeline of the backbone's own class
comfyui/                 a node of ComfyUI; left out where a text encoder is no CLIP, as ComfyUI's give other hidden states
README.md                the model card

Each .py file holds all that it uses of `core` (`studio.exchange.flatten`): code from a repository may import libraries only.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
import os
import shutil
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from core import checkpoint, families
from core.diffusion import Diffuser
from core.loading import out_of_memory
from core.options import without_negative
from studio.exchange.flatten import flatten
from studio.exchange.transfer import check_repository, check_token, upload
from studio.images import gpu
from studio.numbers import finite, shown
from studio.training.results import card
from studio.training.runs import PROJECTS, Run, projector_of

if TYPE_CHECKING:
    from core.networks.projector import NoiseProjector
    from studio.studio import Studio

CODE = "Written by Noise Projection Studio, from {}. Licence of this file: Apache-2.0."
NETWORK = ("core.networks.projector", "NoiseProjector")
# they need the studio's description of the backbone
WITHOUT = ("NoiseProjector.latents", "NoiseProjector._check_backbone")
REQUIREMENTS = {"einops": ">=0.8.1,<0.9"}  # beside diffusers
PROMPT = "a red circle above a blue square"  # of the examples in the card


@dataclass(frozen=True)
class Published:
    """What is published: the run in the store that stands for the projector, the projector itself and its checkpoint's folder;
    the names by which the card and the files call the folder (OWNER/NAME, or the folder's own) and the backbone, and
    whether others find the backbone by its name (`known`); the licence of the weights."""

    run: Run
    model: NoiseProjector
    folder: Path
    name: str
    backbone: str
    known: bool
    licence: str


def publish(
    studio: Studio,
    folder: str | Path,
    who: str,
    *,
    run: str = "",
    backbone: str = "",
    licence: str = "",
    repository: str = "",
    private: bool = True,
    token: str = "",
    api: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Write the folder: {folder, run, files, bytes, url}. It is there when it is complete, and not at all where anything
    fails; ValueError where it exists already and is not empty.

    run: '' is the projector in use. backbone: the hub id or path by which others load the backbone; '' is STUDIO_BACKBONE
    where that is a hub id. repository: the folder is pushed there with this token, which is stored nowhere.
    """
    target = Path(folder).expanduser().absolute()
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise ValueError(
            f"{shown(str(folder))} is there already and is not empty: give the name of a new folder."
        )
    if repository:
        repository, token = check_repository(repository), check_token(token)
    published = chosen(studio, repository or target.name, run, backbone, licence)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        write(studio, published, fresh)
        if repository:
            upload(
                fresh, repository, token, "model", private=private, api=api,
                commit_message=f"Noise projector {published.run['id']}",
                delete_patterns=["projector/**", "comfyui/**", "*.py", "modular_*.json"],
            )  # fmt: skip
        if target.exists():
            target.rmdir()
        os.rename(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    files = [path for path in sorted(target.rglob("*")) if path.is_file()]
    made = {
        "folder": str(target),
        "run": published.run["id"],
        "files": [path.relative_to(target).as_posix() for path in files],
        "bytes": sum(path.stat().st_size for path in files),
        "url": f"https://huggingface.co/{repository}" if repository else "",
    }
    detail = {"run": published.run["id"], "bytes": made["bytes"], "repository": repository}
    studio.store.audit.note(who, "publish", target.name[:200], detail)
    return made


def packed(studio: Studio, run: str, folder: Path) -> Path:
    """The published folder of a run, '' for the projector in use, as a zip in this folder."""
    published = chosen(studio, "", run)
    name = f"noise-projector-{published.run['id']}"
    target = folder / f"{name}.zip"
    with tempfile.TemporaryDirectory(dir=folder) as work:
        top = Path(work) / name
        write(studio, replace(published, name=name), top)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(path for path in top.rglob("*") if path.is_file()):
                # without its time, so that the same projector is the same file each time
                entry = zipfile.ZipInfo(path.relative_to(work).as_posix(), (1980, 1, 1, 0, 0, 0))
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return target


def chosen(studio: Studio, name: str, run: str = "", backbone: str = "", licence: str = "") -> Published:
    """The projector of a run, or the one in use, with its names; ValueError where there is none, or where it does not fit the
    backbone."""
    if run:
        row = studio.runs.get(run)
        if row["kind"] not in PROJECTS:
            raise ValueError(
                f"The run {row['id']} is a {row['kind']} training, which makes no projector: give the id of a cycle or of a "
                "projector, or none for the one in use."
            )
        if row["state"] != "done" or row["archived"]:
            state = "deleted" if row["archived"] else row["state"]
            raise ValueError(f"The run {row['id']} is {state}: give one that is done and has its files.")
        using = studio.models.of_run("projector", projector_of(row))
    else:
        using = studio.models.using("projector")
    if using.model is None or using.run is None or using.folder is None:
        raise ValueError(using.problem)
    if using.warning:
        raise ValueError(f"{using.warning} It is published from the backbone that it was trained for.")
    source = studio.settings.backbone
    known = bool(backbone) or not Path(source).exists()
    called = backbone or (source if known else Path(source).name)
    row = studio.runs.get(using.run)
    return Published(row, using.model, using.folder, name, called, known, licence)


def write(studio: Studio, published: Published, folder: Path) -> None:
    """Write all files into a new folder."""
    diffuser = studio.models.diffuser()
    if not gpu.apart():
        with studio.models.lock:
            check(diffuser, published.model)
    variant = studio.settings.variant if published.backbone == studio.settings.backbone else ""
    doors = modular_files(diffuser, published, variant) | node_files(diffuser)
    files = {
        "projector/modeling.py": code([NETWORK]),
        "pipeline.py": pipeline(diffuser),
        **doors,
        "README.md": model_card(studio, diffuser, published, doors),
    }
    for name in checkpoint.verify(published.folder)[
        "files"
    ]:  # what else lies in the folder is nobody's business
        (folder / "projector" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(published.folder / name, folder / "projector" / name)
    config = folder / "projector" / "config.json"
    content = json.loads(config.read_text(encoding="utf-8"))
    content.pop("_name_or_path", None)  # perhaps a path of this machine
    files["projector/config.json"] = as_json(content | {"auto_map": {"AutoModel": "modeling.NoiseProjector"}})
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


class _Prepared(Exception):
    """Ends a pipeline's call where it would prepare these latents."""


def check(diffuser: Diffuser, projector: NoiseProjector) -> None:
    """Compare the latents from which the custom pipeline of this backbone starts with those of the studio; ValueError where
    they differ, as where a family takes its noise in a form that the published code does not know."""
    from core.published.pipeline import Projecting

    own, (height, width) = type(diffuser.pipe), diffuser.size
    signature = inspect.signature(own.prepare_latents)

    @functools.wraps(own.prepare_latents)
    def prepare_latents(pipe: Any, *args: Any, **options: Any) -> None:
        raise _Prepared(signature.bind(pipe, *args, **options).arguments["latents"])

    base = type(own.__name__, (own,), {"prepare_latents": prepare_latents})
    probe = copy.copy(diffuser.pipe)
    probe.__class__ = type("Probe", (Projecting, base), {"family": diffuser.family})
    probe.projector = projector
    made: Any = None
    reason = "its latents differ"
    try:
        steps = diffuser.default_steps
        options = {
            "height": height,
            "width": width,
            "num_inference_steps": steps,
            **diffuser.family.extra(steps),
        }
        probe(prompt=PROMPT, seed=7, **options)
    except _Prepared as prepared:
        (made,) = prepared.args
    except Exception as error:
        if out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {str(error)[:100]}"
    finally:
        diffuser.pipe.maybe_free_model_hooks()
    ours = projector.latents(diffuser, PROMPT, 7)
    if made is None or made.shape != ours.shape or not torch.allclose(made.float(), ours.float(), atol=1e-3):
        raise ValueError(
            f"A {own.__name__} cannot be published yet: the custom pipeline would not make the studio's images ({reason}). "
            "Share the run's checkpoint instead, which its page offers as a download."
        )


# ---- code ---------------------------------------------------------------------------------------------------------


def code(roots: list[tuple[str, str]], imports: str = "", end: str = "") -> str:
    """A file with these definitions and all that they use."""
    about = CODE.format(", ".join(sorted({module for module, _ in roots})))
    return flatten(roots, about, imports=[imports] if imports else [], end=end, without=WITHOUT)


def pipeline(diffuser: Diffuser) -> str:
    """The file of the custom pipeline: a class of the backbone's own pipeline."""
    import diffusers

    own = type(diffuser.pipe).__name__
    if getattr(diffusers, own, None) is not type(diffuser.pipe):
        raise ValueError(
            f"{own} is no pipeline of diffusers, which others have: publish from a backbone of one."
        )
    end = (
        f"class ProjectedPipeline(Projecting, {own}):\n"
        f'    """{own} from projected noise."""\n\n'
        f"    family = {described(diffuser)}"
    )
    roots = [("core.published.pipeline", "Projecting"), ("core.families", described(diffuser))]
    return code(roots, f"from diffusers import {own}", end)


def described(diffuser: Diffuser) -> str:
    """The name of the description of the backbone's family in `core.families`."""
    return next(name for name, value in vars(families).items() if value is diffuser.family)


def modular_files(diffuser: Diffuser, published: Published, variant: str) -> dict[str, str]:
    """The files of the modular repository, by name; {} where diffusers has no modular pipeline of the family, or one
    without a place for the projection."""
    import diffusers

    from core.published.block import ProjectionStep, insert

    if not diffuser.family.modular:
        return {}
    blocks = getattr(diffusers.modular_pipelines, diffuser.family.modular)
    made = blocks()
    pipe = made.init_pipeline()
    if not insert(made, ProjectionStep()):
        return {}
    end = (
        "class Projection(ProjectionStep):\n"
        '    """The step for the text of this backbone."""\n\n'
        f"    family = {described(diffuser)}\n\n\n"
        f"class ProjectedBlocks({blocks.__name__}):\n"
        f'    """{blocks.__name__} from projected noise."""\n\n'
        "    def __init__(self) -> None:\n"
        "        super().__init__()\n"
        "        insert(self, Projection())"
    )
    roots = [("core.published.block", name) for name in ("ProjectionStep", "insert")]
    roots.append(("core.families", described(diffuser)))
    version = {"_diffusers_version": diffusers.__version__}
    config = {
        "_class_name": "ProjectedBlocks", **version,
        "auto_map": {"ModularPipelineBlocks": "block.ProjectedBlocks"}, "requirements": REQUIREMENTS,
    }  # fmt: skip
    index: dict[str, Any] = {
        "_class_name": type(pipe).__name__, **version, "_blocks_class_name": "ProjectedBlocks",
        "projector": component(None, None, published.name if "/" in published.name else None, "projector"),
    }  # fmt: skip
    backbone, own = published.backbone if published.known else None, diffuser.pipe.config
    for name in pipe.pretrained_component_names:
        library, cls = own.get(name) or (None, None)
        if library and isinstance(library, str):
            index[name] = component(library, cls, backbone, name, revision_of(diffuser, published), variant)
    index |= {spec.name: own[spec.name] for spec in made.expected_configs if spec.name in own}
    from_blocks = f"from diffusers.modular_pipelines import {blocks.__name__}"
    return {
        "block.py": code(roots, from_blocks, end),
        "modular_config.json": as_json(config),
        "modular_model_index.json": as_json(index),
    }


def node_files(diffuser: Diffuser) -> dict[str, str]:
    """The files of the node of ComfyUI, by name; {} where a text encoder is no CLIP: ComfyUI pads T5's text otherwise, and
    has templates of its own for language models, so that a projector would get other hidden states than it was trained
    with."""
    if not all(type(encoder).__name__.startswith("CLIPText") for encoder in diffuser.text_encoders):
        return {}
    mappings = [("core.published.comfyui", f"NODE_{name}_MAPPINGS") for name in ("CLASS", "DISPLAY_NAME")]
    libraries = {"diffusers": ">=0.42"} | REQUIREMENTS
    return {
        "comfyui/__init__.py": "from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS\n",
        "comfyui/nodes.py": code(mappings),
        "comfyui/requirements.txt": "".join(f"{name}{version}\n" for name, version in libraries.items()),
        "comfyui/README.md": NODE,
    }


def component(
    library: str | None,
    cls: str | None,
    source: str | None,
    folder: str,
    revision: str = "",
    variant: str = "",
) -> list[Any]:
    """A component of a modular pipeline's index: its library, its class and where it is loaded from."""
    place = {
        "pretrained_model_name_or_path": source, "subfolder": folder, "variant": variant or None,
        "revision": revision or None, "type_hint": [library, cls],
    }  # fmt: skip
    return [library, cls, place]


def revision_of(diffuser: Diffuser, published: Published) -> str:
    """The commit of the backbone, where it was loaded from the Hub by this name."""
    return diffuser.revision if "/" in published.backbone and diffuser.name == published.backbone else ""


def as_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


# ---- texts --------------------------------------------------------------------------------------------------------


def model_card(studio: Studio, diffuser: Diffuser, published: Published, doors: Collection[str]) -> str:
    """The README: the run's model card, with what it is for and the ways to use it, of which the code is tested. doors: the
    files of the modular repository and of the node."""
    heldout = studio.runs.heldout_of(published.run)
    sampling = studio.models.sampling()
    judged = (heldout or {}).get("sampling")  # of an earlier version or an import it may be anything
    if isinstance(judged, dict) and finite(judged.get("steps")) and finite(judged.get("guidance")):
        sampling = {"steps": int(judged["steps"]), "guidance": float(judged["guidance"])}
    extra = diffuser.family.extra(sampling["steps"])
    height, width = diffuser.size
    call = {"height": height, "width": width, "num_inference_steps": sampling["steps"]} | extra
    settings = ", ".join(f"{name}={value!r}" for name, value in call.items())
    guidance = sampling["guidance"]
    use = [
        fits(diffuser, published, judged if isinstance(judged, dict) else {}),
        USE,
        *([modular_use(diffuser, published, settings, guidance)] if "block.py" in doors else []),
        pipeline_use(diffuser, published, settings, guidance),
        *([node_use(published)] if "comfyui/nodes.py" in doors else []),
    ]
    return card(published.run, heldout, published.backbone, use, published.licence)


def fits(diffuser: Diffuser, published: Published, judged: dict[str, Any]) -> str:
    """What the projector was trained for. judged: the sampling of its held-out images, where there are some."""
    said = {name: judged.get(name) for name in ("negative", "scheduler")}
    others = "".join(
        f" Its held-out images had the {what} {json.dumps(said[name])}."
        for name, what in (("negative", "negative prompt"), ("scheduler", "scheduler"))
        if isinstance(said[name], str) and said[name]
    )
    revision = revision_of(diffuser, published)
    prompts = checkpoint.verify(published.folder)["meta"].get("prompts")
    shapes = f"{diffuser.channels} latent channels and text of width {diffuser.text_width}"
    return f"""## What it is for

- Backbone: `{published.backbone}`{f" at revision `{revision}`" if revision else ""}, a `{type(diffuser.pipe).__name__}` with
  {shapes}. A fine-tune of it has the same shapes; nothing is known of how well the
  projector serves one.
- Negative prompt: it reads the prompt alone, and its training makes no image. {none_given(diffuser)}{others}
- Strength: it was trained at 1. Between 0 and 1 the noise is a spherical interpolation.
- Training prompts: {prompts if isinstance(prompts, int) else "not known"}.
- Licence of the weights: {published.licence or "none was chosen"}. The code is under Apache-2.0. The backbone has a licence of
  its own."""


def none_given(diffuser: Diffuser) -> str:
    """What the backbone does where there is no negative prompt."""
    if without_negative(diffuser):
        return "The backbone takes none."
    if diffuser.pipe.config.get("force_zeros_for_empty_prompt"):
        return "Where there is none, the backbone takes embeddings of zeros."
    if diffuser.family.guidance != "guidance_scale":
        return 'Without one the pipeline does not guide: give an empty one, `negative_prompt=""`.'
    return "Where there is none, the backbone takes an empty one."


USE = """## How to use it

`seed` is a whole number, or a list with one for each image, as in the studio; it stands in place of a `generator`.
`projection_strength` goes from 0 (off: the seed's own noise, bit for bit) to 1. Latents that are given are left as they
are. It needs `pip install \"diffusers>=0.42\" transformers accelerate \"einops>=0.8.1,<0.9\"`.

For several images of each of several prompts, repeat the prompts: with `num_images_per_prompt`, diffusers 0.42 gives some
of them the mask or the pooled embedding of another prompt."""


def negative(diffuser: Diffuser, guidance: float) -> str:
    """The negative prompt of a pipeline's call with guidance, as some have no guidance without one: an empty one, where that
    is what the pipeline takes for none."""
    if guidance <= 1 or not diffuser.guided or "force_zeros_for_empty_prompt" in diffuser.pipe.config:
        return ""
    accepted = inspect.signature(diffuser.pipe.__call__).parameters
    return ', negative_prompt=""' if "negative_prompt" in accepted else ""


def modular_use(diffuser: Diffuser, published: Published, settings: str, guidance: float) -> str:
    """The modular repository in diffusers. Where nobody else can load the backbone by its name, its parts are handed over."""
    from core.guidance import takes_guider

    classes, load, family = ["ModularPipeline"], "", diffuser.family
    if not published.known:
        classes.append("DiffusionPipeline")
        load += f"""
backbone = DiffusionPipeline.from_pretrained("{published.backbone}")
pipe.update_components(**backbone.components)"""
    if takes_guider(family.modular):
        classes.append("ClassifierFreeGuidance")
        # 1 is the scale of no guidance, which the other pipelines call 0 as well, where it is not the original formulation
        original = ", use_original_formulation=True" if family.original_guidance else ""
        scale = guidance if original else max(1.0, guidance)
        load += f"""
pipe.update_components(guider=ClassifierFreeGuidance(guidance_scale={scale:g}{original}))"""
        settings += negative(diffuser, guidance)
    else:
        settings += f", guidance_scale={guidance:g}"
    return f"""### A modular pipeline of diffusers

```python
from diffusers import {", ".join(sorted(classes))}

pipe = ModularPipeline.from_pretrained("{place(published)}", trust_remote_code=True)
pipe.load_components(trust_remote_code=True){load}
image = pipe(prompt="{PROMPT}", seed=7, {settings}, output="images")[0]
```

It was tested with text alone. With an image (img2img, inpainting), the noise that is mixed with it is projected too, but not
SDXL's, which is drawn together with the image's latents. To compute in 16 bits, keep the projector in 32:
`dtype={{"default": torch.float16, "projector": torch.float32}}`."""


def place(published: Published) -> str:
    """Where the folder is loaded from: diffusers takes a bare name for one of the community's pipelines."""
    return published.name if "/" in published.name else f"./{published.name}"


def pipeline_use(diffuser: Diffuser, published: Published, settings: str, guidance: float) -> str:
    """The custom pipeline."""
    commit = revision_of(diffuser, published)
    revision = f' revision="{commit}",' if commit else ""
    settings += f", {diffuser.family.guidance}={guidance:g}"
    settings += negative(diffuser, guidance)
    return f"""### A custom pipeline of diffusers

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained(
    "{published.backbone}",{revision} custom_pipeline="{place(published)}", trust_remote_code=True
)
pipe.load_projector("{place(published)}")
image = pipe("{PROMPT}", seed=7, {settings}).images[0]
```

All else is the backbone's own pipeline: LoRA, schedulers, offloading. A sampler that draws noise at every step draws it
from the seed too."""


def node_use(published: Published) -> str:
    """The node of ComfyUI."""
    name = published.name.rpartition("/")[2]
    return f"""### A node of ComfyUI

In the folder that ComfyUI lies in, with this folder beside it:

```bash
cp -r {name}/comfyui ComfyUI/custom_nodes/noise-projection
cp -r {name}/projector ComfyUI/custom_nodes/noise-projection/projector
```

`comfyui/README.md` says how it is used, and what was not tried."""


NODE = """# Noise Projection, a node of ComfyUI

Noise of a seed, moved once, before denoising, toward what the text needs. Connect its output to the input `noise` of
*SamplerCustomAdvanced*, in place of *RandomNoise*.

Install: copy this folder to `ComfyUI/custom_nodes/noise-projection`, the folder `projector` into it, run
`pip install -r requirements.txt` in ComfyUI's Python, and start ComfyUI again. The node is under
*sampling > custom_sampling > noise*.

| input | meaning |
|---|---|
| seed | as of RandomNoise |
| clip | of the checkpoint that is sampled: its text encoders must be those that the projector was trained with |
| text | the prompt, plain: weights such as (red:1.3) are left out, and so is what is beyond the first 75 tokens |
| strength | 0 is ComfyUI's own noise, bit for bit; 1 the full projection |
| projector | a folder `projector`, or the file of its weights beside its config.json; a path, or a name in this folder |

ComfyUI draws a whole batch from one generator. So the first item is the noise of that seed in Noise Projection Studio,
for a seed below 2^32, and the others are those of no seed. `batch_index` (*Latent From Batch*) is heeded.

The projector computes on the CPU. Text encoders of another kind than CLIP, and latents of videos, are refused. Noise is drawn in
float32, as ComfyUI's newer versions draw it; an older one draws the noise of latents of 16 bits in 16 bits.

Not tried: this node in a running ComfyUI, with its own CLIP. Its tests use stand-ins for CLIP and the sampler, since
ComfyUI is under the GPL and this code is not. ComfyUI computes text encoders and samplers by code of its own, often in 16
bits, so its images differ from those of diffusers.
"""
