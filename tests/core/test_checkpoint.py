"""core/checkpoint.py: whole or not there, and damage is named before a model is built."""

import json
import os

import pytest
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from core import checkpoint
from core.checkpoint import CheckpointError, digest, load, load_state, load_tensors, save, save_state, verify


class Small(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(width, 2)


@pytest.fixture
def folder(tmp_path):
    save(Small(), tmp_path / "run" / "model", {"steps": 7})
    return tmp_path / "run" / "model"


def flip(path, place=-1):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_model_comes_back_as_it_was_saved(tmp_path):
    model = Small(width=5)
    manifest = save(model, tmp_path / "m", {"note": "colour"}, kind=None)
    again = load(Small, tmp_path / "m")
    assert again.config.width == 5 and not again.training
    assert torch.equal(again.layer.weight, model.layer.weight)
    assert verify(tmp_path / "m") == manifest and manifest["meta"] == {"note": "colour"}
    assert os.listdir(tmp_path) == ["m"]


def test_a_dict_of_tensors_can_be_saved(tmp_path):
    save({"a": torch.arange(3.0)}, tmp_path / "tensors")
    assert torch.equal(load_tensors(tmp_path / "tensors")["a"], torch.arange(3.0))


def no_manifest(f):
    (f / "manifest.json").unlink()


def broken_manifest(f):
    (f / "manifest.json").write_text("{")


def other_format(f):
    (f / "manifest.json").write_text((f / "manifest.json").read_text().replace('"format": 1', '"format": 9'))


def escaping(f):
    content = json.loads((f / "manifest.json").read_text())
    content["files"]["../../x"] = {"sha256": "", "bytes": 0}
    (f / "manifest.json").write_text(json.dumps(content))


def without(name):
    def harm(f):
        content = json.loads((f / "manifest.json").read_text())
        content[name] = {} if name == "files" else None
        (f / "manifest.json").write_text(json.dumps(content))

    return harm


@pytest.mark.parametrize(
    "harm, text",
    [
        (without("files"), "manifest.json is damaged"),
        (without("kind"), "manifest.json is damaged"),
        (lambda f: flip(f / "diffusion_pytorch_model.safetensors"), r"safetensors is damaged.*again"),
        (lambda f: (f / "config.json").unlink(), r"config.json is missing.*again"),
        (lambda f: (f / "config.json").write_text(""), r"config.json is damaged.*again"),
        (no_manifest, "has no manifest.json: choose"),
        (broken_manifest, "manifest.json is damaged"),
        (other_format, "format 9.*update"),
        (escaping, "outside its folder"),
    ],
)
def test_damage_is_named_with_the_file_and_what_to_do(folder, harm, text):
    harm(folder)
    with pytest.raises(CheckpointError, match=text):
        load(Small, folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_checkpoint_with_numbers_that_are_not_finite_is_refused(tmp_path, value):
    model = Small()
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = value
    save(model, tmp_path / "model")
    save({"a": torch.ones(2), "b": torch.tensor([1.0, value])}, tmp_path / "tensors")
    with pytest.raises(CheckpointError, match="not finite.*train it again"):
        load(Small, tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"not finite \(b\)"):
        load_tensors(tmp_path / "tensors")


def test_a_checkpoint_that_is_not_there_or_of_another_kind_is_refused(folder, tmp_path):
    with pytest.raises(CheckpointError, match="does not exist: choose"):
        verify(tmp_path / "unknown")
    with pytest.raises(CheckpointError, match="holds a Small, not a Linear"):
        load(torch.nn.Linear, folder)


def test_a_save_that_fails_leaves_the_older_checkpoint(folder, monkeypatch):
    before = digest(folder)
    monkeypatch.setattr(checkpoint, "_sync", lambda path: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(Small(), folder)
    assert digest(folder) == before and verify(folder)["meta"] == {"steps": 7}
    assert os.listdir(folder.parent) == ["model"]


def test_a_kill_between_the_two_renames_loses_nothing(folder, monkeypatch):
    before, rename = digest(folder), os.rename

    def killed(a, b):
        if ".tmp" in str(a):
            raise KeyboardInterrupt
        rename(a, b)

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        save(Small(), folder)
    monkeypatch.undo()
    assert not folder.exists()
    assert verify(folder)["meta"] == {"steps": 7} and digest(folder) == before


def test_the_digest_changes_with_the_weights(folder):
    before = digest(folder)
    save(Small(), folder, {"steps": 7})
    assert digest(folder) != before and len(before) == 64


def test_training_state_round_trips_and_damage_is_named(tmp_path):
    layer = torch.nn.Linear(8, 8)
    optimiser = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 8)).sum().backward()
    optimiser.step()
    path = tmp_path / "run" / "state.pt"
    save_state({"step": 3, "optimiser": optimiser.state_dict(), "extra": {"best": 0.5}}, path)
    state = load_state(path)
    assert state["step"] == 3 and state["extra"] == {"best": 0.5}
    optimiser.load_state_dict(state["optimiser"])
    assert os.listdir(path.parent) == ["state.pt"]
    with pytest.raises(CheckpointError, match="no training state"):
        load_state(tmp_path / "none.pt")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for part in (whole[: len(whole) // 2], bytes(flipped), b"", b"junk" * 100):
        path.write_bytes(part)
        with pytest.raises(CheckpointError, match="damaged: delete it"):
            load_state(path)


def test_training_state_cannot_run_code(tmp_path):
    save_state({"x": os.system}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError):
        load_state(tmp_path / "state.pt")


def test_the_origin_of_a_model_is_not_saved(tmp_path):
    class Loaded:  # stands for a model of diffusers, which writes this field into its config
        def save_pretrained(self, folder):
            (folder / "config.json").write_text('{"_name_or_path": "/somewhere/of/mine", "width": 3}')

    checkpoint.save(Loaded(), tmp_path / "it", kind="x")
    assert "somewhere" not in (tmp_path / "it/config.json").read_text()
    assert checkpoint.verify(tmp_path / "it")["files"]["config.json"]["bytes"] == len('{\n  "width": 3\n}\n')


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_a_checkpoint_of_another_version_of_its_model_is_refused(tmp_path, monkeypatch, change):
    """diffusers would fill in at random what is missing."""
    save(Small(), tmp_path / "m")
    init = Small.__init__

    def newer(self, width=3):
        init(self, width)
        self.layer = torch.nn.Linear(width, 4) if change == "shape" else self.layer
        if change == "missing":
            self.more = torch.nn.Linear(2, 2)

    monkeypatch.setattr(Small, "__init__", newer)
    with pytest.raises(CheckpointError, match="another version"):
        load(Small, tmp_path / "m")
