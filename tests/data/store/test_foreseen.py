"""The caches of the queue: how far the reward model is from the VLM, and the kinds of word; the order and the filter."""

import pytest

from data.store import queue


@pytest.fixture
def scored(store, sample_row, peaked):
    """Three samples that the VLM has scored, the first twice, and one that it has not."""
    ids = store.samples.add([sample_row(seed=i, backbone_revision="b1") for i in range(4)])
    for version in ("old", "new"):
        store.scores.add(
            {"sample": id, "word_index": w, "source": "vlm", "scorer_version": version, **said}
            for id in (ids if version == "new" else ids[:1])[:3]
            for w, said in ((1, {"distribution": peaked(3)}), (2, {"score": 7}))
        )
    return ids


def test_what_lacks_a_figure_of_these_models_is_listed_the_newest_first(store, scored, peaked):
    a, b, c, unscored = scored
    found = store.foreseen.seen_by_vlm([a, unscored])
    assert list(found) == [a] and found[a]["version"] == "new"  # what the VLM said last
    assert found[a]["words"][1]["distribution"] == pytest.approx(peaked(3), abs=1e-5)
    assert found[a]["words"][2]["score"] == 7
    assert store.foreseen.missing("r1", "b1") == [c, b, a]
    assert store.foreseen.missing("r1", "b1", 1) == [c]
    assert store.foreseen.missing("r1", "b2") == []
    for points in (-1, 9.5, float("nan"), "3"):
        with pytest.raises(ValueError, match="points"):
            store.foreseen.keep({a: (points, 0.5, "new")}, "r1")
    assert not store.foreseen.any()
    store.foreseen.keep({a: (2, 0.5, "new"), b: (0, 0.5, "old")}, "r1")
    assert store.foreseen.any()
    assert store.foreseen.missing("r1", "b1") == [c, b]  # b's figure is of an older version of the VLM
    assert store.foreseen.missing("r2", "b1") == [c, b, a]


def test_the_orders_follow_the_points_and_the_promise_of_projected_noise(store, scored, sample_row):
    a, b, c, _ = scored
    d, e = store.samples.add([sample_row(seed=i, method="projected") for i in (8, 9)])
    assert store.queue.next("ann", "reward") is None
    figures = {a: (1, 0.9), b: (4, 0.1), c: (0, 0), d: (1.5, 0.2), e: (2, 0.3)}
    store.foreseen.keep({id: (*figure, "new") for id, figure in figures.items()}, "r1")
    for who, order, wanted in (
        ("ann", "reward", [b, e, d, a]),  # on c the reward model agrees with the VLM
        ("bob", "projected", [e, d, a, b, c]),
    ):
        seen = []
        while sample := store.queue.next(who, order):
            seen.append(sample["id"])
            store.queue.submit(sample["id"], who)
        assert seen == wanted


PROMPTS = {"a red circle": ["colour", "object"], "two dogs": ["count", "other"], "of the": []}


def test_prompts_without_kinds_are_asked_for_once(store, sample_row):
    assert store.foreseen.prompts_without_kinds() == ([], 0)
    store.samples.add([sample_row(prompt=p) for p in PROMPTS])
    found, newest = store.foreseen.prompts_without_kinds()
    assert (found, newest) == ([*reversed(PROMPTS)], 3)
    assert store.foreseen.prompts_without_kinds(0, 1)[0] == found[:1]
    store.foreseen.keep_kinds(PROMPTS)
    store.foreseen.keep_kinds(PROMPTS)
    assert store.foreseen.prompts_without_kinds() == ([], 3)
    store.samples.add([sample_row(prompt="a star")])
    assert store.foreseen.prompts_without_kinds(newest) == (["a star"], 4)
    store.foreseen.keep_kinds({"a star": ["object"]})
    assert store.foreseen.prompts_without_kinds(4) == ([], 4)


def test_kinds_of_another_version_are_asked_for_again_and_replaced(store, sample_row):
    store.samples.add([sample_row(prompt="two dogs")])
    store.foreseen.keep_kinds({"two dogs": ["count", "object"]}, "1")
    assert store.foreseen.prompts_without_kinds(1, version="1") == ([], 1)
    assert store.foreseen.prompts_without_kinds(1, version="2") == (["two dogs"], 1)
    store.foreseen.keep_kinds({"two dogs": ["count", "animal"]}, "2")
    assert store.foreseen.prompts_without_kinds(1, version="2") == ([], 1)
    found = {kind: store.queue.next("ann", "newest", kind=kind) for kind in ("object", "animal", "count")}
    assert [kind for kind, sample in found.items() if sample] == ["animal", "count"]


@pytest.mark.parametrize("order", ["random", "newest"])
@pytest.mark.parametrize("few", [0, 1000])
def test_the_queue_is_filtered_by_a_kind_of_word(store, sample_row, order, few, monkeypatch):
    worded = {p: store.samples.add([sample_row(prompt=p, seed=i) for i in range(2)]) for p in PROMPTS}
    store.foreseen.keep_kinds(PROMPTS)
    monkeypatch.setattr(queue, "FEW", few)
    for kind, prompt in (("colour", "a red circle"), ("count", "two dogs")):
        assert store.queue.next("ann", order, kind=kind)["id"] in worded[prompt]
        assert store.tallies.queue("ann", kind=kind)["left"] == 2
        assert store.tallies.progress("ann", kind=kind)["samples"] == 2
    assert store.tallies.queue("ann", kind=["colour", "count"])["left"] == 4
    assert store.queue.next("ann", order, kind="relation") is None
    assert store.queue.next("ann", order, kind="colour", split="heldout") is None
    with pytest.raises(ValueError, match="kind"):
        store.queue.next("ann", order, kind=3)


def test_the_kinds_of_a_store_that_a_backup_brought_are_asked_for_from_the_start(
    store, sample_row, quick_path
):
    store.samples.add([sample_row(prompt="a red cube")])
    older = store.database.vacuum_into(quick_path / "older.db")  # before any kinds were kept
    store.samples.add([sample_row(prompt="a blue ball", seed=2)])
    found, newest = store.foreseen.prompts_without_kinds()
    store.foreseen.keep_kinds({prompt: ["object"] for prompt in found})
    assert store.foreseen.prompts_without_kinds(newest) == ([], 2)
    store.restoring.restore(older)
    assert store.foreseen.prompts_without_kinds(newest) == (["a red cube"], 1)
