"""The quality of the labels, by kind of word and by person, and the command that prints it."""

import json

import pytest

from studio.__main__ import main
from studio.annotation import quality
from studio.cli import commands
from studio.pages.quality import parts

PROMPT = "a red circle above a blue square"  # red 1, circle 2, above 3, blue 5, square 6


@pytest.fixture
def judged(store, sample_row):
    """Ann and Bob agree on objects, and are opposed on colours; Cyd has skipped."""
    for seed, (red, circle, bob_red) in enumerate([(0, 1, 9), (9, 5, 0), (3, 9, 7), (8, 2, 1)]):
        (sample,) = store.samples.add([sample_row(prompt=PROMPT, seed=seed)])
        store.scores.add([{"sample": sample, "word_index": 1, "source": "vlm", "score": red}])
        store.scores.set(sample, 1, red, "Ann")
        store.scores.set(sample, 1, bob_red, "Bob")
        for who in ("Ann", "Bob"):
            store.scores.set(sample, 2, circle, who)
            store.queue.submit(sample, who)
        store.scores.set(sample, 3, 4, "Ann")
        store.queue.skip(sample, "Cyd")
    store.scores.undo(None, "Bob")
    return store


def test_alpha_is_told_for_each_kind_of_word(judged):
    found = {kind["kind"]: kind for kind in quality.agreement(judged)["kinds"]}
    assert list(found) == ["all", "colour", "object", "relation"]
    assert found["object"]["ordinal"] == found["object"]["interval"] == pytest.approx(1)
    assert found["colour"]["ordinal"] < 0
    assert found["colour"]["ordinal"] < found["all"]["ordinal"] < 1
    assert found["relation"]["ordinal"] is None and "Only one person" in found["relation"]["why"]
    assert (found["all"]["words"], found["object"]["words"]) == (7, 3)  # Bob has undone one


def test_each_annotators_figures_are_told(judged):
    people = {person["who"]: person for person in quality.agreement(judged)["people"]}
    assert list(people) == ["Ann", "Bob", "Cyd"]
    ann = people["Ann"]
    assert (ann["words"], ann["samples"], ann["submitted"], ann["skipped"], ann["undos"]) == (12, 4, 4, 0, 0)
    assert ann["kinds"] == {"colour": 4, "object": 4, "relation": 4}
    assert sum(ann["scores"]) == 12 and ann["scores"][4] == 4
    assert ann["vlm"]["colour"]["exact"] == 1 and ann["vlm"]["colour"]["spearman"] == pytest.approx(1)
    assert ann["vlm"]["all"]["words"] == 4
    assert ann["per_hour"] > 0
    assert (people["Bob"]["undos"], people["Bob"]["vlm"]["all"]["exact"]) == (1, 0)
    assert (people["Cyd"]["words"], people["Cyd"]["skipped"], people["Cyd"]["pairs"]) == (0, 4, [])
    assert quality.annotator(judged, "Bob") == people["Bob"]
    json.dumps(people, allow_nan=False)


def test_who_may_not_see_gold_is_told_how_they_did_on_all_of_it_together_and_nothing_else(judged, sample_row):
    for seed in range(12):
        (sample,) = judged.samples.add([sample_row(prompt=PROMPT, seed=100 + seed)])
        for who in ("Ann", "Bob"):
            judged.scores.set(sample, 1, 2, who)
        judged.gold.set(sample, 1, 2 if seed < 9 else 7, "Gus")
    found = quality.agreement(judged)
    gold = {who: dict(one["gold"]) for one in found["people"] for who in [one["who"]]}
    assert gold["Ann"]["colour"]["mean_absolute"] > 0 and found["people"][0]["contested"][0]["by"] == "gold"
    seen = {one["who"]: one for one in quality.without_gold(found, "Ann")["people"]}
    assert seen["Ann"]["gold"]["all"] == {
        "words": 12, "exact": 9 / 12, "mean_absolute": None, "spearman": None, "why": "",
    }  # fmt: skip
    hidden = [seen["Ann"]["gold"]["colour"], *seen["Bob"]["gold"].values(), *seen["Cyd"]["gold"].values()]
    assert {(one["words"], one["exact"], one["mean_absolute"]) for one in hidden} == {(0, None, None)}
    for one in seen.values():
        assert not [word for word in one["contested"] if word["by"] == "gold"]
    assert parts.against(seen["Ann"])["rows"] and parts.people({"people": [seen["Ann"]]}, "Ann")
    assert "administrators" in parts.lacking(seen["Bob"])
    nobody = {one["who"]: one for one in quality.without_gold(found, None)["people"]}
    assert nobody["Ann"]["gold"]["all"]["exact"] is None


def test_of_few_gold_words_no_figure_is_told_and_the_simulated_annotator_is_nobody(judged):
    """A figure of few would give them away."""
    sample = judged.samples.find(limit=1)[0]["id"]
    judged.scores.set(sample, 1, 3, "detector", source="simulated")
    judged.queue.submit(sample, "detector")
    judged.gold.set(sample, 1, 9, "Gus")
    found = quality.agreement(judged)
    assert "detector" not in [person["who"] for person in found["people"]]
    (ann, *_) = quality.without_gold(found, "Ann")["people"]
    assert ann["gold"]["all"]["exact"] is None and "10 gold words" in ann["gold"]["all"]["why"]


@pytest.fixture
def ask(monkeypatch, capsys, tmp_path):
    """ask(store, ...) -> (what is printed, the result of --json) of the command, on a stand-in for the studio: the command
    needs nothing of it but the store."""

    def run(store, *more):
        monkeypatch.setattr(commands, "studio_of", lambda given: type("Stored", (), {"store": store}))
        assert main(["agreement", *more, "--json", str(tmp_path / "found.json")]) == 0
        return capsys.readouterr().out, json.loads((tmp_path / "found.json").read_text())

    return run


def test_the_command_prints_tables_and_writes_all_of_it_as_json(judged, ask):
    out, found = ask(judged)
    assert found == json.loads(json.dumps(quality.agreement(judged)))
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["kind", "of", "word"]
    assert ["object", "2", "3", "1.000", "1.000"] in [line.split() for line in lines]
    assert any(line.startswith("Ann + Bob ") for line in lines)
    assert "relation: Only one person has scored these words: alpha needs two." in lines
    assert "Cyd and the VLM: The VLM has scored none of these words." in lines
    out, found = ask(judged, "--who", "Ann")
    assert found == json.loads(json.dumps(quality.annotator(judged, "Ann")))
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["Ann"] and ["words", *map(str, found["scores"])] in lines
    assert ["colour", "4", "100", "%", "0.00", "1.00"] in lines


def test_nobody_and_a_hostile_name_do_not_break_the_table(store, sample_row, ask):
    out, found = ask(store)
    assert "No person has scored these words yet." in out and found["pairs"] == found["people"] == []
    (sample,) = store.samples.add([sample_row(prompt="a red circle", n_words=7)])
    store.scores.set(sample, 6, 3, "Ann\n\x1b[31m" + "x" * 60)
    out, found = ask(store)
    assert "\x1b" not in out and any(line.startswith("Ann??[31m") for line in out.splitlines())
    assert found["people"][0]["who"].startswith("Ann\n")
    assert found["people"][0]["kinds"] == {"other": 1}  # a word past the prompt's own


@pytest.mark.parametrize(
    ("alpha", "words", "reading"),
    [(None, 1, "open"), (0.95, 100, "good"), (0.8, 100, "good"), (0.7, 100, "usable"), (0.5, 100, "poor"),
     (0.0, quality.FEW, "poor"), (0.0, 1, "too few"), (0.95, quality.FEW - 1, "too few")],
)  # fmt: skip
def test_alpha_is_read_in_words_where_there_are_enough(alpha, words, reading):
    assert quality.reading(alpha, words)[0] == reading


def test_gold_the_others_and_the_disagreements_are_told(judged, ask):
    row = judged.samples.find(limit=1, newest=False)[0]
    judged.gold.set(row["id"], 1, 2, "Dan", "red")
    found = quality.agreement(judged)
    people = {person["who"]: person for person in found["people"]}
    assert people["Ann"]["gold"]["colour"]["mean_absolute"] == 2  # she said 0
    assert people["Bob"]["gold"]["all"]["words"] == 1
    assert people["Cyd"]["gold"]["all"]["why"].startswith("No gold word")
    assert people["Ann"]["others"]["object"]["exact"] == 1
    assert [one["points"] for one in found["apart"]] == [9, 7, 4]
    assert people["Bob"]["contested"][-1]["by"] == "gold"
    assert (found["gold"], found["cut"]) == ({"words": 1, "samples": 1}, False)
    assert quality.agreement(judged, 5)["cut"]
    out, _ = ask(judged, "--who", "Ann")
    assert "with gold" in out and "with the others" in out
