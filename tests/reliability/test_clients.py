"""Many at once over HTTP, on a small store of the kind that ``big_store`` makes: nothing is lost, and nobody who floods
the queue keeps others from images and keys.

How quick it is depends on the machine, and is measured by ``measure_store`` and ``clients``.
"""

import uuid

import pytest

from data.store import Store
from data.store.queue import ORDERS
from tests import tiny
from tests.browser.conftest import serving
from tests.reliability import big_store, clients
from tests.visitors import Person, Visitor

ASKED = ["a red circle", "7", 1, tiny.STEPS, 4, "projected", None, None, "", False]
SLOW = ["a red circle", "7", 1, 15, 4, "projected", None, None, "", False]  # than it is asked for


@pytest.fixture(scope="module")
def app(tmp_path_factory, model_folder):
    home = tmp_path_factory.mktemp("clients") / "home"
    big_store.make(home, samples=300, words=5)
    with serving(home, model_folder) as running:
        yield running


@pytest.mark.parametrize("kind", [clients.Page, clients.Annotator], ids=["page", "endpoints"])
def test_what_many_clients_at_once_are_told_is_kept_is_kept(app, kind):
    people = clients.run(kind, app.url, 8, seconds=60, pace=0, items=2)
    store = Store(app.home / "studio.db")
    assert [error for person in people for error in person.errors] == []
    assert all(len(person.acknowledged) == 10 and len(person.done) == 2 for person in people)
    assert clients.lost(store, people) == []
    for person in people:
        steps = [step for step in store.judgements.steps() if step["who"] == person.name]
        submitted = {step["sample"] for step in steps if step["action"] == "submit"}
        assert submitted == set(person.done)


def test_a_visitor_who_floods_the_queue_keeps_nobody_from_images_and_keys(app):
    def ask(visitor, session, data, address=None):
        """The event of a comparison, or the sentence for which it may not wait."""
        headers = {"X-Forwarded-For": address} if address else {}
        body = {"data": data, "session_hash": session}
        answer = visitor.http.post("/gradio_api/call/compare", json=body, headers=headers).json()
        return answer.get("event_id"), answer.get("detail", "")

    visitor, ann = Visitor(app), Person(app, "ann")
    flood = [ask(visitor, "flood", SLOW) for _ in range(10)]
    more = [ask(visitor, uuid.uuid4().hex, SLOW) for _ in range(20)]
    refused = [said for event, said in flood if event is None]
    assert refused and all("4 requests for images from this page are waiting" in said for said in refused)
    assert any("address are waiting" in said for event, said in more if event is None)
    other, said = ask(visitor, "other", ASKED, "8.8.8.8")
    assert other, said
    ((sample,),) = app.rows("SELECT id FROM samples LIMIT 1")
    for score in range(10):
        (stored, *_) = ann.ask("set_score", sample=sample, word=1, score=score)
        assert stored["score"] == score
    with visitor.http.stream("GET", f"/gradio_api/call/compare/{other}") as lines:
        assert "event: complete" in list(lines.iter_lines())


def test_no_request_for_images_skips_the_queue(app):
    visitor = Visitor(app)
    body = {"data": ASKED, "session_hash": "straight", "fn_index": visitor.event("run", "click")["id"]}
    for path in ("run/compare", "api/compare", "run/predict"):
        answer = visitor.post(f"/gradio_api/{path}", body)
        assert answer.status_code in (404, 422) or "queue" in answer.text.lower(), path


def test_the_store_that_is_made_is_whole_and_gives_each_order_something(tmp_path):
    store = big_store.make(tmp_path, samples=200, words=4)
    store.restoring.check()  # its triggers are back
    with store.database.reading() as db:
        count = dict(db.execute("SELECT source, count(*) FROM scores GROUP BY source").fetchall())
        assert count["vlm"] == 800 and count["human"] > 50
        means = db.execute("SELECT count(*), min(mean), max(golden) FROM means").fetchone()
        assert means[0] == 200 and 0 <= means[1] < means[2] <= 9
        wrong = """SELECT count(*) FROM uncertainty u WHERE abs(u.entropy - (SELECT avg(entropy)
            FROM scores s WHERE s.sample = u.sample AND s.source = 'vlm')) > 1e-9"""
        assert db.execute(wrong).fetchone() == (0,)
    for order in ORDERS:
        assert store.queue.next("somebody", order, lease=60), order
    assert store.scores.set(store.samples.find(limit=1)[0]["id"], 1, 5, "somebody")["score"] == 5
    with pytest.raises(ValueError, match="has a store already"):
        big_store.make(tmp_path, samples=10)
