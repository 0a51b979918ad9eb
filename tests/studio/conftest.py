"""Tiny models once a session, and a studio on them for each test."""

import shutil

import pytest

from tests import tiny
from tests.tiny import change_settings


@pytest.fixture(scope="session", autouse=True)
def foresight_of_few():
    """Foresight is tuned on the few images that tests make, so that the whole of a training runs."""
    from studio.training import stages

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "FEWEST_PICTURES", 1)
        yield


@pytest.fixture(scope="session")
def loaded(model_folder, tmp_path_factory):
    """A studio whose models are loaded; tests share its models, not its store."""
    studio = tiny.studio_at(tmp_path_factory.mktemp("loaded"), model_folder)
    studio.load()
    return studio


@pytest.fixture
def studio(loaded, quick_path, model_folder):
    """A studio with an empty home and the loaded diffuser and scorer."""
    new = tiny.studio_at(quick_path / "home", model_folder)
    new.models._diffuser, new.models._scorer = loaded.models._diffuser, loaded.models._scorer
    return new


@pytest.fixture
def without_projector(studio):
    """The same studio with nothing at the projector's place."""
    change_settings(studio, projector=studio.settings.home / "nowhere")
    return studio


@pytest.fixture(scope="session")
def scored_home(loaded, model_folder, tmp_path_factory):
    """A home with 12 scored samples on 6 training prompts, to be copied."""
    from data.prompts import load

    new = tiny.studio_at(tmp_path_factory.mktemp("scored") / "home", model_folder)
    new.models._diffuser, new.models._scorer = loaded.models._diffuser, loaded.models._scorer
    new.scoring.score(
        new.collecting.collect(load("shapes_train", 6, "small"), 2, steps=tiny.STEPS, prompt_set="shapes")
    )
    return new.settings.home


@pytest.fixture
def scored(studio, scored_home):
    """A studio with 12 scored samples on 6 training prompts."""
    shutil.copytree(scored_home, studio.settings.home, dirs_exist_ok=True)
    return studio


@pytest.fixture(scope="session")
def labelled_home(scored_home, loaded, model_folder, tmp_path_factory):
    """Scored samples of training and validation prompts, and simulated corrections of most of them, to be copied."""
    from data.prompts import load

    home = tmp_path_factory.mktemp("labelled") / "home"
    shutil.copytree(scored_home, home)
    new = tiny.studio_at(home, model_folder)
    new.models._diffuser, new.models._scorer = loaded.models._diffuser, loaded.models._scorer
    new.scoring.score(new.collecting.collect(load("shapes_validation", 2), 2, steps=tiny.STEPS))
    new.annotation.simulate(count=50)  # of five prompts, as a calibrator needs
    return home


@pytest.fixture
def labelled(studio, labelled_home):
    """A studio with scored samples and 50 corrections or a few more."""
    shutil.copytree(labelled_home, studio.settings.home, dirs_exist_ok=True)
    return studio
