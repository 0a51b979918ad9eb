"""How the page is served."""

from gradio import networking
from gradio.blocks import Blocks

from studio.interface import launch
from tests import tiny


def test_a_machine_too_busy_to_answer_itself_serves_the_page_all_the_same(monkeypatch, tmp_path):
    """Fakes: Gradio finds its own page not answering, as within its 3 s on a busy machine, and serving ends at once."""
    served = []
    monkeypatch.setattr(networking, "url_ok", lambda url: False)
    monkeypatch.setattr(Blocks, "block_thread", lambda page: (served.append(page.local_url), page.close()))
    monkeypatch.setenv("GRADIO_SERVER_NAME", "127.0.0.1")
    launch(tiny.settings_at(tmp_path / "home", tmp_path / "models"))
    assert served
