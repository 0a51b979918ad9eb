"""The benchmark's command: the models in use and SDXL's shapes, here in small; what it prints and what it gives."""

import copy
import json
import re
from types import SimpleNamespace

import pytest
import torch

from core.diffusion import Diffuser
from core.evaluation import benchmark as core_benchmark
from core.networks.projector import NoiseProjector
from studio.__main__ import main
from studio.cli import commands, experiment
from studio.cli.console import Console
from studio.experiments import benchmark
from studio.experiments.benchmark import measure, table
from studio.pretrain import flow_shapes, sdxl_shapes
from tests import backbones
from tests.tiny import SIZE, change_settings

TINY = {
    "unet": {**sdxl_shapes.SHAPES["unet"], "block_out_channels": (32, 32, 64), "layers_per_block": 1,
             "transformer_layers_per_block": (1, 1, 1), "attention_head_dim": (1, 1, 2), "cross_attention_dim": 48,
             "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 32 + 6 * 8},
    "vae": {**sdxl_shapes.SHAPES["vae"], "block_out_channels": (32, 32, 32, 32), "layers_per_block": 1},
    "text_encoder": {**sdxl_shapes.SHAPES["text_encoder"], "vocab_size": 1000, "hidden_size": 16,
                     "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "text_encoder_2": {**sdxl_shapes.SHAPES["text_encoder_2"], "vocab_size": 1000, "hidden_size": 32,
                       "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "projection_dim": 32},
}  # fmt: skip
QUICK = {"repeats": 1, "steps": 2, "sdxl_size": 64, "sdxl_repeats": 1, "sdxl_steps": 6, "sdxl_batch": 2}


@pytest.fixture
def small(studio, monkeypatch):
    """SDXL's architecture in small, and small batches, as the whole of it takes minutes."""
    four = SimpleNamespace(default=4)
    monkeypatch.setattr(sdxl_shapes, "SHAPES", TINY)
    monkeypatch.setattr(benchmark, "FIELDS", {k: {f"{k}_batch": four} for k in ("reward", "projector")})
    monkeypatch.setattr(commands, "studio_of", lambda given: studio)
    return studio


GIVEN = ["benchmark", *(f"--set={name}={value}" for name, value in QUICK.items())]


def test_the_command_measures_both_cases_prints_a_table_with_the_aims_and_changes_no_model(
    small, capsys, tmp_path
):
    def weights():
        models = [small.models.using(kind).model for kind in ("projector", "reward")]
        return [value.clone() for model in models for value in model.state_dict().values()]

    before = weights()
    assert main([*GIVEN, "--json", str(tmp_path / "cost.json")]) == 0
    report, out = json.loads((tmp_path / "cost.json").read_text()), capsys.readouterr().out
    used, large = report["cases"]
    assert report["threads"] == torch.get_num_threads() and report["torch"] == torch.__version__
    assert report["device"].startswith("CPU") and report["config"]["repeats"] == 1
    assert (used["height"], used["width"], used["steps"], used["composed"]) == (SIZE, SIZE, 2, False)
    assert (used["projector"], used["dtype"]) == ("shipped", "float32")
    assert (large["height"], large["steps"], large["timed_steps"], large["composed"]) == (64, 6, 1, True)
    assert (large["projector"], large["dtype"]) == ("new, in its default shape", "bfloat16")
    assert used["scoring"]["words"] > 0 and "scoring" not in large
    for case, batch in ((used, 4), (large, 2)):
        assert {name: part["batch"] for name, part in case["training"].items()} == {
            "reward": batch,
            "projector": batch,
        }
        assert all(part["median"] > 0 for part in case["seconds"].values())
        assert case["share"]["median"] > 0 and case["pair_in_images"]["median"] > 0
    assert table(report) in out
    assert "| projector's share of an image |" in out and "at most 0.5 % on a data-centre GPU" in out
    assert out.count("at most 1.6") == 2
    assert "1 of 6 steps timed, the image composed from them" in out and "all 2 steps timed" in out
    assert {line.count("|") for line in out.splitlines() if line.startswith("|")} == {4}
    assert not small.models.lock.locked()
    assert all(torch.equal(a, b) for a, b in zip(before, weights(), strict=True))
    assert not any(p.requires_grad for p in small.models.using("projector").model.parameters())


def test_without_a_projector_a_new_one_is_measured_and_training_that_does_not_fit_is_said(small, monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(core_benchmark, "training_cost", full)
    change_settings(small, projector=small.settings.home / "nowhere")
    report = measure(small, {**QUICK, "sdxl": False})
    (case,) = report["cases"]
    assert case["projector"] == "new, in its default shape"
    assert "do not fit" in case["training"]["problem"] and "do not fit" in table(report)


def test_the_command_stops_when_it_is_asked_to_and_says_so(small, monkeypatch, capsys):
    monkeypatch.setattr(Console, "report", lambda console, line: console.stop.set())
    assert main(GIVEN) == 130
    assert "Not finished" in capsys.readouterr().out


@pytest.mark.parametrize("family", flow_shapes.TRANSFORMERS)
def test_an_image_of_a_large_network_is_composed_from_two_of_its_blocks(small, monkeypatch, family, capsys):
    """The shapes in small, all of whose blocks fit: the composed time is near that of the whole, which is timed once."""
    fewer = {
        "num_attention_heads": 2,
        "joint_attention_dim": 64,
        "pooled_projection_dim": 32,
        "caption_projection_dim": 128,
    }
    shapes = flow_shapes.TRANSFORMERS
    fewer = {name: value for name, value in fewer.items() if name in shapes[family]}
    if family == "flux":
        fewer["pooled_projection_dim"] = 16
    monkeypatch.setitem(shapes, family, {**shapes[family], **fewer})
    monkeypatch.setattr(flow_shapes, "VAE", {**flow_shapes.VAE, "block_out_channels": (32,) * 4})
    monkeypatch.setattr(flow_shapes, "T5_WIDTH", 64)
    monkeypatch.setattr(flow_shapes, "CLIP_WIDTHS", (16, 16))
    given = [word for word in GIVEN if "steps" not in word]
    assert main([*given, "--family", family]) == 0
    out = capsys.readouterr().out
    assert "a step composed from those with one and two blocks for" in out and "38 " in out
    rows = [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("| ")]
    assert [row.split(",")[0] for row in rows[1:]] == [
        "projector",
        "denoising",
        "decoding",
        "image",
        "projector's share of an image",
    ]


def test_the_command_names_the_families_that_have_shapes_and_refuses_others():
    """Its help does not import diffusers, so it has a list of its own."""
    families = [benchmark.SDXL, *flow_shapes.STACKS]
    (hint,) = experiment.benchmark.__annotations__["family"].__metadata__
    assert re.findall(r"\w+", hint.replace(" or ", ", ")) == families
    with pytest.raises(ValueError, match=f"no shapes of 'kolors': choose {', '.join(families)}"):
        measure(SimpleNamespace(models=None), family="kolors")


def test_the_composed_time_of_a_step_is_that_of_the_whole(monkeypatch):
    """The clock counts calls of blocks: what is tested is the sum, and that the network is whole again."""
    diffuser = Diffuser(backbones.build("flux-dev"), size=(64, 64))
    network = diffuser.denoiser
    for name in ("transformer_blocks", "single_transformer_blocks"):
        blocks = getattr(network, name)
        blocks.append(copy.deepcopy(blocks[0]))
    projector = NoiseProjector(latent_channels=4, text_width=32, width=16, heads=2, depth=1, channels=(16,))
    now = [0.0]

    def takes(module, seconds):
        module.register_forward_hook(lambda *given: now.__setitem__(0, now[0] + seconds))

    for block in network.transformer_blocks:
        takes(block, 2.0)
    for block in network.single_transformer_blocks:
        takes(block, 1.0)
    takes(projector, 0.5)
    takes(diffuser.pipe.vae.decoder, 3.0)
    monkeypatch.setattr(core_benchmark, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    with core_benchmark.shortened(network, {"transformer_blocks": 1}):
        assert len(network.transformer_blocks) == 1
    assert len(network.transformer_blocks) == len(network.single_transformer_blocks) == 2
    cost = core_benchmark.stacked_cost(
        diffuser, projector, "a red circle", {"transformer_blocks": 5, "single_transformer_blocks": 9},
        core_benchmark.Sampling(7, 3.5, 64, 64), repeats=1,
    )  # fmt: skip
    assert cost["denoising"].median == pytest.approx(7 * (5 * 2.0 + 9 * 1.0))
    assert cost["image"].median == pytest.approx(cost["denoising"].median + 3.0)
    assert cost["share"].median == pytest.approx(0.5 / cost["image"].median)


def test_the_shapes_of_flow_matching_are_those_of_the_published_models():
    with torch.device("meta"):
        sizes = {name: flow_shapes.transformer(name).num_parameters() for name in flow_shapes.TRANSFORMERS}
    assert sizes == {"flux": 11_901_408_320, "sd3": 8_056_627_520}


def test_the_shapes_are_those_of_the_published_model():
    found = sdxl_shapes.networks(sdxl_shapes.SHAPES, torch.bfloat16, "meta")
    sizes = {name: sum(p.numel() for p in network.parameters()) for name, network in found.items()}
    assert sizes == {
        "unet": 2_567_463_684,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
    }
    assert {p.dtype for network in found.values() for p in network.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("speed=1", "A benchmark has no setting"),
        ("repeats=0", "out of range"),
        ("sdxl_dtype=int8", "choose bfloat16"),
    ],
)
def test_a_wrong_setting_is_a_sentence(setting, says, capsys, tmp_path):
    assert main(["benchmark", "--home", str(tmp_path), "--set", setting]) == 2
    err = capsys.readouterr().err
    assert says in err and len(err.strip().splitlines()) == 1
