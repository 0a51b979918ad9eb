"""Labels as JSONL: nothing is lost on the way, and nothing is taken over from a file that is wrong."""

import hashlib
import json
import random

import pytest

from data.exchange.jsonl import ImportRefused, export_labels
from data.store import Store
from data.store.database import insert, now, rows
from tests.data.exchanging import fake_units, importers

import_labels, *_ = importers(fake_units(text="ü"))


@pytest.fixture
def full(everything, copy_of):
    return copy_of(everything)


@pytest.fixture(scope="module")
def everything(module_store, sample_row, peaked):
    """A store with something of everything that is exchanged, to be copied."""
    store = module_store
    warm = store.runs.new("warmup", {"steps": 1})
    run = store.runs.new("projector", {"tau": 0.3}, parent=warm, labels=store.labels.snapshot())
    store.runs.update(run, state="done", checkpoint="/somewhere/here", checkpoint_sha256="c" * 64)
    rows = [sample_row(seed=2**63 - 1 - i, prompt=f'ein blauer Kreis Nr. {i} 青\u2028 "x"') for i in range(4)]
    ids = store.samples.add([*rows, sample_row(method="projected", strength=1.0, projector_run=run)])
    dice = random.Random(1)
    for i, id in enumerate(ids):
        for word in range(3):
            event = {"sample": id, "word_index": word, "word": "ü", "source": "vlm", "scorer": "tiny"}
            distribution = peaked(word, dice.uniform(0.2, 0.9))
            store.scores.add([{**event, "distribution": distribution, "features": bytes([i, word])}])
    for _ in range(20):
        store.scores.set(dice.choice(ids), dice.randrange(3), dice.randrange(10), dice.choice(["ann", "bob"]))
        if dice.random() < 0.3:
            store.scores.undo(None, "ann")
    store.scores.clear(ids[0], 0, "ann")
    store.scores.set(ids[1], 0, 5, "detector", source="simulated", weight=0.25)
    store.queue.submit(ids[1], "ann", [{"word_index": 0, "word": "ü", "score": 3}])
    store.queue.skip(ids[0], "bob")
    store.queue.submit(ids[3], "bob")
    store.queue.come_back(store.queue.skip(ids[3], "bob")["id"], "bob")
    kept = [{"word_index": word, "word": "ü", "score": 9 * word} for word in range(2)]
    store.queue.come_back(store.queue.submit(ids[2], "ann", kept)["id"], "ann")
    store.remarks.flag(ids[2], "ann", "cut off \u2028 <b>")
    store.remarks.note(ids[2], "bob", "=two shapes")
    store.remarks.unflag(ids[2], "ann")
    with store.database.writing() as db:
        for i, (score, left, right) in enumerate([(7, 0, 1), (None, 1, 0), (9, 2, 3)]):
            made = {"id": f"x{i}", "who": "ann", "created": now()}
            insert(db, "gold", {**made, "sample": ids[left], "word_index": 1, "word": "ü", "score": score})
            sides = {"left_sample": ids[left], "right_sample": ids[right]}
            insert(db, "preferences", {**made, **sides, "choice": ["left", "tie", "none"][i]})
    return store


def lines(path):
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def write(path, records):
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")


@pytest.mark.parametrize("features", [True, False])
def test_export_import_export_gives_the_same_bytes_and_twice_changes_nothing(full, quick_path, features):
    sample = full.samples.find()[0]["id"]
    assert full.leases.hold(sample, "ann")
    full.audit.note("ann", "export")
    full.cursors.move("webhook")
    counts = export_labels(full, quick_path / "a.jsonl", features=features)
    assert (counts["samples"], counts["runs"], counts["submissions"]) == (5, 2, 7)
    assert (counts["remarks"], counts["gold"], counts["preferences"]) == (3, 3, 3)
    other = Store(quick_path / "other.db")
    dry = import_labels(other, quick_path / "a.jsonl", dry_run=True)
    assert (other.samples.count(), other.runs.find()) == (0, [])
    taken = import_labels(other, quick_path / "a.jsonl")
    assert taken == dry and {k: taken[k] for k in counts} == counts
    export_labels(other, quick_path / "b.jsonl", features=features)
    assert (quick_path / "a.jsonl").read_bytes() == (quick_path / "b.jsonl").read_bytes()
    text = (quick_path / "a.jsonl").read_text(encoding="utf-8")
    assert f'"seed":{2**63 - 1},' in text and "/somewhere/here" not in text  # no path of a checkpoint travels
    header = {"format": "noise-projection-studio/labels", "version": 4, "features": features}
    assert lines(quick_path / "a.jsonl")[0] == header
    assert (other.leases.current(), other.audit.entries(), other.cursors.get("webhook")) == ([], [], None)
    assert [r["text"] for r in other.remarks.find()] == ["=two shapes"]  # the flag was taken back there too
    taken = import_labels(full, quick_path / "a.jsonl")
    assert [taken[k] for k in ("samples", "events", "runs", "submissions")] == [0] * 4
    assert taken["samples_known"] == 5 and taken["events_known"] > 15
    other.scores.set(sample, 2, 9, "carol")
    export_labels(other, quick_path / "b.jsonl", features=features)
    assert import_labels(full, quick_path / "b.jsonl")["events"] == 1  # of a known sample
    assert full.scores.current(sample)[2]["people"]["carol"] == 9


def test_a_file_of_version_1_is_read_as_it_always_was(full, quick_path):
    export_labels(full, quick_path / "a.jsonl")
    header, *rest = lines(quick_path / "a.jsonl")
    for record in rest:
        record.pop("remarks", None), record.pop("gold", None)
        if "submissions" in record:
            record["submissions"] = [s for s in record["submissions"] if "undoes" not in s]
    old = [{**header, "version": 1}, *(r for r in rest if "preference" not in r)]
    path = quick_path / "old.jsonl"
    write(path, old)
    found = import_labels(Store(quick_path / "other.db"), path)
    assert (found["samples"], found["submissions"], found["remarks"], found["preferences"]) == (5, 5, 0, 0)
    write(path, [*old, next(line for line in rest if "preference" in line)])
    with pytest.raises(ImportRefused, match="unknown field 'preference'"):
        import_labels(Store(quick_path / "third.db"), path)


def test_an_import_says_which_words_would_change_before_and_after(full, quick_path):
    export_labels(full, quick_path / "a.jsonl")
    other = Store(quick_path / "other.db")
    first = import_labels(other, quick_path / "a.jsonl", dry_run=True)
    assert first["words_new"] == len(full.labels.current()) == len(first["changes"])
    assert first["words_changed"] == 0
    import_labels(other, quick_path / "a.jsonl")
    sample = other.samples.find(newest=False)[1]["id"]
    before = {x["word_index"]: x["score"] for x in full.labels.current() if x["sample"] == sample}
    for who in ("carol", "dora", "emil"):
        other.scores.set(sample, 0, (before[0] + 4) % 10, who)
    export_labels(other, quick_path / "b.jsonl")
    for dry in (True, False):
        found = import_labels(full, quick_path / "b.jsonl", dry_run=dry)
        (change,) = found["changes"]
        assert (found["words_new"], found["words_changed"], change["word_index"]) == (0, 1, 0)
        assert (change["line"], change["before"]) == (5, before[0])
    assert import_labels(full, quick_path / "b.jsonl")["changes"] == []


PARTS = {
    "a flag that is too long": ("remarks", {"kind": "flag", "text": "x" * 201}, "text has 201"),
    "a remark of no kind": ("remarks", {"kind": "poke"}, "kind must be one of"),
    "a remark by nobody": ("remarks", {"who": ""}, "who is empty"),
    "a remark without a text": ("remarks", {"text": None}, "text must be text"),
    "a gold score of 10": ("gold", {"score": 10}, "score must be from 0 to 9"),
    "a gold word past the prompt": ("gold", {"word_index": 7}, "word_index 7 is past"),
    "gold without a time": ("gold", {"created": None}, "created is missing"),
    "gold with a field too many": ("gold", {"source": "human"}, "unknown field 'source'"),
    "a vote for neither": ("preference", {"choice": "both"}, "choice must be one of"),
    "a vote between one": (
        "preference",
        {"left_sample": "same", "right_sample": "same"},
        "between two images; these are one and the same",
    ),
    "a vote on what is nowhere": ("preference", {"left_sample": "nothere"}, "neither in the file nor"),
    "a vote without an order": ("preference", {"n": 0}, "n must be from 1"),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_wrong_remark_gold_score_or_vote_is_named_and_nothing_is_taken_over(full, quick_path, name):
    part, changes, said = PARTS[name]
    path, other = quick_path / "a.jsonl", Store(quick_path / "other.db")
    export_labels(full, path)
    found = lines(path)
    number = next(i for i, record in enumerate(found) if record.get(part))
    place = found[number][part] if part == "preference" else found[number][part][0]
    place.update(changes)
    write(path, found)
    with pytest.raises(ImportRefused, match=rf"line {number + 1}: .*{said}.*Nothing was imported"):
        import_labels(other, path)
    assert (other.samples.count(), other.remarks.find()) == (0, [])
    with other.database.reading() as db:
        assert rows(db, "SELECT * FROM gold UNION ALL SELECT * FROM gold") == []


def test_after_an_import_everything_stands_and_undo_goes_on_where_it_was(full, quick_path):
    export_labels(full, quick_path / "a.jsonl")
    other = Store(quick_path / "other.db")
    import_labels(other, quick_path / "a.jsonl")

    def comparable(store):
        states = [store.scores.current(s["id"]) for s in store.samples.find()]
        following = store.queue.next("ann")
        counts = [store.tallies.progress(who) for who in ("ann", "bob")]
        return states, store.labels.current(), following and following["id"], counts

    assert comparable(other) == comparable(full)
    assert other.labels.snapshot()["sha256"] == full.labels.snapshot()["sha256"]
    assert list(other.labels.vlm_scores()) == list(full.labels.vlm_scores())
    for _ in range(4):
        undone = [store.scores.undo(None, "ann") for store in (full, other)]
        assert len({a and (a["sample"], a["word_index"], a["score"]) for a in undone}) == 1
    a, b = full.desk.last_left("bob"), other.desk.last_left("bob")
    assert (a["id"], a["kind"]) == (b["id"], "submit")
    for store, left in (
        (full, a),
        (other, b),
    ):  # by its place among the scores there, by its time among those here
        assert left["after"] >= store.desk.last_step("bob")["seq"]
        assert store.queue.come_back(left["id"], "bob")["kind"] == "open"


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


def taken_back(**changes):
    return edit(lambda r: r["submissions"][1].update(changes))


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
    "a submit that undoes nothing known": (taken_back(undoes="nothere"), "no earlier submit or skip"),
    "a taking back of itself": (
        edit(lambda r: r["submissions"][1].update(undoes=r["submissions"][1]["id"])),
        "no earlier",
    ),
    "somebody else's taking back": (taken_back(who="eve"), "no earlier submit or skip of that person"),
    "an open that undoes nothing": (edit(lambda r: r["submissions"][1].pop("undoes")), "kind must be one of"),
    "a submit that is taken back twice": (
        edit(lambda r: r["submissions"].append({**r["submissions"][1], "id": "again", "n": 99})),
        "undone twice",
    ),
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
    assert (other.samples.count(), other.runs.find(), other.labels.current()) == (0, [], [])


def test_a_file_of_another_kind_is_refused(store, quick_path):
    version = b'{"format":"noise-projection-studio/labels","version":5}\n'
    for content, said in (
        (b"", "line 1: the file is empty"),
        (b"{}\n", "line 1: not a file of labels"),
        (b"\x89PNG\r\n", "line 1: not UTF-8"),
        (version, "version is 5; this app reads the versions 1, 2, 3 and 4"),
    ):
        (quick_path / "a.jsonl").write_bytes(content)
        with pytest.raises(ImportRefused, match=said):
            import_labels(store, quick_path / "a.jsonl")
    with pytest.raises(ValueError, match="cannot be read"):
        import_labels(store, quick_path / "nothere.jsonl")


def test_content_that_contradicts_the_store_or_itself_is_refused(full, quick_path):
    path = quick_path / "a.jsonl"
    export_labels(full, path)
    raw, before = path.read_bytes().removesuffix(b"\n").split(b"\n"), full.labels.snapshot()
    for change, said in (
        (sample(seed=1), "line 5: the sample .* with another seed"),
        (event(score=3), "line 5: the event .* with another score"),
        (event(weight=0.5), "line 5: the event .* with another weight"),
        (None, "in the file twice"),
    ):
        path.write_bytes(b"\n".join([*raw[:4], change(raw[4]) if change else raw[3], *raw[5:]]))
        with pytest.raises(ImportRefused, match=said):
            import_labels(full, path)
        assert full.labels.snapshot() == before


FOLDERS = [".", "..", "a/b", "runs/", "x\n"]


@pytest.mark.parametrize("what", ["sample", "run"])
def test_an_id_that_is_a_folders_name_is_refused(full, quick_path, what):
    path, other = quick_path / "a.jsonl", Store(quick_path / "other.db")
    export_labels(full, path)
    raw = path.read_bytes().split(b"\n")
    number = next(i for i, line in enumerate(raw) if what in json.loads(line))
    for id in (".", "..", "a/b", "runs/", "x\n", *((".deleted-x", ".x") if what == "run" else ())):
        wrong = edit(lambda record, id=id: record[what].update(id=id))(raw[number])
        path.write_bytes(b"\n".join([*raw[:number], wrong, *raw[number + 1 :]]))
        with pytest.raises(ImportRefused, match=f"line {number + 1}: id must (be 1 to 64 letters|not begin)"):
            import_labels(other, path)
    assert other.runs.find() == [] == other.samples.find()


def test_images_are_checked_where_their_folder_is_given(store, sample_row, quick_path):
    images = quick_path / "in"
    (images / "images").mkdir(parents=True)
    (images / "images/one.png").write_bytes(b"pixels")
    store.samples.add([sample_row(image_sha256=hashlib.sha256(b"pixels").hexdigest())])
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
    monkeypatch.setattr("data.exchange.jsonl._portable", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_labels(full, path)
    assert path.read_text() == "older"
    assert not list(quick_path.glob("*.partial"))
