"""Nobody writes as somebody else over plain HTTP: a name needs its key, and an anonymous id is the server's."""

import secrets

import pytest

from data.store import Store


@pytest.fixture
def page(app):
    """What a page and a script that pretends to be one can do."""
    return Page(app)


class Page:
    def __init__(self, app):
        self.app, self.events = app, app.events()
        (self.recall,) = [e for e in self.events if '["who", "sample", "pairs"]' in str(e["js"])]
        (self.edit,) = [e for e in self.events if e["targets"] and e["targets"][0][1] == "edit"]
        words = self.edit["targets"][0][0]
        (self.open,) = [e for e in self.of("select") if words in e["inputs"]]  # the tab Annotate
        who = self.recall["inputs"][0]
        drawn = [e for e in self.of("change") if words in e["outputs"]]
        (self.rename,) = [e for e in drawn if who not in e["inputs"]]  # it brings both names with it

    def of(self, kind):
        return [e for e in self.events if e["targets"] and e["targets"][0][1] == kind and e["backend_fn"]]

    def leases(self):
        return self.app.rows("SELECT sample, who FROM leases ORDER BY who, sample")

    def issued(self, kept=None):
        """What the server gives a browser that kept this."""
        return self.app.private(self.recall, [kept, None, None]).json()["data"][0]

    def write(self, kept, score=5):
        """A correction by a page that says this of itself; (whether it was taken, the answer)."""
        (sample,) = self.app.rows("SELECT id FROM samples WHERE method = 'none' ORDER BY rowid LIMIT 1")[0]
        operation = {"revision": 1, "kind": "set", "word": 1, "score": score}
        packet = {"client": secrets.token_hex(8), "sample": sample, "operations": [operation]}
        values = [kept if one == self.recall["inputs"][0] else None for one in self.edit["inputs"]]
        before = self.app.rows("SELECT count(*) FROM scores")
        answer = self.app.private(self.edit, values, event_data=packet)
        return self.app.rows("SELECT count(*) FROM scores") != before, answer.text

    def last_writer(self):
        return self.app.rows("SELECT who FROM scores WHERE source = 'human' ORDER BY seq DESC LIMIT 1")[0][0]


def test_the_server_gives_each_browser_an_id_of_its_own_and_keeps_nothing_of_it(page):
    before = page.app.rows("SELECT count(*) FROM people")
    first, second = page.issued(), page.issued()
    assert first != second and page.issued(first) == first
    assert page.app.rows("SELECT count(*) FROM people") == before
    assert page.write(first)[0] and page.last_writer() == first.partition(":")[2]


def test_a_forged_name_is_refused_and_nothing_is_kept(page):
    ann = page.issued("Ann")
    assert page.write(ann)[0] and page.last_writer() == "Ann"
    name = page.issued().partition(":")[2]
    for forged in (f"{secrets.token_hex(16)}:Ann", "Ann", f"{'0' * 32}:Ann", f"{secrets.token_hex(16)}:ANN",
                   f"{secrets.token_hex(16)}:{name}", name, f"{secrets.token_hex(16)}:detector",
                   {"key": "x"}, 7):  # fmt: skip
        taken, said = page.write(forged)
        assert not taken, forged
        assert "Traceback" not in said and ann not in said
    assert page.write(ann, 6)[0] and page.last_writer() == "Ann"


def test_a_forged_name_takes_no_image_from_the_queue_and_gives_none_back(page):
    store = Store(page.app.home / "studio.db")
    for lease in store.leases.current():  # of the tests before
        store.leases.release(lease["sample"], lease["who"])
    ann = page.issued("Ann of the queue")
    assert page.write(ann)[0]
    held = page.leases()
    (sample,) = [sample for sample, who in held if who == "Ann of the queue"]
    fresh = page.issued()
    for forged in (f"{secrets.token_hex(16)}:Ann of the queue", "Ann of the queue", None):
        opened = page.app.private(page.open, [None, forged, None, None])
        assert opened.status_code == 200 and "data" in opened.json()  # they may look
        page.app.private(page.open, [None, forged, sample, None])
        page.app.private(page.rename, [{"before": forged, "after": fresh}, sample, None])
        assert [one for one in page.leases() if one[1] != fresh.partition(":")[2]] == held
    for lease in store.leases.current(fresh.partition(":")[2]):
        store.leases.release(lease["sample"], lease["who"])
    looker = page.issued()
    page.app.private(page.open, [None, looker, None, None])  # its own key: an image is kept for it
    assert looker.partition(":")[2] in {who for _, who in page.leases()}
    assert page.app.rows("SELECT count(*) FROM people WHERE name = ?", looker.partition(":")[2]) == [(0,)]
    names = {"before": ann, "after": page.issued("Ann of the queue again")}
    page.app.private(page.rename, [names, sample, None])
    assert (sample, "Ann of the queue") not in page.leases()


def test_no_page_and_no_answer_tells_another_ones_key(page):
    ann = page.issued("Ann the second")
    assert page.write(ann)[0]
    key = ann.partition(":")[0]
    assert key not in page.app.http.get("/config").text
    for event in page.events:
        told = page.app.private(
            event, [f"{secrets.token_hex(16)}:Ann the second"] * len(event["inputs"])
        ).text
        assert key not in told
    for secret in ("secret", "studio.db"):
        assert page.app.http.get(f"/gradio_api/file={page.app.home / secret}").status_code >= 400
    content = b"".join(path.read_bytes() for path in page.app.home.glob("studio.db*"))
    assert key.encode() not in content and bytes.fromhex(key) not in content


def test_the_session_cookie_of_gradio_opens_nothing_off_a_space(page):
    import hashlib
    from base64 import b64encode

    itsdangerous = pytest.importorskip("itsdangerous")
    signer = itsdangerous.TimestampSigner(
        hashlib.sha256(b"-v4").hexdigest()
    )  # the key where there is no secret
    account = b'{"oauth_info": {"userinfo": {"name": "Ann", "preferred_username": "Ann", "profile": "", "picture": ""}}}'
    page.app.http.cookies.set("session", signer.sign(b64encode(account)).decode())
    try:
        assert not page.write(f"{secrets.token_hex(16)}:Ann")[0]
        assert (
            "login" not in str([c["type"] for c in page.app.http.get("/config").json()["components"]]).lower()
        )
    finally:
        page.app.http.cookies.clear()
