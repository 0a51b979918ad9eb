"""The library finds what it is asked for, page by page, in every order, and says all that was said of one sample."""

import itertools
import math
import random
import unicodedata

import pytest

from data.store import library
from data.store.library import SORTS


@pytest.fixture(scope="module")
def full(module_store, sample_row, peaked):
    """Thirty samples: prompts with special characters, seeds in no order, some scored by people, some flagged. A test that
    writes has a copy."""
    store = module_store
    run = store.runs.new("projector", {})
    dice = random.Random(3)
    rows = []
    for i in range(30):
        more = {"method": "projected", "strength": 0.5, "projector_run": run} if i % 3 == 0 else {}
        prompt = f"a {['red', 'blue'][i % 2]} star {['100%', 'a_b', 'Ü'][i % 3]}"
        rows.append(
            sample_row(
                id=f"s{i:02d}",
                prompt=prompt,
                seed=dice.randrange(6),
                prompt_set=["", "shapes"][i % 2],
                split=["train", "heldout"][i % 5 == 0],
                **more,
            )
        )
    store.samples.add(rows)
    for i in range(0, 30, 2):
        event = {"sample": f"s{i:02d}", "word_index": 1, "word": "red", "source": "vlm", "scorer": "tiny"}
        store.scores.add([{**event, "distribution": peaked(5, 0.3 + i / 60)}])
    for i, who in ((0, "ann"), (1, "ann"), (1, "bob"), (2, "bob"), (2, "ann")):
        store.scores.set(f"s{i:02d}", 1, 2 * i + (3 if who == "bob" else 0), who, word="red")
    store.remarks.flag("s01", "ann", "cut off")
    store.remarks.flag("s02", "ann", "cut off")
    store.remarks.unflag("s02", "ann")
    store.remarks.note("s04", "bob", "see here")
    return store


def test_the_mean_is_finer_than_the_digits_of_the_vlm(store, sample_row, peaked):
    store.samples.add([sample_row(id="s")])
    event = {"sample": "s", "source": "vlm", "scorer": "tiny", "distribution": peaked(9, 0.55), "score": 9}
    store.scores.add([{**event, "word_index": i, "word": word} for i, word in enumerate(["red", "star"])])
    expected = 9 * 0.55 + sum(range(9)) * 0.05
    (found,) = store.library.search()["samples"]
    assert found["mean"] == pytest.approx(expected, abs=0.02)
    assert [word["label"] for word in found["words"]] == [9, 9]
    store.scores.set("s", 0, 2, "ann", word="red")  # what a person says counts as it is
    assert store.library.search()["samples"][0]["mean"] == pytest.approx((2 + expected) / 2, abs=0.02)


def ids(found):
    return [sample["id"] for sample in found["samples"]]


def everything(store, size, **asked):
    """The ids of all pages, which must not overlap."""
    seen, after = [], None
    for _ in range(100):
        found = store.library.search(limit=size, after=after, **asked)
        seen += ids(found)
        after = found["next"]
        if after is None:
            return seen
    raise AssertionError("the pages never end")


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("many", [False, True], ids=["few", "many"])
def test_pages_of_any_size_are_the_whole_order_with_nothing_twice(full, sort, many, monkeypatch):
    if many:  # as in a large store, where the walk is another one
        monkeypatch.setattr(library, "COUNTED", 2)
        monkeypatch.setattr(library, "SMALL", 1)
    whole = ids(full.library.search(sort=sort, limit=1000))
    figures = {"uncertain": 15, "disagreement": 2, "lowest": 16, "highest": 16}
    assert len(whole) == len(set(whole)) == figures.get(sort, 30)
    for size in (1, 4, 29):
        assert everything(full, size, sort=sort) == whole
    key = {
        "newest": lambda s: -s["seq"],
        "oldest": lambda s: s["seq"],
        "uncertain": lambda s: -s["entropy"],
        "disagreement": lambda s: -s["points"],
        "lowest": lambda s: round(s["mean"], 6),
        "highest": lambda s: -round(s["mean"], 6),
        "prompt": lambda s: (s["prompt"], s["seed"], s["seq"]),
        "seed": lambda s: (s["seed"], s["seq"]),
    }[sort]
    keys = [key(sample) for sample in full.library.search(sort=sort, limit=1000)["samples"]]
    assert all(a <= b for a, b in itertools.pairwise(keys))


@pytest.fixture
def own(full, copy_of):
    return copy_of(full)


def test_what_comes_meanwhile_shows_nothing_twice(own, sample_row):
    first = own.library.search(limit=10)
    own.samples.add([sample_row(id="new")])
    second = own.library.search(limit=10, after=first["next"])
    assert ids(first)[-1] == "s20" and ids(second)[0] == "s19"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"text": "RED star"}, 15),
        ({"text": "star red"}, 15),
        ({"text": "%"}, 10),
        ({"text": "a_b"}, 10),
        ({"text": "s07"}, 1),
        ({"text": "'; DROP TABLE samples; --"}, 0),
        ({"split": "heldout", "text": "blue"}, 3),
        ({"who": "*"}, 3),
        ({"who": "nobody"}, 0),
        ({"remark": "note"}, 1),
        ({"disagreement": 3}, 2),
        ({"disagreement": 3.1}, 0),
        ({"who": "bob", "remark": "flag"}, 1),
        ({"mean_from": 2, "mean_to": 3}, 1),
        ({"mean_from": 2, "mean_to": 2}, 1),
        ({"mean_to": 4.4, "who": "bob"}, 2),
    ],
    ids=str,
)
def test_words_and_filters_leave_what_they_say(full, asked, found):
    result = full.library.search(limit=100, **asked)
    assert (result["count"], len(result["samples"]), result["more"]) == (found, found, False)


def test_a_sample_tells_its_labels_people_flags_and_figures_and_all_choices_are_known(full, store):
    one = full.library.search("s01")["samples"][0]
    assert (one["people"], one["flags"], one["points"], one["mean"]) == (2, 1, 3.0, 2.0)
    word = {"index": 1, "word": "red", "label": 2.0, "source": "human", "vlm": None}
    assert one["words"] == [{**word, "people": {"ann": 2, "bob": 5}}]
    two = full.library.search("s02")["samples"][0]
    assert (two["flags"], two["words"][0]["vlm"] is not None) == (0, True)
    run = full.runs.find()[0]["id"]
    assert full.library.search(projector_run=run)["count"] == 10
    choices = {"prompt_set": ["shapes"], "projector_run": [run], "split": ["heldout", "train"]}
    assert full.library.choices() == {**choices, "method": ["none", "projected"], "who": ["ann", "bob"]}
    for sort in SORTS:
        assert store.library.search(sort=sort) == {"samples": [], "count": 0, "more": False, "next": None}
    assert store.library.choices()["who"] == []


def test_all_that_was_said_of_a_sample_is_there_the_newest_first(own):
    own.scores.undo("s01", "bob")
    own.queue.submit("s01", "ann")
    found = own.library.events("s01")
    assert [(e["who"], e["what"], e["before"], e["after"], e["text"]) for e in found] == [
        ("ann", "submit", None, None, ""),
        ("bob", "undo", 5.0, None, ""),
        ("ann", "flag", None, None, "cut off"),
        ("bob", "set", None, 5.0, ""),
        ("ann", "set", None, 2.0, ""),
    ]
    assert own.library.events("s01", limit=1) == found[:1]


def test_a_word_that_has_only_a_gold_score_is_shown(own):
    own.gold.set("s01", 2, 7, "gus", word="star")
    own.gold.set("s03", 1, 4, "gus", word="red")
    (one,) = own.library.search("s01")["samples"]
    assert [(w["index"], w["word"], w["label"], w["source"], w["people"]) for w in one["words"]] == [
        (1, "red", 2.0, "human", {"ann": 2, "bob": 5}),
        (2, "star", 7.0, "gold", {}),
    ]
    assert (one["mean"], one["people"]) == (4.5, 2)
    (bare,) = own.library.search("s03")["samples"]
    assert [(w["word"], w["label"], w["vlm"]) for w in bare["words"]] == [("red", 4.0, None)]
    own.gold.set("s01", 0, 1, "gus", word="a")
    assert [w["index"] for w in own.library.search("s01")["samples"][0]["words"]] == [0, 1, 2]


def test_who_may_not_see_gold_is_shown_the_labels_and_the_history_without_it(own):
    def shown(**options):
        found = [own.library.search(id, **options)["samples"] for id in ("s01", "s03")]
        return [*found, own.library.events("s01", **options)]

    before = shown()
    own.gold.set("s01", 1, 9, "gus")
    own.gold.set("s01", 2, 7, "gus", word="star")
    own.gold.set("s03", 1, 4, "gus", word="red")
    assert own.library.search("s01")["samples"][0]["words"][0]["label"] == 9
    assert "gold" in {e["what"] for e in own.library.events("s01")}
    assert shown(gold=False) == before


@pytest.mark.parametrize("many", [False, True], ids=["few", "many"])
def test_who_may_not_see_gold_finds_by_the_mean_score_without_it(own, many, monkeypatch):
    if many:
        for name, value in (("COUNTED", 1), ("SMALL", 1)):
            monkeypatch.setattr(library, name, value)
        monkeypatch.setattr(library, "FEW", 1)

    def asked(gold):
        """Each order, each bound, and which page comes after the first one."""
        found = [ids(own.library.search(sort=sort, gold=gold, limit=1000)) for sort in ("lowest", "highest")]
        found += [
            ids(own.library.search(gold=gold, limit=1000, **{name: 4.5})) for name in ("mean_from", "mean_to")
        ]
        return [*found, own.library.search(sort="lowest", limit=3, gold=gold)["next"]]

    before = asked(gold=True)
    assert asked(gold=False) == before
    own.gold.set("s01", 1, 9, "gus")
    own.gold.set("s04", 2, 0, "gus")
    own.gold.set("s03", 1, 4, "gus")  # of which nothing else was said
    assert asked(gold=False) == before
    golden = asked(gold=True)
    assert golden[0][-1] == golden[1][0] == "s01" and "s03" in golden[0] and "s03" not in before[0]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"sort": "best"}, "sort must be one of"),
        ({"colour": "red"}, "cannot be filtered by 'colour'"),
        ({"text": "x" * 501}, "501 characters"),
        ({"text": "a " * 21}, "21 words"),
        ({"text": 7}, "must be text"),
        ({"limit": 0}, "limit"),
        ({"remark": "poke"}, "remark must be one of"),
        ({"disagreement": "x"}, "disagreement must be a number"),
        ({"who": ""}, "who is empty"),
        ({"mean_from": -1}, "mean_from must be a number from 0 to 9"),
        ({"mean_to": float("nan")}, "mean_to must be a number from 0 to 9"),
        ({"mean_from": 6, "mean_to": 5}, "mean score 6 is above the highest, 5: turn"),
        ({"after": [1, 2]}, "no such page"),
        ({"after": "x"}, "no such page"),
        ({"after": [True]}, "no such page"),
        ({"after": ["1 OR 1=1"]}, "no such page"),
        ({"after": [{}], "sort": "uncertain"}, "no such page"),
        ({"after": ["4", "s01"], "sort": "lowest"}, "no such page"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_a_sentence(full, asked, says):
    with pytest.raises(ValueError, match=says):
        full.library.search(**asked)


LARGE = [2**63, -(2**63) - 1, 10**30, -(10**30), 10**5000]


@pytest.mark.parametrize("sort", SORTS)
def test_a_cursor_that_no_page_gave_is_no_page(full, sort):
    after = full.library.search(sort=sort, limit=1)["next"]
    keys = [[*after[:at], number, *after[at + 1 :]] for number in LARGE for at in range(len(after))]
    if sort == "prompt":
        keys += [["\ud800", 1, 1], ["a\x00", 1, 1], ["a", 1.0, 1], ["a", math.nan, 1], ["a", 1], 7, "a"]
    for key in keys:
        with pytest.raises(ValueError, match="^There is no such page any more; begin with the first one.$"):
            full.library.search(sort=sort, after=key)


def test_a_filter_with_a_number_that_sqlite_cannot_hold_is_a_sentence(full):
    for name, number in itertools.product(library.FILTERS, LARGE):
        with pytest.raises(ValueError, match=f"^{name} .*\\.$"):
            full.library.search(**{name: number})


@pytest.mark.parametrize("word", ["café", "Å", "한글", "naïve rouge"])
def test_a_search_finds_a_word_however_its_accents_are_composed(store, sample_row, word):
    forms = ("NFC", "NFD")
    for i, form in enumerate(forms):
        prompt = unicodedata.normalize(form, f"un {word} rouge")
        store.samples.add([sample_row(id=form, seed=i, prompt=prompt)])
    for form in forms:
        found = store.library.search(unicodedata.normalize(form, word))["samples"]
        assert {sample["id"] for sample in found} == set(forms)
