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


def test_a_model_and_a_dict_of_tensors_come_back_as_they_were_saved(tmp_path):
    model = Small(width=5)
    manifest = save(model, tmp_path / "m", {"note": "colour"}, kind=None)
    again = load(Small, tmp_path / "m")
    assert again.config.width == 5 and not again.training
    assert torch.equal(again.layer.weight, model.layer.weight)
    assert verify(tmp_path / "m") == manifest and manifest["meta"] == {"note": "colour"}
    assert os.listdir(tmp_path) == ["m"]
    before = digest(tmp_path / "m")
    save({"a": torch.arange(3.0)}, tmp_path / "m")
    assert torch.equal(load_tensors(tmp_path / "m")["a"], torch.arange(3.0))
    assert digest(tmp_path / "m") != before and len(before) == 64


def edited(**changes):
    """A change of the manifest."""

    def change(folder):
        path = folder / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def flip(folder):
    path = folder / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))


@pytest.mark.parametrize(
    "harm, text",
    [
        (edited(files={}), "manifest.json is damaged"),
        (edited(kind=None), "manifest.json is damaged"),
        (edited(format=9), "format 9.*update"),
        (edited(files={"../../x": {"sha256": "", "bytes": 0}}), "outside its folder"),
        (lambda f: (f / "manifest.json").unlink(), "has no manifest.json: choose"),
        (lambda f: (f / "manifest.json").write_text("{"), "manifest.json is damaged"),
        (flip, r"safetensors is damaged.*again"),
        (lambda f: (f / "config.json").unlink(), r"config.json is missing.*again"),
        (lambda f: (f / "config.json").write_text(""), r"config.json is damaged.*again"),
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


def test_training_state_round_trips_runs_no_code_and_its_damage_is_named(tmp_path):
    path = tmp_path / "run" / "state.pt"
    save_state({"step": 3, "extra": {"best": 0.5}, "weights": torch.arange(64.0)}, path)
    state = load_state(path)
    assert (state["step"], state["extra"]) == (3, {"best": 0.5})
    assert torch.equal(state["weights"], torch.arange(64.0)) and os.listdir(path.parent) == ["state.pt"]
    with pytest.raises(CheckpointError, match="no training state"):
        load_state(tmp_path / "none.pt")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for part in (whole[: len(whole) // 2], bytes(flipped), b"", b"junk" * 100):
        path.write_bytes(part)
        with pytest.raises(CheckpointError, match="damaged: delete it"):
            load_state(path)
    save_state({"x": os.system}, path)
    with pytest.raises(CheckpointError):
        load_state(path)


def test_the_origin_of_a_model_is_not_saved(tmp_path):
    class Loaded:  # stands for a model of diffusers, which writes this field into its config
        def save_pretrained(self, folder):
            (folder / "config.json").write_text('{"_name_or_path": "/somewhere/of/mine", "width": 3}')

    save(Loaded(), tmp_path / "it", kind="x")
    assert json.loads((tmp_path / "it/config.json").read_text()) == {"width": 3}
    verify(tmp_path / "it")


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
