"""How the page is served."""

import copy
import dataclasses
import os
import sys
import threading
import time

import gradio as gr
import pytest
from gradio import networking, utils
from gradio.blocks import Blocks

from data.store import Store
from studio.interface import banner, build, launch
from studio.pages.shared import Loading
from studio.studio import Studio
from tests import tiny


def test_a_machine_too_busy_to_answer_itself_serves_the_page_all_the_same(monkeypatch, tmp_path):
    """Fakes: Gradio finds its own page not answering, as within its 3 s on a busy machine, and serving ends at once."""
    served = []
    monkeypatch.setattr(networking, "url_ok", lambda url: False)
    monkeypatch.setattr(Blocks, "block_thread", lambda page: (served.append(page.local_url), page.close()))
    monkeypatch.setenv("GRADIO_SERVER_NAME", "127.0.0.1")
    launch(tiny.settings_at(tmp_path / "home", tmp_path / "models"))
    assert served


@pytest.mark.parametrize("place", ["is_hosted_notebook", "colab_check"])
def test_a_notebook_that_shares_by_itself_is_a_network(monkeypatch, tmp_path, place):
    """Fakes: a hosted notebook, and a page that is not served, as a public link would be made of it."""
    served = {}
    monkeypatch.setenv("GRADIO_SHARE", "")
    monkeypatch.setattr(utils, place, lambda: True)
    monkeypatch.setattr(Blocks, "launch", lambda page, **given: served.update(given) or sys.exit())
    with pytest.raises(SystemExit):
        launch(tiny.settings_at(tmp_path / "home", tmp_path / "models"))
    assert os.environ["GRADIO_SHARE"] == "true" and served["_app"].access.needed
    assert served["num_workers"] == 0


def test_a_page_that_everybody_administers_says_so(monkeypatch, tmp_path):
    for server, says in (("0.0.0.0", True), ("127.0.0.1", False)):
        monkeypatch.setenv("GRADIO_SERVER_NAME", server)
        settings = dataclasses.replace(tiny.settings_at(tmp_path / server, tmp_path / "models"), token="none")
        with gr.Blocks() as page:
            banner(Studio(settings), page, None)
        (notice,) = [part.value for part in page.blocks.values() if part.elem_id == "studio-keeping"]
        assert ("Whoever reaches this studio may train" in notice) is says


def test_the_page_says_that_the_store_is_damaged_and_what_to_do(tmp_path):
    studio = Studio(tiny.settings_at(tmp_path / "home", tmp_path / "models"))
    backup = studio.store.database.vacuum_into(tmp_path / "backup.db")
    with studio.store.database.writing() as db:
        db.execute("DROP TRIGGER scores_no_update")
    threading.Thread(target=studio.watch_for_damage, args=(0.05,), daemon=True).start()

    def wait(until):
        for _ in range(600):
            if until():
                return True
            time.sleep(0.05)
        return False

    assert wait(lambda: studio.store.database.damage)
    page = build(studio, Loading(studio)).get_config_file()["components"]
    (said,) = [part["props"]["value"] for part in page if part["props"].get("elem_id") == "studio-keeping"]
    assert "studio.db is damaged" in said and "restore a backup copy" in said
    assert studio.runs.find() == [] and studio.grids.find() == []
    Store(studio.store.database.path).restoring.restore(backup)  # as another process does
    assert wait(lambda: not studio.store.database.damage)
    studio.store.runs.new("reward", {})


def test_what_a_page_is_told_of_its_parts_can_be_copied(tmp_path):
    """Gradio copies it at each visit: with a reference to the studio in it, that is a copy of the models too."""
    studio = Studio(tiny.settings_at(tmp_path / "home", tmp_path / "models"))
    for part in build(studio, Loading(studio)).get_config_file()["components"]:
        assert copy.deepcopy(part) == part, part["type"]
