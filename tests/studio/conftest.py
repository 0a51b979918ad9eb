"""Tiny models once a session, and a studio on them for each test."""

import shutil
from functools import partial

import pytest

from core.training.projector import ProjectorConfig
from data.prompts import load
from studio.experiments import common
from studio.training import replay, stages
from tests import tiny
from tests.tiny import change_settings


@pytest.fixture(scope="session", autouse=True)
def trainings_of_few():
    """Foresight is tuned on the few images that tests make, so that the whole of a training runs; and a projector is evaluated
    on few prompts and seeds, which else takes longer than its training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "FEWEST_PICTURES", 1)
        patch.setattr(stages, "VALIDATION_PROMPTS", 8)
        for module in (stages, common):
            patch.setattr(module, "ProjectorConfig", partial(ProjectorConfig, looks=8))
        yield


@pytest.fixture(scope="session")
def loaded(model_folder, tmp_path_factory):
    """A studio whose models are loaded; tests share its models, not its store."""
    studio = tiny.studio_at(tmp_path_factory.mktemp("loaded"), model_folder)
    studio.load()
    return studio


@pytest.fixture(scope="session")
def grown(loaded, model_folder, tmp_path_factory):
    """A function that gives a studio with the loaded diffuser and scorer, whose home lasts and may be a copy of another's."""

    def make(home=None):
        new = tiny.studio_at(tmp_path_factory.mktemp("grown") / "home", model_folder)
        new.models._diffuser, new.models._scorer = loaded.models._diffuser, loaded.models._scorer
        if home is not None:
            shutil.copytree(home, new.settings.home, dirs_exist_ok=True)
        return new

    return make


@pytest.fixture
def studio(loaded, quick_path, model_folder):
    """A studio with an empty home and the loaded diffuser and scorer."""
    new = tiny.studio_at(quick_path / "home", model_folder)
    new.models._diffuser, new.models._scorer = loaded.models._diffuser, loaded.models._scorer
    return new


@pytest.fixture
def begun_as(studio):
    """A function that gives the studio a copy of a home."""

    def copy(home):
        shutil.copytree(home, studio.settings.home, dirs_exist_ok=True)
        return studio

    return copy


@pytest.fixture
def without_projector(studio):
    """The same studio with nothing at the projector's place."""
    change_settings(studio, projector=studio.settings.home / "nowhere")
    return studio


@pytest.fixture(scope="session")
def scored_home(grown):
    """A home with 12 scored samples on 6 training prompts, to be copied."""
    new = grown()
    prompts = load("shapes_train", 6, "small")
    new.scoring.score(new.collecting.collect(prompts, 2, steps=tiny.STEPS, prompt_set="shapes"))
    return new.settings.home


@pytest.fixture
def scored(begun_as, scored_home):
    """A studio with 12 scored samples on 6 training prompts."""
    return begun_as(scored_home)


@pytest.fixture(scope="session")
def labelled_home(grown, scored_home):
    """Scored samples of training and validation prompts, and simulated corrections of most of them, to be copied."""
    new = grown(scored_home)
    new.scoring.score(new.collecting.collect(load("shapes_validation", 2), 2, steps=tiny.STEPS))
    new.annotation.simulate(count=50)  # of five prompts, as a calibrator needs
    return new.settings.home


@pytest.fixture
def labelled(begun_as, labelled_home):
    """A studio with scored samples and 50 corrections or a few more."""
    return begun_as(labelled_home)


@pytest.fixture(scope="session")
def calibrated_home(grown, labelled_home):
    """A home with labels kept beside it and a calibrator in use, learned from the corrections, to be copied."""
    new = grown(labelled_home)
    replay.gather(new).save(new.settings.home / "labels")
    run = new.training.train("calibrator", {"corrections_needed": 20})
    assert run["metrics"]["fitted"]
    new.runs.promote(run["id"], "Ann", force=True)
    return new.settings.home


@pytest.fixture
def calibrated(begun_as, calibrated_home):
    """A studio with kept labels and a calibrator in use."""
    studio = begun_as(calibrated_home)
    change_settings(studio, labels=studio.settings.home / "labels")
    return studio
