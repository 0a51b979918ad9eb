"""Nobody writes as somebody else over plain HTTP: a name needs its key, and an anonymous id is the server's."""

import secrets

import pytest

from data.store import Store
from tests.visitors import session_of


@pytest.fixture
def page(app):
    """What a page and a script that pretends to be one can do."""
    return Page(app)


class Page:
    def __init__(self, app):
        self.app, self.rows = app, app.rows
        words = app.part("annotate-words")["id"]
        (self.open,) = [e for e in self.events("select") if words in e["inputs"]]  # the tab Annotate
        who = app.recall["inputs"][0]
        drawn = [e for e in self.events("change") if words in e["outputs"]]
        (self.rename,) = [e for e in drawn if who not in e["inputs"]]  # it brings both names with it

    def events(self, kind):
        return [e for e in self.app.events if e["targets"] and e["targets"][0][1] == kind and e["backend_fn"]]

    def leases(self):
        return self.rows("SELECT sample, who FROM leases ORDER BY who, sample")

    def write(self, kept, score=5):
        """A correction by a page that says this of itself: whether it was taken, and the answer."""
        before = self.app.writers()
        said = self.app.correct(kept, score=score)
        return self.app.writers() != before, said


def test_a_browser_writes_under_the_servers_id_or_its_own_name_and_a_forged_one_is_refused(page):
    people = page.rows("SELECT count(*) FROM people")
    first, second = page.app.issued(), page.app.issued()
    assert first != second and page.app.issued(first) == first
    assert page.rows("SELECT count(*) FROM people") == people
    assert page.write(first)[0] and page.app.writers()[-1] == first.partition(":")[2]
    ann, name = page.app.issued("Ann"), second.partition(":")[2]
    assert page.write(ann)[0] and page.app.writers()[-1] == "Ann"
    for forged in (f"{secrets.token_hex(16)}:Ann", "Ann", f"{'0' * 32}:Ann", f"{secrets.token_hex(16)}:ANN",
                   f"{secrets.token_hex(16)}:{name}", name, f"{secrets.token_hex(16)}:detector",
                   {"key": "x"}, 7):  # fmt: skip
        taken, said = page.write(forged)
        assert not taken, forged
        assert "Traceback" not in said and ann not in said
    assert page.write(ann, 6)[0] and page.app.writers()[-1] == "Ann"
    # the session of Gradio opens nothing off a Space, where the key that it is signed with is known
    page.app.http.cookies.set("session", session_of("Ann", ""))
    try:
        assert not page.write(f"{secrets.token_hex(16)}:Ann")[0]
        types = [part["type"] for part in page.app.http.get("/config").json()["components"]]
        assert "login" not in str(types).lower()
    finally:
        page.app.http.cookies.clear()


def test_a_forged_name_takes_no_image_from_the_queue_and_gives_none_back(page):
    store = Store(page.app.home / "studio.db")

    def release(*who):
        for lease in store.leases.current(*who):
            store.leases.release(lease["sample"], lease["who"])

    release()  # of the tests before
    ann = page.app.issued("Ann of the queue")
    assert page.write(ann)[0]
    held = page.leases()
    (sample,) = [sample for sample, who in held if who == "Ann of the queue"]
    fresh = page.app.issued()
    for forged in (f"{secrets.token_hex(16)}:Ann of the queue", "Ann of the queue", None):
        opened = page.app.private(page.open, [None, forged, None, None])
        assert opened.status_code == 200 and "data" in opened.json()  # they may look
        page.app.private(page.open, [None, forged, sample, None])
        page.app.private(page.rename, [{"before": forged, "after": fresh}, sample, None])
        assert [one for one in page.leases() if one[1] != fresh.partition(":")[2]] == held
    release(fresh.partition(":")[2])
    looker = page.app.issued()
    page.app.private(page.open, [None, looker, None, None])  # its own key: an image is kept for it
    name = looker.partition(":")[2]
    assert name in {who for _, who in page.leases()}
    assert page.rows("SELECT count(*) FROM people WHERE name = ?", name) == [(0,)]
    names = {"before": ann, "after": page.app.issued("Ann of the queue again")}
    page.app.private(page.rename, [names, sample, None])
    assert (sample, "Ann of the queue") not in page.leases()
