"""Samples: what is accepted, what is refused and how they are found."""

import numpy as np
import pytest

from data.store.samples import COLUMNS

NAN, INF = float("nan"), float("inf")


def test_a_sample_comes_back_as_it_was_given(store, sample_row):
    run = store.runs.new("projector", {"steps": 3})
    given = sample_row(
        id="s-1", prompt_set="mine", split="validation", seed=2**63 - 1, backbone_revision="abc", sampler="euler",
        method="projected", strength=0.5, projector_run=run, noise_sha256="a" * 64, group_id="g",
        created="2026-01-31T12:00:00.000000Z", width=64, prompt="ein roter Kreis über 青", word_rules=2,
        negative="häßlich", weighted="ein (roter:1.3) Kreis über 青",
        loras=f'[{{"name":"style.safetensors","sha256":"{"b" * 64}","weight":0.5}}]',
    )  # fmt: skip
    assert store.samples.add([given]) == ["s-1"]
    kept = store.samples.get("s-1")
    assert {name: kept[name] for name in COLUMNS} == given
    assert type(kept["seed"]) is int


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("seed", [-1, 2**63, True, 1.0, "1", None, NAN]),
        ("prompt", ["", "   ", "x" * 2001, 3, "a\x00b", "\ud800", None]),
        ("n_words", [-1, 1001, False, 2.5, None]),
        ("word_rules", [0, 1001, False, 2.5, None]),
        ("width", [0, 12, 130, -8, 8200, NAN, True]),
        ("height", [4, "64"]),
        ("steps", [0, 10001, True, 1.5]),
        ("guidance", [NAN, INF, -1, "4", True]),
        ("strength", [NAN, 1.1, -0.1]),
        ("split", ["test", 1, None]),
        ("method", ["", "m" * 81, None]),
        ("prompt_set", ["p" * 81, None]),
        ("backbone", ["", "b" * 201]),
        ("image_path", ["/etc/passwd", "../x.png", "a/../../b", "a\\b", "C:/x", "", "a//b", "a\x00b"]),
        ("image_path", ["secret", "studio.db"]),
        ("image_sha256", ["abc", "G" * 64, 1]),
        ("noise_sha256", ["abc"]),
        ("id", ["", "a b", "x" * 65, 1, "../x"]),
        ("group_id", ["a b"]),
        ("projector_run", ["nothere"]),
        ("created", ["yesterday", 1]),
        ("negative", ["x" * 2001, 3, None, "a\x00b"]),
        ("weighted", ["x" * 2001, None]),
        ("loras", ["", "x", "{}", "[1]", None, '[{"name":"a","sha256":"b","weight":1}]', '[{"path":"a"}]']),
        ("colour", ["red"]),
    ],
)
def test_a_value_that_cannot_be_kept_is_refused_with_its_name(store, sample_row, field, values):
    for value in values:
        with pytest.raises(ValueError, match=field):
            store.samples.add([sample_row(**{field: value})])
    assert store.samples.count() == 0


def test_samples_are_listed_newest_first_and_paged(store, sample_row):
    ids = store.samples.add([sample_row(seed=np.int64(i), n_words=np.int32(3)) for i in range(5)])
    assert [s["id"] for s in store.samples.find(limit=2, offset=1)] == [ids[3], ids[2]]
    assert [s["id"] for s in store.samples.find(newest=False)] == ids
    for ask, says in (
        (lambda: store.samples.find(**{"1=1; --": "x"}), "filtered by"),
        (lambda: store.samples.get("nothere"), "no sample nothere"),
        (lambda: store.samples.find(seed=True), "seed"),
    ):
        with pytest.raises(ValueError, match=says):
            ask()


@pytest.mark.parametrize(
    ("filters", "seeds"),
    [
        ({}, [0, 1, 2]),
        ({"split": "heldout"}, [2]),
        ({"split": ["train", "heldout"]}, [0, 1, 2]),
        ({"method": "projected"}, [1]),
        ({"seed": 1}, [1]),
        ({"seed": [0, 2], "split": "train"}, [0]),
        ({"prompt": "nothing like it"}, []),
        ({"scored": True}, [0]),
        ({"scored": False}, [1, 2]),
        ({"scorer_version": "v1"}, [1, 2]),
        ({"scorer_version": "v2"}, [0, 1, 2]),
        ({"group_id": None}, [0, 1, 2]),
    ],
)
def test_samples_are_filtered(store, sample_row, filters, seeds):
    changes = [{}, {"method": "projected"}, {"split": "heldout"}]
    ids = store.samples.add([sample_row(seed=i, **c) for i, c in enumerate(changes)])
    store.scores.add(
        [{"sample": ids[0], "word_index": 1, "source": "vlm", "score": 3, "scorer_version": "v1"}]
    )
    assert [s["seed"] for s in store.samples.find(newest=False, **filters)] == seeds
    assert store.samples.count(**filters) == len(seeds)
