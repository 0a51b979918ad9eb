"""Runs: their states, the one that is on, and promotion as events."""

import pytest

from data.store import RunBusy

SHA = "c" * 64


def finished(store, kind="reward"):
    id = store.new_run(kind, {"steps": 1})
    store.update_run(id, state="done", checkpoint=f"runs/{id}", checkpoint_sha256=SHA)
    return id


def test_a_run_remembers_what_it_was_asked_and_what_it_saw(store):
    parent = store.new_run("warmup", {})
    labels = store.snapshot(split="train")
    run = store.run(store.new_run("projector", {"tau": 0.3, "seed": 2**63 - 1}, parent, labels))
    assert (run["kind"], run["parent"], run["state"], run["promoted"]) == (
        "projector",
        parent,
        "queued",
        False,
    )
    assert (run["config"], run["labels"]) == ({"tau": 0.3, "seed": 2**63 - 1}, labels)
    assert store.labels(run["labels"]) == []


def test_only_one_run_is_on_at_a_time_and_a_dead_one_can_be_taken_up_again(store):
    a, b = store.new_run("reward", {}), store.new_run("projector", {})
    assert store.claim_run(a, pid=123)["state"] == "running"
    for other in (a, b):
        with pytest.raises(RunBusy, match=f"A reward run \\({a}\\) is on"):
            store.claim_run(other, pid=124)
    assert store.update_run(a, state="interrupted", message="killed")["finished"]
    again = store.claim_run(a, pid=125)
    assert (again["state"], again["finished"], again["message"], again["pid"]) == ("running", None, "", 125)


def test_a_run_that_is_done_stays_done(store):
    id = finished(store)
    assert store.run(id)["finished"]
    with pytest.raises(ValueError, match="is done"):
        store.claim_run(id, pid=1)
    for fields in ({"state": "running"}, {"checkpoint_sha256": "d" * 64}):
        with pytest.raises(ValueError, match="is done"):
            store.update_run(id, **fields)
    assert store.update_run(id, metrics={"strict": 0.5}, state="done")["metrics"] == {"strict": 0.5}


def test_the_heartbeat_is_the_time_now(store):
    id = store.new_run("reward", {})
    assert store.update_run(id, heartbeat="now")["heartbeat"] >= store.run(id)["created"]


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
    id = store.new_run("reward", {})
    before = store.run(id)
    with pytest.raises(ValueError, match=said):
        store.update_run(id, **fields)
    assert store.run(id) == before


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
        store.new_run(kind, config, parent)
    assert store.runs() == []


def test_runs_are_listed_newest_first(store):
    ids = [store.new_run(kind, {}) for kind in ("reward", "projector", "reward")]
    assert [r["id"] for r in store.runs()] == ids[::-1]
    assert [r["id"] for r in store.runs(kind="reward", limit=1)] == [ids[2]]
    assert store.runs(state="done") == []


def test_rollback_goes_back_through_what_was_promoted_to_what_is_shipped(store):
    a, b, c = (finished(store) for _ in range(3))
    assert store.promoted("reward") is None
    for id in (a, b, b):
        assert store.promote(id, "ann")["promoted"]
    assert store.promoted("reward")["id"] == b
    assert not store.run(a)["promoted"]
    assert store.rollback("reward", "ann")["id"] == a
    store.promote(c, "ann")
    assert [store.rollback("reward", "ann"), store.promoted("reward")][0]["id"] == a
    assert store.rollback("reward", "ann") is None
    with pytest.raises(ValueError, match="ships is in use"):
        store.rollback("reward", "ann")
    actions = [e["action"] for e in store.promotions("reward")][::-1]
    assert actions == ["promote", "promote", "rollback", "promote", "rollback", "rollback"]
    assert store.promoted("projector") is None


def test_what_is_unfinished_or_makes_nothing_cannot_be_promoted(store):
    with pytest.raises(ValueError, match="is queued and has no finished checkpoint"):
        store.promote(store.new_run("reward", {}), "ann")
    with pytest.raises(ValueError, match="makes nothing"):
        store.promote(finished(store, "evaluate"), "ann")
    with pytest.raises(ValueError, match="no run nothere"):
        store.promote("nothere", "ann")
    with pytest.raises(ValueError, match="who"):
        store.promote(finished(store), "")


def test_a_run_that_was_deleted_is_not_listed_and_its_row_stays(store):
    kept, gone = finished(store), finished(store)
    store.archive_runs([gone])
    store.archive_runs([gone])
    assert [run["id"] for run in store.runs()] == [kept]
    assert [run["id"] for run in store.runs(archived=True)] == [gone, kept]
    assert store.run(gone)["archived"]
    with pytest.raises(ValueError, match="was deleted"):
        store.promote(gone, "ann")


def test_what_is_on_or_in_use_is_not_deleted_nor_what_would_go_with_it(store):
    used, other, on = finished(store), finished(store), store.new_run("projector", {})
    store.promote(used, "ann")
    for ids, said in (([other, used], "roll it back"), ([on], "stop it")):
        with pytest.raises(ValueError, match=said):
            store.archive_runs(ids)
    assert store.run(other)["archived"] is None


def test_whatever_the_clock_says_a_rollback_leads_to_what_was_in_use_before(store, bad_clock):
    a, b, c = (finished(store) for _ in range(3))
    for id in (a, b, c):
        store.promote(id, "ann")
    store.archive_runs([b])
    assert store.rollback("reward", "ann")["id"] == store.promoted("reward")["id"] == a
    assert store.rollback("reward", "ann") is store.promoted("reward") is None
    with pytest.raises(ValueError, match="No reward has been promoted"):
        store.rollback("reward", "ann")


def test_a_rollback_passes_by_what_was_deleted_and_older_rollbacks_mean_what_they_meant(store):
    a, b, c, d = (finished(store) for _ in range(4))
    for id in (a, b, c):
        store.promote(id, "ann")
    store.rollback("reward", "ann")
    store.rollback("reward", "ann")
    store.promote(d, "ann")
    store.archive_runs([b])
    assert store.promoted("reward")["id"] == d
    assert store.rollback("reward", "ann")["id"] == a
    for id in (c, d):
        store.promote(id, "ann")
    store.archive_runs([c])
    assert store.rollback("reward", "ann")["id"] == a
    assert store.rollback("reward", "ann") is None
