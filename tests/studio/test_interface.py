"""How the page is served."""

import copy
import threading

from gradio import networking
from gradio.blocks import Blocks

from studio.interface import build, launch
from studio.service import Studio
from studio.tabs.shared import Loading
from tests import tiny


def test_a_machine_too_busy_to_answer_itself_serves_the_page_all_the_same(monkeypatch, tmp_path):
    """Fakes: Gradio finds its own page not answering, as within its 3 s on a busy machine, and serving ends at once."""
    served = []
    monkeypatch.setattr(networking, "url_ok", lambda url: False)
    monkeypatch.setattr(Blocks, "block_thread", lambda page: (served.append(page.local_url), page.close()))
    monkeypatch.setenv("GRADIO_SERVER_NAME", "127.0.0.1")
    launch(tiny.settings_at(tmp_path / "home", tmp_path / "models"))
    assert served


def test_the_page_says_that_the_store_is_damaged_and_what_to_do(tmp_path):
    studio = Studio(tiny.settings_at(tmp_path / "home", tmp_path / "models"))
    with studio.store.writing() as db:
        db.execute("DROP TRIGGER scores_no_update")
    thread = threading.Thread(target=studio.look_for_damage)
    thread.start()
    thread.join()
    page = build(studio, Loading(studio)).get_config_file()["components"]
    (said,) = [part["props"]["value"] for part in page if part["props"].get("elem_id") == "studio-keeping"]
    assert "studio.db is damaged" in said and "restore a backup copy" in said
    assert studio.runs() == [] and studio.grids() == []


def test_what_a_page_is_told_of_its_parts_can_be_copied(tmp_path):
    """Gradio copies it at each visit: with a reference to the studio in it, that is a copy of the models too."""
    studio = Studio(tiny.settings_at(tmp_path / "home", tmp_path / "models"))
    for part in build(studio, Loading(studio)).get_config_file()["components"]:
        assert copy.deepcopy(part) == part, part["type"]
