"""Sixteen annotators at once over HTTP, on a small store of the kind that ``big_store`` makes: nothing is lost.

How quick it is depends on the machine, and is measured by ``measure_store`` and ``clients``.
"""

import pytest

from data.store import Store
from data.store.queue import ORDERS
from tests.browser.conftest import serving
from tests.reliability import big_store, clients


@pytest.fixture(scope="module")
def app(tmp_path_factory, model_folder):
    home = tmp_path_factory.mktemp("clients") / "home"
    big_store.make(home, samples=300, words=5)
    with serving(home, model_folder) as running:
        yield running


@pytest.mark.parametrize("kind", [clients.Page, clients.Annotator], ids=["page", "endpoints"])
def test_what_sixteen_clients_at_once_are_told_is_kept_is_kept(app, kind):
    people = clients.run(kind, app.url, 16, seconds=60, pace=0, items=2)
    store = Store(app.home / "studio.db")
    assert [error for p in people for error in p.errors] == []
    assert all(len(p.acknowledged) == 10 and len(p.done) == 2 for p in people)
    assert clients.lost(store, people) == []
    for person in people:
        assert {sample: "submit" for sample in person.done} == {
            step["sample"]: step["action"]
            for step in store.judgements.steps()
            if step["who"] == person.name and step["action"] in ("submit", "skip")
        }


def test_no_two_who_work_at_once_are_given_the_same_image(app):
    people = clients.run(clients.Annotator, app.url, 16, seconds=60, pace=0, items=0)
    given = [person.first()["id"] for person in [clients.Annotator(app.url, p.number) for p in people]]
    assert len(set(given)) == 16


def test_the_store_that_is_made_is_whole_and_gives_each_order_something(tmp_path):
    store = big_store.make(tmp_path, samples=200, words=4)
    store.restoring.check()
    with store.database.reading() as db:
        count = dict(db.execute("SELECT source, count(*) FROM scores GROUP BY source").fetchall())
        assert count["vlm"] == 800 and count["human"] > 50
        before = db.execute("SELECT sample, points FROM disagreement ORDER BY sample").fetchall()
        means = db.execute("SELECT count(*), min(mean), max(golden) FROM means").fetchone()
        triggers = db.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchone()[0]
        fresh = Store(tmp_path / "fresh.db")
        with fresh.database.reading() as other:
            sql = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'"
            assert other.execute(sql).fetchone()[0] == triggers
        uncertain = db.execute("""SELECT count(*) FROM uncertainty u WHERE abs(u.entropy - (SELECT avg(entropy)
            FROM scores s WHERE s.sample = u.sample AND s.source = 'vlm')) > 1e-9""").fetchone()[0]
    assert before and uncertain == 0 and means[0] == 200 and 0 <= means[1] < means[2] <= 9
    for order in ORDERS:
        assert store.queue.next("somebody", order, lease=60)
    sample = store.samples.find(limit=1)[0]["id"]
    assert store.scores.set(sample, 1, 5, "somebody")["score"] == 5
    assert len(store.labels.current(split="train")) > 500
    with pytest.raises(ValueError, match="has a store already"):
        big_store.make(tmp_path, samples=10)
