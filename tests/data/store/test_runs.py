"""Runs: their states, the one that is on, and promotion as events."""

import pytest

from data.store import RunBusy

SHA = "c" * 64


def finished(store, kind="reward"):
    id = store.runs.new(kind, {"steps": 1})
    store.runs.update(id, state="done", checkpoint=f"runs/{id}", checkpoint_sha256=SHA)
    return id


def test_a_run_remembers_what_it_was_asked_and_what_it_saw(store):
    parent, labels = store.runs.new("warmup", {}), store.labels.snapshot(split="train")
    run = store.runs.get(store.runs.new("projector", {"tau": 0.3, "seed": 2**63 - 1}, parent, labels))
    fields = ("kind", "parent", "state", "promoted")
    assert [run[name] for name in fields] == ["projector", parent, "queued", False]
    assert (run["config"], run["labels"]) == ({"tau": 0.3, "seed": 2**63 - 1}, labels)
    assert store.labels.current(run["labels"]) == []
    assert store.runs.update(run["id"], heartbeat="now")["heartbeat"] >= run["created"]
    assert [r["id"] for r in store.runs.find()] == [run["id"], parent]
    assert [r["id"] for r in store.runs.find(kind="warmup", limit=1)] == [parent]
    assert store.runs.find(state="done") == []


def test_only_one_run_is_on_at_a_time_and_a_dead_one_can_be_taken_up_again(store):
    a, b = store.runs.new("reward", {}), store.runs.new("projector", {})
    assert store.runs.claim(a, pid=123)["state"] == "running"
    for other in (a, b):
        with pytest.raises(RunBusy, match=f"A reward run \\({a}\\) is on"):
            store.runs.claim(other, pid=124)
    assert store.runs.update(a, state="interrupted", message="killed")["finished"]
    again = store.runs.claim(a, pid=125)
    assert (again["state"], again["finished"], again["message"], again["pid"]) == ("running", None, "", 125)


def test_a_run_that_is_done_stays_done(store):
    id = finished(store)
    assert store.runs.get(id)["finished"]
    with pytest.raises(ValueError, match="is done"):
        store.runs.claim(id, pid=1)
    for fields in ({"state": "running"}, {"checkpoint_sha256": "d" * 64}):
        with pytest.raises(ValueError, match="is done"):
            store.runs.update(id, **fields)
    assert store.runs.update(id, metrics={"strict": 0.5}, state="done")["metrics"] == {"strict": 0.5}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": "gone"}, "state"),
        ({"metrics": {"loss": float("nan")}}, "metrics cannot be written as JSON"),
        ({"metrics": [1]}, "metrics must be a dict"),
        ({"pid": 0}, "pid"),
        ({"pid": True}, "pid"),
        ({"message": "m" * 2001}, "message"),
        ({"checkpoint_sha256": "abc"}, "sha256"),
        ({"heartbeat": "soon"}, "heartbeat"),
        ({"config": {}}, "'config' cannot be changed"),
        ({"kind": "reward"}, "'kind' cannot be changed"),
        ({"id = 'x' --": 1}, "cannot be changed"),
    ],
)
def test_a_field_that_cannot_be_kept_is_refused(store, fields, said):
    id = store.runs.new("reward", {})
    before = store.runs.get(id)
    with pytest.raises(ValueError, match=said):
        store.runs.update(id, **fields)
    assert store.runs.get(id) == before


@pytest.mark.parametrize(
    ("kind", "config", "parent"),
    [
        ("magic", {}, None),
        ("reward", [], None),
        ("reward", {"x": float("inf")}, None),
        ("reward", {}, "nothere"),
    ],
)
def test_a_run_that_cannot_be_kept_is_refused(store, kind, config, parent):
    with pytest.raises(ValueError):
        store.runs.new(kind, config, parent)
    assert store.runs.find() == []


def test_rollback_goes_back_through_what_was_promoted_to_what_is_shipped(store):
    a, b, c = (finished(store) for _ in range(3))
    assert store.runs.promoted("reward") is None
    for id in (a, b, b):
        assert store.runs.promote(id, "ann")["promoted"]
    assert store.runs.promoted("reward")["id"] == b
    assert not store.runs.get(a)["promoted"]
    assert store.runs.rollback("reward", "ann")["id"] == a
    store.runs.promote(c, "ann")
    assert [store.runs.rollback("reward", "ann"), store.runs.promoted("reward")][0]["id"] == a
    assert store.runs.rollback("reward", "ann") is None
    with pytest.raises(ValueError, match="ships is in use"):
        store.runs.rollback("reward", "ann")
    actions = [e["action"] for e in store.runs.promotions("reward")][::-1]
    assert actions == ["promote", "promote", "rollback", "promote", "rollback", "rollback"]
    assert store.runs.promoted("projector") is None


def test_what_is_unfinished_or_makes_nothing_cannot_be_promoted(store):
    with pytest.raises(ValueError, match="is queued and has no finished checkpoint"):
        store.runs.promote(store.runs.new("reward", {}), "ann")
    with pytest.raises(ValueError, match="makes nothing"):
        store.runs.promote(finished(store, "evaluate"), "ann")
    with pytest.raises(ValueError, match="no run nothere"):
        store.runs.promote("nothere", "ann")
    with pytest.raises(ValueError, match="who"):
        store.runs.promote(finished(store), "")


def test_a_run_that_was_deleted_is_not_listed_and_its_row_stays_and_none_in_use_is(store):
    kept, gone, on = finished(store), finished(store), store.runs.new("projector", {})
    store.runs.promote(kept, "ann")
    for ids, said in (([gone, kept], "roll it back"), ([on], "stop it")):
        with pytest.raises(ValueError, match=said):
            store.runs.archive(ids)
    assert store.runs.get(gone)["archived"] is None
    store.runs.archive([gone])
    store.runs.archive([gone])
    assert [run["id"] for run in store.runs.find()] == [on, kept]
    assert [run["id"] for run in store.runs.find(archived=True)] == [on, gone, kept]
    assert store.runs.get(gone)["archived"]
    with pytest.raises(ValueError, match="was deleted"):
        store.runs.promote(gone, "ann")


def test_whatever_the_clock_says_a_rollback_leads_to_what_was_in_use_before_and_is_there(store, bad_clock):
    a, b, c, d = (finished(store) for _ in range(4))
    for id in (a, b, c):
        store.runs.promote(id, "ann")
    assert [store.runs.rollback("reward", "ann")["id"] for _ in range(2)] == [b, a]
    store.runs.promote(d, "ann")
    store.runs.archive([b])
    assert store.runs.rollback("reward", "ann")["id"] == store.runs.promoted("reward")["id"] == a
    for id in (c, d):
        store.runs.promote(id, "ann")
    store.runs.archive([c])
    assert store.runs.rollback("reward", "ann")["id"] == a
    assert store.runs.rollback("reward", "ann") is store.runs.promoted("reward") is None
    with pytest.raises(ValueError, match="No reward has been promoted|ships is in use"):
        store.runs.rollback("reward", "ann")
