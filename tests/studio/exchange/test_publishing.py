"""A projector that was published makes the studio's images where this repository is not: by each of its doors."""

import dataclasses
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from core import checkpoint
from core.diffusion import Diffuser
from core.evaluation.base import Settings as Sampling
from core.evaluation.methods import Projected
from core.families import FAMILIES
from core.guidance import takes_guider
from core.networks.projector import NoiseProjector
from core.noise import draw, second, third
from core.published import pipeline
from studio.__main__ import main
from studio.api import endpoints
from studio.cli import commands
from studio.exchange import publishing
from studio.exchange.flatten import flatten, imports_of_ours
from studio.studio import Studio
from tests import backbones, tiny
from tests.studio.exchange.test_transfer import TOKEN, FakeHub
from tests.tiny import change_settings

PROMPT = publishing.PROMPT
STEPS, GUIDANCE = 3, 4.0
CLIP = ("sd15", "sdxl")
NAMES = (
    *CLIP,
    "kolors",
    "sd3",
    "flux-dev",
    "flux2",
    "klein-base",
    "sana",
    "sprint",
    "qwen",
    "pixart",
    "z-image",
)


def studio_on(name, top, model_folder):
    """A studio on a tiny backbone, with a projector that moves the noise."""
    backbone, pipe = backbones.save(name, top / "backbone"), backbones.build(name)
    index = json.loads((backbone / "model_index.json").read_text())
    index |= {"safety_checker": [None, None]} if "safety_checker" in index else {}
    # FLUX.2's processor needs torchvision, which is not installed here
    index["tokenizer"] = (
        ["transformers", type(pipe.tokenizer).__name__] if name == "flux2" else index["tokenizer"]
    )
    (backbone / "model_index.json").write_text(json.dumps(index))
    tiny_one = Diffuser(pipe)
    torch.manual_seed(1)
    projector = NoiseProjector(
        latent_channels=tiny_one.channels, text_width=tiny_one.text_width, **tiny.SMALL
    )
    torch.nn.init.normal_(projector.out.weight, std=0.2)
    checkpoint.save(projector, top / "projector", {"prompts": 3})
    settings = tiny.settings_at(top / "home", model_folder)
    return Studio(
        dataclasses.replace(
            settings, backbone=str(backbone), projector=top / "projector", size="64x64", steps=str(STEPS)
        )
    )


def given_of(name, studio):
    """What somebody else is told: latents of the studio, and arguments of a pipeline's call."""
    diffuser, projector = studio.models.diffuser(), studio.models.using("projector").model
    family = diffuser.family
    options = {family.guidance: GUIDANCE} | family.extra(STEPS)
    if publishing.negative(diffuser, GUIDANCE):
        options["negative_prompt"] = ""
    guider = {"guidance_scale": GUIDANCE, "use_original_formulation": family.original_guidance}
    has_guider = bool(family.modular) and takes_guider(family.modular)
    wide = diffuser.with_pipe(diffuser.pipe)
    wide.size = (64, 96)
    given = {"prompt": PROMPT, "steps": STEPS, "options": options, "guider": guider if has_guider else None,
             "masked": "mask" in family.encoded}  # fmt: skip
    for latents, one in (("latents", diffuser), ("wide", wide)):
        given[latents] = projector.latents(one, PROMPT, 7)
        given[f"after {latents}"] = third([7], one.latent_shape())[0].get_state()
    given["noise"] = diffuser.to_pipeline(draw([7], diffuser.latent_shape()))
    given["after noise"] = given["after latents"]
    if name in CLIP:
        pooled = {"pooled_prompt_embeds": torch.zeros(1, 32)} if name == "sdxl" else {}
        given["embeds"] = pooled | {"guidance_scale": 1.0}
    return given


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory, model_folder):
    """By family: (studio, the published folder, what somebody else made with it), all in one process of theirs."""
    top, studios, tasks = tmp_path_factory.mktemp("published"), {}, []
    for name in NAMES:
        (place := top / name).mkdir()
        studio, folder = studio_on(name, place, model_folder), place / "out" / "noise"
        backbone = studio.settings.backbone
        publishing.publish(studio, folder, "ann", backbone=backbone, licence="cc-by-4.0")
        given = given_of(name, studio)
        if name in ("sdxl", "flux-dev"):  # its card does not know where others find the backbone
            publishing.publish(studio, place / "bare" / "noise", "ann")
            given["bare"] = str(place / "bare" / "noise")
        studios[name] = studio, folder
        tasks.append({"folder": str(folder), "backbone": backbone, "given": given})
    torch.save(tasks, top / "tasks.pt")
    (empty := top / "empty").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    script = Path(__file__).with_name("elsewhere.py")
    done = subprocess.run(
        [sys.executable, "-I", str(script), str(top / "tasks.pt"), str(top / "made.pt")],
        cwd=empty, env=environment | {"HF_HOME": str(top / "hub"), "TQDM_DISABLE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    made = torch.load(top / "made.pt")
    return {name: (*one, values) for (name, one), values in zip(studios.items(), made, strict=True)}


@pytest.fixture(params=NAMES)
def used(request, everywhere):
    return everywhere[request.param]


@pytest.fixture(params=CLIP)
def node(request, everywhere):
    return everywhere[request.param]


def test_the_custom_pipeline_makes_the_image_of_latents_that_were_projected_bit_for_bit(used):
    studio, _, made = used
    for name in ("custom", "custom, generator", "given latents"):
        assert torch.equal(made[name], made["latents="]), name
    assert torch.equal(made["custom, wide"], made["wide"])
    assert torch.equal(made["custom, off"], made["noise="])
    if type(studio.models.diffuser().scheduler).__name__ != "SCMScheduler":  # which draws noise at every step
        assert torch.equal(made["custom, off"], made["plain"])
    assert not torch.allclose(made["custom"], made["plain"], atol=0.01)
    method = Projected(studio.models.using("projector").model)
    settings = Sampling(steps=STEPS, guidance=GUIDANCE)
    ours = method.run(studio.models.diffuser(), [PROMPT], [7], settings).images
    assert np.array_equal(ours, (made["custom"].numpy() * 255).round().astype(np.uint8))


def test_the_modular_pipeline_makes_the_image_of_the_studio(used):
    studio, folder, made = used
    if not studio.models.diffuser().family.modular:
        assert (
            not (folder / "block.py").exists() and "ModularPipeline" not in (folder / "README.md").read_text()
        )
        return
    assert torch.allclose(made["modular, wide"], made["wide"], atol=4e-5)
    for name in ("", ", half", ", off", ", several"):
        assert torch.allclose(made[f"modular{name}"], made[f"custom{name}"], atol=4e-5), name


def test_several_prompts_and_seeds_are_each_the_image_of_their_own(used):
    studio, _, made = used
    diffuser, projector = studio.models.diffuser(), studio.models.using("projector").model
    prompts = [PROMPT, PROMPT, "a star", "a star"]
    sampling = Sampling(steps=STEPS, guidance=GUIDANCE)
    ours = Projected(projector).run(diffuser, prompts, [7, 8, 9, 10], sampling).images
    assert np.abs(ours / 255 - made["custom, several"].numpy()).max() <= 1 / 255
    assert torch.allclose(made["custom, several"][:1], made["custom"], atol=1e-4)


def test_each_example_of_the_card_runs(used):
    _, folder, made = used
    card = (folder / "README.md").read_text()
    assert made["card"] == [(64, 64)] * card.count("```python")
    assert made.get("bare card", made["card"]) == made["card"]


def test_what_has_no_text_is_refused(node):
    assert "the text of the prompt" in node[2]["embeds"] and "projection_strength" in node[2]["embeds"]


def test_every_family_is_published(everywhere):
    families = [studio.models.diffuser().family for studio, *_ in everywhere.values()]
    assert all(family in families for family in FAMILIES)


def test_the_card_says_what_the_backbone_does_without_a_negative_prompt(everywhere):
    for name, says in (
        ("sdxl", "embeddings of zeros"), ("sd15", "takes an empty one"), ("flux-dev", "The backbone takes none"),
        ("sprint", "The backbone takes none"), ("qwen", "does not guide"), ("klein-base", "takes an empty one"),
    ):  # fmt: skip
        assert says in (everywhere[name][1] / "README.md").read_text(), name


def test_another_prompt_for_another_text_encoder_is_refused(everywhere):
    for name in ("sdxl", "sd3", "flux-dev"):
        assert "leave out prompt_2" in everywhere[name][2]["prompt_2"], name


def test_a_node_is_published_where_the_text_encoders_are_those_of_comfyui(everywhere):
    for name, (_, folder, made) in everywhere.items():
        card = (folder / "README.md").read_text()
        assert (folder / "comfyui").exists() == ("ComfyUI" in card) == ("node" in made) == (name in CLIP), (
            name
        )


def test_the_node_gives_the_noise_of_the_studio_and_without_strength_that_of_comfyui(node):
    studio, _, made = node
    assert torch.equal(made["node, image"], made["latents="])
    projector, diffuser = studio.models.using("projector").model, studio.models.diffuser()
    ours, shape = projector.latents(diffuser, PROMPT, 7), diffuser.latent_shape()
    assert torch.equal(made["node"], ours) and torch.equal(made["node, file"], ours)
    torch.manual_seed(7)
    assert torch.equal(made["node, off"], torch.randn(3, *shape))
    assert torch.equal(made["next"], torch.randn(3))
    torch.manual_seed(7)
    assert torch.equal(made["node, half off"], torch.randn(3, *shape).half())
    torch.manual_seed(7)
    one_by_one = [torch.randn(1, *shape) for _ in range(3)]
    assert torch.equal(made["node, index off"], torch.cat([one_by_one[2], one_by_one[0]]))
    assert made["node, large seed"].isfinite().all()
    assert "no projector at 'nowhere'" in made["nowhere"]


def test_an_item_of_a_batch_of_comfyui_is_the_same_alone_and_item_0_is_the_seeds(node):
    studio, _, made = node
    batch, alone = made["node, batch"], made["node, index"]
    assert torch.allclose(batch[:1], made["node"], atol=1e-5)
    assert torch.allclose(alone, batch[[2, 0]], atol=1e-5)
    torch.manual_seed(7)
    text, noise = studio.models.diffuser().encode([PROMPT]), torch.randn(batch.shape)[2:]
    projector = studio.models.using("projector").model
    ours = projector.project(noise, text.hidden, text.mask, second([9], noise.shape[1:]))
    assert torch.allclose(batch[2:], ours, atol=1e-5)


def test_what_is_published_is_code_of_libraries_alone_weights_as_safetensors_and_no_path_of_ours(used):
    studio, folder, _ = used
    files = [path for path in folder.rglob("*") if path.is_file()]
    kinds = {path.suffix for path in files}
    assert kinds - {".txt"} == {".py", ".md", ".json", ".safetensors"}
    for path in files:
        if path.suffix == ".py":
            assert not imports_of_ours(path.read_text())
        elif path.suffix == ".safetensors":
            assert path.read_bytes() == (studio.settings.projector / path.name).read_bytes()
    index = folder / "modular_model_index.json"
    if index.is_file():
        assert json.loads(index.read_text())["projector"][2]["pretrained_model_name_or_path"] is None
    assert not (folder.parent / ".noise").exists() and [p.name for p in folder.parent.iterdir()] == ["noise"]
    assert studio.store.audit.entries()[0]["action"] == "publish"


# ---- the folder, without a process that uses it -------------------------------------------------------------------


@pytest.fixture
def cli(studio, monkeypatch, capsys):
    """A function: a command's exit code, and what it printed."""
    monkeypatch.setattr(commands, "studio_of", lambda home: studio)

    def call(*words):
        return main([*map(str, words)]), "".join(capsys.readouterr())

    return call


HELDOUT = {
    "of": "prompts and seeds", "judge": "detector", "independent": True, "prompts": 4, "images": 16, "base": "none",
    "sampling": {"steps": 2, "guidance": 3.0}, "key": "k",
    **{side: {name: {"estimate": value, "low": value - 0.1, "high": value + 0.1} for name in ("words", "clean")}
       for side, value in (("none", 0.5), ("after", 0.715), ("difference", 0.215))},
}  # fmt: skip


@pytest.fixture
def run(studio):
    """A function: a run of a kind that is done, with the shipped projector as its checkpoint; its id."""

    def make(kind="projector", **fields):
        id = studio.store.runs.new(kind, {}, None, None)
        folder = studio.settings.projector
        about = {"checkpoint": str(folder), "checkpoint_sha256": checkpoint.digest(folder)}
        studio.store.runs.update(id, **{"state": "done", **about, **fields})
        return id

    return make


def test_the_card_has_the_figures_of_the_held_out_result_and_none_where_nothing_was_measured(
    studio, run, tmp_path
):
    publishing.publish(studio, tmp_path / "shipped", "ann")
    card = (tmp_path / "shipped" / "README.md").read_text()
    assert "Nothing was measured" in card and "base_model" not in card and "embeddings of zeros" in card
    assert (
        'DiffusionPipeline.from_pretrained("diffuser")' in card and str(studio.settings.backbone) not in card
    )
    made = publishing.publish(
        studio, tmp_path / "own", "ann", run=run(metrics={"heldout": HELDOUT}), licence="mit"
    )
    card = (tmp_path / "own" / "README.md").read_text()
    assert "0.715 [0.615, 0.815]" in card and "license: mit" in card and "num_inference_steps=2" in card
    assert "Nothing was measured" not in card and made["run"] in card


def test_a_folder_that_is_pushed_names_itself_and_the_backbone_and_keeps_no_token(studio, tmp_path):
    hub = FakeHub()
    options = {"backbone": "ann/shapes", "repository": "ann/noise", "token": TOKEN, "api": hub}
    made = publishing.publish(studio, tmp_path / "out", "ann", **options)
    assert made["url"] == "https://huggingface.co/ann/noise" and set(hub.files) == set(made["files"])
    assert (hub.calls[0][0], hub.calls[0][2]["private"], hub.calls[1][1]["repo_type"]) == (
        "create_repo",
        True,
        "model",
    )
    index = json.loads(hub.files["modular_model_index.json"])
    places = {
        name: one[2]["pretrained_model_name_or_path"] for name, one in index.items() if isinstance(one, list)
    }
    assert places["projector"] == "ann/noise" and places["unet"] == places["scheduler"] == "ann/shapes"
    assert b"base_model: ann/shapes" in hub.files["README.md"]
    assert TOKEN.encode() not in b"".join(hub.files.values()) and TOKEN not in json.dumps(
        studio.store.audit.entries()
    )


def test_what_cannot_be_published_is_a_sentence_and_leaves_nothing(studio, run, cli, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (full := tmp_path / "full").mkdir()
    (full / "mine.txt").write_text("x")
    out, reward, queued = tmp_path / "new" / "out", run("reward"), run(state="failed")
    for words, says in (
        ([full], "not empty"), ([full / "mine.txt"], "not empty"), ([out, "--run", "nothing"], "no run"),
        ([out, "--run", reward], "makes no projector"), ([out, "--run", queued], "is failed"),
        ([out, "--push", "noise"], "write owner/name"), ([out, "--push", "ann/noise"], "There is no token"),
        ([out, "--public"], "belongs to --push"),
    ):  # fmt: skip
        code, said = cli("publish", *words)
        assert code == 2 and says in said and len(said.strip().splitlines()) == 1, said
    change_settings(studio, projector=tmp_path / "nowhere")
    code, said = cli("publish", out)
    assert code == 2 and "There is no projector" in said
    assert [path.name for path in tmp_path.iterdir()] == ["full"] and [p.name for p in full.iterdir()] == [
        "mine.txt"
    ]
    assert "publish" not in [line["action"] for line in studio.store.audit.entries()]


@pytest.mark.parametrize(
    ("name", "wrong", "says"),
    [
        (
            "text_of",
            lambda family, pipe, prompts, states: (states["hidden"], torch.ones(1, 77)),
            "latents differ",
        ),
        ("prompts_of", lambda *prompts: 1 / 0, "ZeroDivisionError"),
    ],
    ids=["another mask", "an error"],
)
def test_a_backbone_whose_pipeline_would_start_from_other_latents_is_refused(
    studio, tmp_path, monkeypatch, name, wrong, says
):
    monkeypatch.setattr(pipeline, name, wrong)
    with pytest.raises(ValueError, match=f"cannot be published yet.*{says}"):
        publishing.publish(studio, tmp_path / "out", "ann")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_finished_is_not_there(studio, tmp_path, monkeypatch):
    monkeypatch.setattr(publishing, "model_card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publishing.publish(studio, tmp_path / "out", "ann")
    monkeypatch.undo()
    monkeypatch.setattr(publishing, "as_json", lambda _: 7)  # the last files are half written
    with pytest.raises(TypeError):
        publishing.publish(studio, tmp_path / "out", "ann")
    assert list(tmp_path.iterdir()) == []


def test_the_zip_of_a_run_is_the_folder_that_the_command_writes(studio, run, cli, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    id = run()
    name = f"noise-projector-{id}"
    code, said = cli("publish", tmp_path / name, "--run", id)
    assert code == 0 and "MB" in said
    given = endpoints(studio, None)["download_published"](id)
    assert given["orig_name"] == f"{name}.zip"
    with zipfile.ZipFile(given["path"]) as archive:
        files = {one: archive.read(one) for one in archive.namelist()}
    written = {
        p.relative_to(tmp_path).as_posix(): p.read_bytes()
        for p in (tmp_path / name).rglob("*")
        if p.is_file()
    }
    assert files == written


def test_a_definition_that_still_needs_the_project_and_two_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"would import core\."):
        flatten([("core.networks.projector", "NoiseProjector")], "x")
    with pytest.raises(ValueError, match="rename one"):
        flatten([("studio.doors", "read"), ("core.jsonfile", "read")], "x")


def test_the_flattened_noise_is_that_of_core():
    names = {}
    exec(flatten([("core.noise", "draw")], "x"), names)  # noqa: S102
    assert torch.equal(names["draw"]([5, 2**40], (4, 2, 2)), draw([5, 2**40], (4, 2, 2)))
