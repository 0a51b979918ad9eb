"""A projector or reward model of another backbone: a warning where the shapes are the same, else a refusal, and both name
the two backbones."""

import json
import shutil
from dataclasses import replace

import pytest

from core import checkpoint
from core.backbone import Backbone
from core.networks.projector import NoiseProjector
from studio.studio import check_request
from tests import tiny
from tests.studio.gridded import grid_of
from tests.studio.trained import PROJECTOR
from tests.tiny import change_settings

TUNED = {"name": "org/tuned", "revision": "0123456789ab", "denoiser": "f" * 16}
NARROW = Backbone("Stable Diffusion 1.x and 2.x", "org/narrow", "1", "f" * 16, 4, 48)


@pytest.fixture
def put(tmp_path):
    """A function that puts a copy of the model of a kind into use, with these facts; None: one of an earlier version."""

    def into_use(studio, kind, facts):
        folder = tmp_path / kind
        shutil.copytree(getattr(studio.settings, kind), folder)
        manifest = json.loads((folder / checkpoint.MANIFEST).read_text())
        manifest["meta"] = facts.meta() if facts else {}
        (folder / checkpoint.MANIFEST).write_text(json.dumps(manifest))
        change_settings(studio, **{kind: folder})

    return into_use


def message_of(studio, **asked):
    (*_, last) = studio.comparison.compare(check_request("a red circle", "1", tiny.STEPS, 4.0, **asked))
    assert last.stage == "done" and all(pair.projected for pair in last.pairs)
    return last.message


@pytest.mark.parametrize("changes", [{}, {"name": "moved"}, None], ids=["same", "moved", "earlier version"])
def test_the_backbone_that_it_was_trained_for_and_an_unknown_one_are_no_warning(studio, put, changes):
    put(studio, "projector", None if changes is None else replace(studio.models.backbone(), **changes))
    assert "may not fit" not in message_of(studio) and studio.status()["projector_warning"] == ""


def test_another_backbone_of_the_same_shapes_is_a_warning_wherever_the_projector_is_used(studio, put, caplog):
    put(studio, "projector", replace(studio.models.backbone(), **TUNED))
    message = message_of(studio)
    assert "trained for org/tuned" in message and "is used on diffuser (Stable Diffusion XL" in message
    assert message in studio.status()["projector_warning"] and not studio.status()["projector_problem"]
    assert caplog.messages.count(message) == 1  # as the command line prints it
    view = grid_of(studio, "1", methods="none,projected")
    assert (view.state, view.message) == ("done", message)
    assert grid_of(studio, "1", methods="none").message == ""


def test_a_reward_model_that_chooses_noises_warns_as_well(studio, put):
    put(studio, "reward", replace(studio.models.backbone(), **TUNED))
    assert "The reward model that is in use (shipped) may not fit" in message_of(
        studio, noise="best-noise-of-2"
    )
    assert "may not fit" not in message_of(studio)


def test_other_shapes_are_refused_with_the_backbone_that_it_was_trained_for(studio, tmp_path):
    folder = tmp_path / "narrow"
    checkpoint.save(NoiseProjector(text_width=48, **tiny.SMALL), folder, NARROW.meta())
    change_settings(studio, projector=folder)
    using = studio.models.using("projector")
    assert using.model is None and using.run is None and using.folder is None
    assert "It was trained for org/narrow (Stable Diffusion 1.x and 2.x, revision 1)" in using.problem
    assert "this backbone, diffuser (Stable Diffusion XL" in using.problem
    with pytest.raises(ValueError, match="trained for org/narrow"):
        studio.collecting.collect(["a red circle"], 1, "projected")
    view = grid_of(studio, "1", methods="none,projected")
    assert view.state == "failed" and "trained for org/narrow" in view.message


def test_what_is_trained_from_it_is_a_projector_of_this_backbone_and_the_run_says_where_it_began(
    labelled, put
):
    put(labelled, "projector", replace(labelled.models.backbone(), **TUNED))
    run = labelled.training.train("projector", {**PROJECTOR, "start": "used"})
    assert "trained for org/tuned" in run["metrics"]["note"]
    folder = labelled.settings.home / run["checkpoint"]
    assert Backbone.read(folder) == labelled.models.backbone()
    fresh = labelled.training.train("projector", {**PROJECTOR, "start": "fresh"})
    assert fresh["metrics"]["note"] == ""


def test_a_calibrator_knows_its_backbone_too(calibrated):
    using = calibrated.models.using("calibrator")
    assert Backbone.read(using.folder) == calibrated.models.backbone()
