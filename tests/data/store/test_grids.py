"""Grids keep their question, and their cells name samples of the store."""

import pytest

CONFIG = {"prompt": "a red circle", "seeds": [1, 2], "variants": [{"name": "none"}]}


@pytest.fixture
def pair(store, sample_row):
    return store.samples.add([sample_row(seed=1), sample_row(seed=2)])


def test_a_grid_begins_queued_and_is_given_its_time_when_it_ends(store):
    id = store.grids.add(CONFIG, "ann")
    grid = store.grids.get(id)
    assert (grid["config"], grid["who"], grid["state"], grid["finished"]) == (CONFIG, "ann", "queued", None)
    assert store.grids.update(id, "running")["finished"] is None
    ended = store.grids.update(id, "failed", "The disk is full.")
    assert (ended["state"], ended["message"]) == ("failed", "The disk is full.") and ended["finished"]
    assert store.grids.update(id, "queued")["finished"] is None


def test_cells_name_samples_are_written_all_or_none_and_one_that_has_gone_is_replaced(
    store, sample_row, pair
):
    id, other = store.grids.add(CONFIG, "ann"), store.grids.add(CONFIG, "bob")
    for cells in ({0: pair[0], 1: "nowhere"}, *({place: pair[0]} for place in (-1, 10**9, True, 0.5))):
        with pytest.raises(ValueError):
            store.grids.set_cells(id, cells)
    assert store.grids.cells(id) == {}
    store.grids.set_cells(id, {1: pair[1], 0: pair[0]})
    store.grids.set_cells(other, {0: pair[0]})
    assert list(store.grids.cells(id).items()) == [(0, pair[0]), (1, pair[1])]
    (again,) = store.samples.add([sample_row(seed=1)])
    store.grids.set_cells(id, {0: again})
    assert store.grids.cells(id) == {0: again, 1: pair[1]} and store.grids.cells_made(id) == 2
    assert store.grids.cells(other) == {0: pair[0]}


def test_the_images_that_waiting_grids_are_still_to_have_are_counted(store, pair):
    assert store.grids.cells_waiting() == 0
    first, second = (
        store.grids.add(CONFIG, "ann"),
        store.grids.add({**CONFIG, "variants": [{}, {}, {}]}, "bob"),
    )
    assert store.grids.cells_waiting() == 2 + 6
    store.grids.update(first, "running")
    store.grids.set_cells(first, {0: pair[0]})
    assert store.grids.cells_waiting() == 1 + 6
    store.grids.update(second, "stopped")
    assert store.grids.cells_waiting() == 1
    store.grids.update(first, "done")
    assert store.grids.cells_waiting() == 0


def test_grids_are_listed_newest_first_with_how_many_images_they_have(store, pair):
    old = store.grids.add(CONFIG, "ann")
    new = store.grids.add({**CONFIG, "prompt": "a blue square"}, "bob")
    store.grids.set_cells(old, {0: pair[0], 1: pair[1]})
    store.grids.update(old, "done")
    assert [(grid["id"], grid["made"]) for grid in store.grids.find()] == [(new, 0), (old, 2)]
    assert [grid["id"] for grid in store.grids.find(state="done")] == [old]
    assert [grid["id"] for grid in store.grids.find(prompt="a blue square")] == [new]
    assert [grid["id"] for grid in store.grids.find(limit=1, offset=1)] == [old]


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.grids.add("prompt", "ann"),
        lambda s: s.grids.add({"seed": float("nan")}, "ann"),
        lambda s: s.grids.add(CONFIG, ""),
        lambda s: s.grids.add(CONFIG, "ann", id="../x"),
        lambda s: s.grids.get("nowhere"),
        lambda s: s.grids.get("'; DROP TABLE grids"),
        lambda s: s.grids.cells("nowhere"),
        lambda s: s.grids.update("nowhere", "done"),
        lambda s: s.grids.find(state="asleep"),
        lambda s: s.grids.find(limit=-1),
        lambda s: [s.grids.add(CONFIG, "ann", id="one") for _ in range(2)],
        lambda s: s.grids.update(s.grids.add(CONFIG, "ann"), "asleep"),
    ],
)
def test_what_is_no_grid_is_refused(store, call):
    with pytest.raises(ValueError):
        call(store)
