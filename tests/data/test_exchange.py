"""Labels as JSONL: nothing is lost on the way, and nothing is taken over from a file that is wrong."""

from __future__ import annotations

import hashlib
import json
import random

import pytest

from data.exchange import ImportRefused, export_labels, import_labels
from data.store import Store


@pytest.fixture
def full(store, sample_row, peaked):
    """A store with something of everything that is exchanged."""
    warm = store.new_run("warmup", {"steps": 1})
    run = store.new_run("projector", {"tau": 0.3}, parent=warm, labels=store.snapshot())
    store.update_run(run, state="done", checkpoint="/somewhere/here", checkpoint_sha256="c" * 64)
    rows = [sample_row(seed=2**63 - 1 - i, prompt=f'ein blauer Kreis Nr. {i} 青\u2028 "x"') for i in range(4)]
    ids = store.add_samples([*rows, sample_row(method="projected", strength=1.0, projector_run=run)])
    dice = random.Random(1)
    for i, id in enumerate(ids):
        for word in range(3):
            event = {"sample": id, "word_index": word, "word": "ü", "source": "vlm", "scorer": "tiny"}
            distribution = peaked(word, dice.uniform(0.2, 0.9))
            store.add_scores([{**event, "distribution": distribution, "features": bytes([i, word])}])
    for _ in range(20):
        store.set_score(dice.choice(ids), dice.randrange(3), dice.randrange(10), dice.choice(["ann", "bob"]))
        if dice.random() < 0.3:
            store.undo(None, "ann")
    store.clear_score(ids[0], 0, "ann")
    store.set_score(ids[1], 0, 5, "detector", source="simulated", weight=0.25)
    store.submit(ids[1], "ann")
    store.skip(ids[0], "bob")
    return store


def lines(path):
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


@pytest.mark.parametrize("features", [True, False])
def test_export_import_export_gives_the_same_bytes(full, quick_path, features):
    counts = export_labels(full, quick_path / "a.jsonl", features=features)
    other = Store(quick_path / "other.db")
    taken = import_labels(other, quick_path / "a.jsonl")
    assert {k: taken[k] for k in counts} == counts
    assert counts["samples"] == 5 and counts["runs"] == 2 and counts["submissions"] == 2
    export_labels(other, quick_path / "b.jsonl", features=features)
    assert (quick_path / "a.jsonl").read_bytes() == (quick_path / "b.jsonl").read_bytes()


def test_after_an_import_everything_stands_and_undo_goes_on_where_it_was(full, quick_path):
    export_labels(full, quick_path / "a.jsonl")
    other = Store(quick_path / "other.db")
    import_labels(other, quick_path / "a.jsonl")

    def comparable(store):
        states = [store.current(s["id"]) for s in store.samples()]
        following = store.next_to_annotate("ann")
        return states, store.labels(), following and following["id"], store.progress("ann")

    assert comparable(other) == comparable(full)
    assert other.snapshot()["sha256"] == full.snapshot()["sha256"]
    assert list(other.vlm_scores()) == list(full.vlm_scores())
    for _ in range(4):
        a, b = full.undo(None, "ann"), other.undo(None, "ann")
        assert (a and (a["sample"], a["word_index"], a["score"])) == (
            b and (b["sample"], b["word_index"], b["score"])
        )


def test_seeds_are_integers_and_no_path_of_a_checkpoint_travels(full, quick_path):
    export_labels(full, quick_path / "a.jsonl")
    text = (quick_path / "a.jsonl").read_text(encoding="utf-8")
    assert f'"seed":{2**63 - 1},' in text
    assert "/somewhere/here" not in text
    assert lines(quick_path / "a.jsonl")[0] == {
        "format": "noise-projection-studio/labels",
        "version": 2,
        "features": True,
    }


def test_an_import_twice_changes_nothing(full, quick_path):
    export_labels(full, quick_path / "a.jsonl")
    export_labels(full, quick_path / "bare.jsonl", features=False)
    for name in ("a.jsonl", "bare.jsonl"):
        taken = import_labels(full, quick_path / name)
        assert [taken[k] for k in ("samples", "events", "runs", "submissions")] == [0] * 4
        assert taken["samples_known"] == 5 and taken["events_known"] > 15
    export_labels(full, quick_path / "b.jsonl")
    assert (quick_path / "a.jsonl").read_bytes() == (quick_path / "b.jsonl").read_bytes()


def test_new_events_on_known_samples_are_added(full, quick_path):
    export_labels(full, quick_path / "a.jsonl")
    other = Store(quick_path / "other.db")
    import_labels(other, quick_path / "a.jsonl")
    sample = other.samples()[0]["id"]
    other.set_score(sample, 2, 9, "carol")
    export_labels(other, quick_path / "b.jsonl")
    assert import_labels(full, quick_path / "b.jsonl")["events"] == 1
    assert full.current(sample)[2]["people"]["carol"] == 9


def test_a_dry_run_counts_and_keeps_nothing(full, quick_path):
    export_labels(full, quick_path / "a.jsonl")
    other = Store(quick_path / "other.db")
    counts = import_labels(other, quick_path / "a.jsonl", dry_run=True)
    assert counts["samples"] == 5
    assert (other.count_samples(), other.runs()) == (0, [])
    assert import_labels(other, quick_path / "a.jsonl") == counts


def edit(change):
    """A function that changes the record of a line in place."""

    def apply(raw):
        record = json.loads(raw)
        change(record)
        return json.dumps(record).encode()

    return apply


def event(**changes):
    return edit(lambda r: r["events"][0].update(changes))


def sample(**changes):
    return edit(lambda r: r["sample"].update(changes))


WRONG = {
    "no JSON": (lambda raw: raw[:-9], "not JSON"),
    "not UTF-8": (lambda raw: b"\xff" + raw, "not UTF-8"),
    "a list": (lambda raw: b"[1]", "JSON object"),
    "nested too deep": (lambda raw: b"[" * 100_000, "nested|not JSON"),
    "NaN": (lambda raw: raw.replace(b'"guidance":4.0', b'"guidance":NaN'), "NaN"),
    "a field twice": (lambda raw: raw.replace(b'"guidance":4.0', b'"steps":4,"steps":5'), "twice"),
    "unknown field": (edit(lambda r: r.update(colour=1)), "unknown field 'colour'"),
    "unknown field of a sample": (sample(colour=1), "unknown field 'colour'"),
    "a sample without an id": (edit(lambda r: r["sample"].pop("id")), "id is missing"),
    "seed as a float": (sample(seed=1.5), "seed must be a whole number"),
    "seed too large": (sample(seed=2**63), "seed must be from 0"),
    "a path out of the folder": (sample(image_path="../../etc/passwd"), "image_path"),
    "a run that is not there": (sample(projector_run="nothere"), "projector_run nothere"),
    "events that are no list": (edit(lambda r: r.update(events={"a": 1})), "events must be a list"),
    "score out of range": (event(score=11), "score must be from 0 to 9"),
    "score as a bool": (event(score=True), "score must be a whole number"),
    "a word past the prompt": (event(word_index=7), "word_index 7 is past"),
    "no order": (edit(lambda r: r["events"][0].pop("n")), "n must be"),
    "features that are not base64": (event(features="@@@"), "base64"),
    "features that are no text": (event(features=[1]), "base64"),
    "supersedes nothing known": (event(supersedes="nothere"), "no earlier event"),
    "undoes a VLM score": (event(undoes="nothere"), "only a correction"),
    "a source that is none": (event(source="oracle"), "source must be"),
    "a submission by nobody": (
        edit(lambda r: r.update(submissions=[{"n": 1, "id": "x", "kind": "skip", "created": "x"}])),
        "who",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_line_is_named_and_nothing_is_taken_over(full, quick_path, name):
    change, said = WRONG[name]
    path = quick_path / "a.jsonl"
    export_labels(full, path)
    raw = path.read_bytes().removesuffix(b"\n").split(b"\n")
    raw[5] = change(raw[5])
    path.write_bytes(b"\n".join(raw) + b"\n")
    other = Store(quick_path / "other.db")
    with pytest.raises(ImportRefused, match=rf"a\.jsonl, line 6: .*({said}).*Nothing was imported\."):
        import_labels(other, path)
    assert (other.count_samples(), other.runs(), other.labels()) == (0, [], [])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "line 1: not JSON"),
        (b"{}\n", "line 1: not a file of labels"),
        (b"\x89PNG\r\n", "line 1: not UTF-8"),
        (
            b'{"format":"noise-projection-studio/labels","version":3}\n',
            "version is 3; this app reads the versions 1 and 2",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused(store, quick_path, content, said):
    (quick_path / "a.jsonl").write_bytes(content)
    with pytest.raises(ImportRefused, match=said):
        import_labels(store, quick_path / "a.jsonl")
    with pytest.raises(ValueError, match="cannot be read"):
        import_labels(store, quick_path / "nothere.jsonl")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (sample(seed=1), "sample .* with another seed"),
        (event(score=3), "event .* with another score"),
        (event(weight=0.5), "event .* with another weight"),
    ],
)
def test_content_that_contradicts_the_store_is_refused(full, quick_path, change, said):
    path = quick_path / "a.jsonl"
    export_labels(full, path)
    raw = path.read_bytes().removesuffix(b"\n").split(b"\n")
    raw[4] = change(raw[4])
    path.write_bytes(b"\n".join(raw))
    before = full.snapshot()
    with pytest.raises(ImportRefused, match=rf"line 5: the {said}"):
        import_labels(full, path)
    assert full.snapshot() == before


def test_the_same_sample_twice_in_a_file_is_refused(full, quick_path):
    path = quick_path / "a.jsonl"
    export_labels(full, path)
    path.write_bytes(path.read_bytes() + path.read_bytes().split(b"\n")[-2] + b"\n")
    with pytest.raises(ImportRefused, match="in the file twice"):
        import_labels(Store(quick_path / "other.db"), path)


def test_images_are_checked_where_their_folder_is_given(store, sample_row, quick_path):
    images = quick_path / "in"
    (images / "images").mkdir(parents=True)
    (images / "images/one.png").write_bytes(b"pixels")
    store.add_samples([sample_row(image_sha256=hashlib.sha256(b"pixels").hexdigest())])
    export_labels(store, quick_path / "a.jsonl")
    other = Store(quick_path / "other.db")
    assert import_labels(other, quick_path / "a.jsonl", images, dry_run=True)["samples"] == 1
    (images / "images/one.png").write_bytes(b"other pixels")
    with pytest.raises(ImportRefused, match="line 2: .*not the one that was scored"):
        import_labels(other, quick_path / "a.jsonl", images)
    (images / "images/one.png").unlink()
    with pytest.raises(ImportRefused, match="line 2: .*not in the images' folder"):
        import_labels(other, quick_path / "a.jsonl", images)


def test_an_export_that_fails_leaves_the_older_file(full, quick_path, monkeypatch):
    path = quick_path / "a.jsonl"
    path.write_text("older")
    monkeypatch.setattr("data.exchange._events", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_labels(full, path)
    assert path.read_text() == "older"
    assert not list(quick_path.glob("*.partial"))
