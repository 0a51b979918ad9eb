"""An annotator's desk: what is hidden in blind mode, what others said meanwhile, and steps back over images."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from data.store import StoreError
from data.store.desk import page_digest
from studio.annotation import desk, inbox
from studio.annotation.inbox import read_packet
from studio.studio import Studio
from tests.tiny import change_settings

CLIENT = "0123456789abcdef"


@pytest.fixture
def shown(scored):
    return scored.annotation.next("Ann")


def digit(word, score=3):
    return {"kind": "set", "word": word, "score": score}


def places(view):
    return [w.index for w in view.words if w.scored]


def send(studio, sample, *operations, first=None, blind=False, who="Ann", **more):
    """Send these keys, numbered from ``first`` on, or else after the last that was received."""
    last = studio.store.receipts.get(page_digest(CLIENT, who))
    first = first or (last["revision"] if last else 0) + 1
    numbered = [{"revision": i, **o} for i, o in enumerate(operations, first)]
    packet = read_packet({"client": CLIENT, "sample": sample, "operations": numbered, **more})
    return inbox.apply(studio, packet, who, blind)


def test_blind_mode_keeps_back_whatever_was_said_of_a_word_until_the_first_guess(scored, shown):
    first, second, *_ = places(shown)
    scored.annotation.correct(shown.id, first, 2, "Bea")
    scored.store.remarks.flag(shown.id, "Bea", "broken")
    scored.store.scores.set(shown.id, second, 1, "detector", "simulated")
    found = desk.item(scored, shown.id, "Ann", blind=True, opened=0)
    assert found.hidden == set(places(shown))
    assert (found.view.total, found.others, found.flags) == (None, {}, [])
    for word in found.view.words:
        assert {word.vlm, word.expected, word.calibrated, word.human, word.by, word.score} == {None}
        assert word.uncertain == 0.0 or not word.scored
    scored.annotation.correct(shown.id, first, 4, "Ann")
    after = desk.item(scored, shown.id, "Ann", blind=True)
    assert after.view.words[first].vlm is not None and first not in after.hidden
    desk.accept(scored, shown.id, "Ann", blind=True)  # takes only what was shown
    assert [w.index for w in scored.annotation.sample(shown.id, "Ann").words if w.by == "Ann"] == [first]
    with pytest.raises(ValueError, match="blind mode"):
        desk.clean(scored, shown.id, "Ann", blind=True)
    assert confirmed(scored, shown.id) == {} and scored.annotation.progress("Ann")["submitted"] == 0
    scored.annotation.correct(shown.id, first, None, "Ann")  # what was seen stays seen
    assert first not in desk.item(scored, shown.id, "Ann", blind=True).hidden
    scored.annotation.correct(shown.id, second, 4, "Ann")
    send(scored, shown.id, {"kind": "submit"}, blind=True)  # confirms only what was seen
    assert confirmed(scored, shown.id) == {first: shown.words[first].vlm}


def test_skip_confirms_nothing_nor_does_done_where_the_settings_say_so(scored, shown):
    for kind, setting in (("skip", "yes"), ("submit", "no")):
        change_settings(scored, confirm=setting)
        send(scored, shown.id, {"kind": kind})
        assert confirmed(scored, shown.id) == {}
    assert scored.annotation.progress("Ann")["submitted"] == 1


def test_keys_are_done_in_order_and_what_cannot_be_kept_is_named(scored, shown):
    first, second, *_ = places(shown)
    remarks = {"kind": "flag", "text": "broken"}, {"kind": "note", "text": "two moons"}
    done = send(scored, shown.id, digit(first), digit(0), digit(second, 5), *remarks)
    assert done.revision == 5 and "carries no score" in done.error
    found = desk.item(scored, shown.id, "Ann")
    assert [found.view.words[i].score for i in (first, second)] == [3, 5]
    assert (found.flag, found.note) == ("broken", "two moons")
    send(scored, shown.id, {"kind": "unflag"}, {"kind": "note", "text": ""})
    found = desk.item(scored, shown.id, "Ann")
    assert (found.flag, found.note) == ("", "")


def test_of_keys_that_come_again_with_new_ones_the_new_ones_are_done(scored, shown):
    first, second, *_ = places(shown)
    keys = [digit(first), {"kind": "undo"}]
    send(scored, shown.id, *keys)
    done = send(restarted(scored), shown.id, *keys, digit(second, 7), first=1)
    assert (done.revision, done.word) == (3, first)
    assert [x["action"] for x in scored.annotation.history("Ann")] == ["set", "undo", "set"]


def test_one_page_of_two_people_has_two_rows_of_numbers(scored, shown):
    """Keys that were typed under a name come again under it, with the numbers that they had."""
    word = places(shown)[0]
    for number, key, who in (
        (1, digit(word), "Ann"),
        (3, digit(word, 4), "Bea"),
        (2, {"kind": "undo"}, "Ann"),
    ):
        send(scored, shown.id, key, first=number, who=who)
    actions = [[x["action"] for x in scored.annotation.history(who)] for who in ("Ann", "Bea")]
    assert actions == [["undo", "set"], ["set"]]


def test_what_else_changed_or_any_other_key_brings_all_of_it_and_ones_own_digits_alone_do_not(
    scored, shown, monkeypatch
):
    first, second, *_ = places(shown)

    def told(*operations, who="Ann", meanwhile=lambda: None):
        mark = desk.item(scored, shown.id, "Ann").mark
        meanwhile()
        return inbox.unchanged(scored, send(scored, shown.id, *operations, mark=mark, who=who), who)

    before = desk.mark(scored, shown.id, "Ann")
    assert told(digit(first), digit(second, 5)) == desk.mark(scored, shown.id, "Ann") != before
    assert told(digit(second, 5)) == desk.mark(scored, shown.id, "Ann")  # what stands is said again
    for act in (
        lambda: scored.annotation.correct(shown.id, second, 1, "Bea"),
        lambda: scored.annotation.correct(shown.id, second, 7, "Ann"),  # in another tab
        lambda: scored.store.remarks.flag(shown.id, "Bea", "broken"),
        lambda: scored.store.scores.set(shown.id, second, 1, "detector", "simulated"),
    ):
        assert told(digit(first, 4), meanwhile=act) is None
        assert told(digit(first))
    assert told(digit(first), who="Bea") is None  # the page was drawn for another one
    assert told(digit(first), {"kind": "accept"}) is None
    assert told({"kind": "undo"}) is None
    assert told({"kind": "clear", "word": first}) is None  # what stands then may be another one's
    assert told(digit(0)) is None  # an article: it could not be kept
    with monkeypatch.context() as loading:
        loading.setattr(type(scored.models), "loaded_diffuser", None)
        mark = desk.item(scored, shown.id, "Ann").mark
    assert inbox.unchanged(scored, send(scored, shown.id, digit(first), mark=mark), "Ann") is None


def test_whatever_the_clock_says_what_others_said_since_is_shown(scored, shown, bad_clock):
    first, second, *_ = places(shown)
    scored.annotation.correct(shown.id, first, 1, "Bea")
    opened = desk.item(scored, shown.id, "Ann").last
    scored.annotation.correct(shown.id, second, 6, "Bea")
    assert desk.item(scored, shown.id, "Ann", opened=opened).others == {second: [{"who": "Bea", "score": 6}]}
    assert desk.item(scored, shown.id, "Ann").others == {}
    scored.annotation.correct(shown.id, second, 8, "Ann")  # the later one sees that it had changed
    assert desk.item(scored, shown.id, "Ann", opened=opened).others == {second: [{"who": "Bea", "score": 6}]}


@pytest.mark.parametrize(
    ("name", "value"),
    [*(("opened", value) for value in ("2026-01-01T00:00:00Z", -1, True, 2**53)),
     *(("mark", value) for value in ("1.2.1", "-1.2.1.4", 7, "1.2.1.4 ", "9" * 30 + ".1.1.4"))],
)  # fmt: skip
def test_a_moment_or_a_mark_that_no_page_was_given_is_refused(name, value):
    packet = {"client": CLIENT, "sample": "s", "operations": [{"revision": 1, "kind": "undo"}], name: value}
    with pytest.raises(ValueError, match="reload the page"):
        read_packet(packet)


def test_a_word_without_a_score_is_not_confirmed_and_cannot_be_right(scored, shown):
    row = scored.store.samples.get(shown.id)
    row = {k: v for k, v in row.items() if k not in ("seq", "id", "created")}
    (bare,) = scored.store.samples.add([{**row, "seed": 77}])
    done = send(scored, bare, {"kind": "clean"})
    assert "has no score" in done.error and not done.left
    assert send(scored, bare, {"kind": "submit"}).left
    assert scored.store.scores.current(bare) == {}


@pytest.mark.parametrize(("part", "write"), [("scores", "set"), ("receipts", "give")])
def test_a_full_disk_leaves_the_key_and_those_after_it_with_the_page(scored, shown, monkeypatch, part, write):
    """A key and its receipt are stored together or not at all."""
    keys = [digit(w) for w in places(shown)[:2]]
    before = written(scored)
    with monkeypatch.context() as broken:

        def full(*_args, **_more):
            raise StoreError("The disk of studio.db is full; nothing was changed.")

        broken.setattr(getattr(scored.store, part), write, full)
        done = send(scored, shown.id, *keys)
        assert (done.revision, done.retry) == (0, True) and done.error.startswith("The disk")
    assert written(scored) == before
    done = send(scored, shown.id, *keys)
    assert (done.revision, done.retry, done.error) == (2, False, "")
    assert len(scored.annotation.history("Ann")) == 2


def test_many_threads_that_send_the_same_keys_do_them_once(scored, shown):
    keys = [digit(places(shown)[0], n) for n in (1, 2, 3)] + [{"kind": "undo"}] * 2
    with ThreadPoolExecutor(4) as senders:
        answers = list(senders.map(lambda n: send(scored, shown.id, *keys[: 3 + n], first=1), (2, 0, 1, 2)))
    assert sorted(done.revision for done in answers)[-2:] == [5, 5]
    assert [x["action"] for x in scored.annotation.history("Ann")] == ["undo", "undo", "set", "set", "set"]


def confirmed(studio, sample):
    """{word index: the score that stands as confirmed}."""
    current = studio.store.scores.current(sample).items()
    return {index: said["confirmed"]["score"] for index, said in current if said["confirmed"]}


def test_nothing_wrong_confirms_all_and_submits_in_one_step(scored, shown):
    change_settings(scored, confirm="no")  # n says it, whatever Done does
    done = send(scored, shown.id, {"kind": "clean"})
    assert (done.left, done.error) == (True, "")
    assert confirmed(scored, shown.id) == {w.index: w.vlm for w in shown.words if w.scored}
    assert not any(w.by for w in scored.annotation.sample(shown.id, "Ann").words)
    back = send(scored, shown.id, {"kind": "undo"}, shown="")
    assert back.place == shown.id and confirmed(scored, shown.id) == {}
    assert scored.annotation.progress("Ann")["submitted"] == 0


def test_done_confirms_what_was_left_and_no_typed_score(scored, shown):
    first, second, *rest = places(shown)
    wrong = (shown.words[first].vlm + 5) % 10
    done = send(scored, shown.id, digit(first, wrong), {"kind": "submit"})
    assert (done.left, done.error) == (True, "")
    assert confirmed(scored, shown.id) == {i: shown.words[i].vlm for i in (second, *rest)}
    labels = {x["word_index"]: (x["source"], x["score"]) for x in scored.store.labels.current(ids=[shown.id])}
    assert labels[first] == ("human", wrong) and labels[second] == ("confirmed", shown.words[second].vlm)
    # not one of the figures about what people typed knows of it
    assert scored.annotation.progress("Ann")["corrected_words"] == scored.status()["corrections"] == 1
    assert [(x["who"], x["word_index"]) for x in scored.store.judgements.scores()] == [("Ann", first)]
    assert [x["word_index"] for x in scored.annotation.history("Ann")] == [first]
    assert desk.back(scored.store, "Ann").sample == shown.id and confirmed(scored, shown.id) == {}
    assert desk.back(scored.store, "Ann").word == first


def test_whatever_the_clock_says_undo_goes_back_in_the_order_of_the_keys(scored, shown, bad_clock):
    """A submit is younger than the scores before it, and older than those after it."""
    word = places(shown)[0]
    scored.annotation.correct(shown.id, word, 3, "Ann")
    scored.annotation.submit(shown.id, "Ann")
    second = scored.annotation.next("Ann", exclude=shown.id)
    scored.annotation.accept(second.id, "Ann")
    scored.annotation.submit(second.id, "Ann", "skip")
    scored.annotation.correct(shown.id, word, 5, "Ann")
    steps, says = [], []
    while step := desk.back(scored.store, "Ann"):
        done = scored.annotation.progress("Ann")
        says.append(step.says.partition(":")[0])
        steps.append((step.sample, done["corrected_samples"], done["submitted"], done["skipped"]))
    assert steps == [
        (shown.id, 2, 1, 1), (second.id, 2, 1, 0), (second.id, 1, 1, 0), (shown.id, 1, 0, 0), (shown.id, 0, 0, 0)
    ]  # fmt: skip
    assert [said for said in says if said] == [
        f"Back to the image that you {did} last" for did in ("skipped", "submitted")
    ]
    assert {held["sample"] for held in scored.store.leases.current("Ann")} >= {shown.id, second.id}


def test_a_submit_that_is_undone_is_none_in_the_progress_in_the_queue_and_for_others(scored, shown):
    before = [scored.annotation.progress("Ann"), scored.store.tallies.queue("Bea", 1, split="train")]
    key = digit(places(shown)[0])
    assert send(scored, shown.id, key, {"kind": "submit"}).left
    assert scored.annotation.progress("Ann")["submitted"] == 1
    second = scored.annotation.next("Ann")
    back = send(scored, second.id, {"kind": "undo"})
    assert (back.place, back.word) == (shown.id, None) and "not submitted any more" in back.says
    assert scored.annotation.progress("Ann")["submitted"] == scored.store.tallies.queue("Ann")["mine"] == 0
    back = send(scored, shown.id, {"kind": "undo"})
    assert (back.place, back.word) == (shown.id, key["word"])
    assert [scored.annotation.progress("Ann"), scored.store.tallies.queue("Bea", 1, split="train")] == before
    assert scored.annotation.next("Ann").id == shown.id
    assert send(scored, shown.id, {"kind": "undo"}).says == inbox.NOTHING
    scored.annotation.submit(shown.id, "Ann")
    scored.annotation.submit(second.id, "Ann", "skip")
    assert scored.annotation.undo("Ann", shown.id).id == shown.id  # the last submit of that image alone
    assert scored.annotation.undo("Ann", shown.id) is None
    assert [scored.annotation.progress("Ann")[name] for name in ("submitted", "skipped")] == [0, 1]


def restarted(studio):
    """The server was killed and started anew: nothing of it is left but what its store holds."""
    studio.store.database.close()
    new = Studio(studio.settings)
    new.models._diffuser, new.models._scorer = studio.models._diffuser, studio.models._scorer
    return new


KEYS = {
    "a score": [{"kind": "set", "score": 3}],
    "two undos": [{"kind": "undo"}, {"kind": "undo"}],
    "a skip": [{"kind": "skip"}],
    "nothing wrong": [{"kind": "clean"}],
    "remarks": [
        {"kind": "note", "text": "two moons"},
        {"kind": "flag", "text": "broken"},
        {"kind": "unflag"},
    ],
    "what cannot be kept": [digit(0)],
    "undo of a submit": [{"kind": "submit"}, {"kind": "undo"}],
    "all": [{"kind": "set", "score": 8}, {"kind": "undo"}, {"kind": "accept"}, {"kind": "submit"}],
}


def written(studio):
    with studio.store.database.reading() as db:
        return [db.execute(f"SELECT id FROM {t}").fetchall() for t in ("scores", "submissions", "remarks")]


@pytest.mark.parametrize("name", KEYS)
def test_keys_that_come_again_after_a_restart_are_not_done_again_and_are_answered_the_same(
    scored, shown, name
):
    word, other, *_ = places(shown)
    send(scored, shown.id, *(digit(w, 5) for w in (word, other)))
    keys = [{"word": word, **key} if key["kind"] == "set" else key for key in KEYS[name]]
    done, before = send(scored, shown.id, *keys, first=3), written(scored)
    again = send(restarted(scored), shown.id, *keys, first=3)
    assert written(scored) == before
    assert again.revision == done.revision == 2 + len(keys)
    assert (again.answer(), again.retry) == (done.answer(), False)
    late = send(scored, shown.id, digit(word, 5), first=1)
    assert late.revision == done.revision and written(scored) == before


def test_keys_of_a_page_that_is_gone_do_not_move_the_one_that_is_open(scored, shown):
    other = scored.annotation.next("Bea")
    done = send(scored, shown.id, {"kind": "submit"}, shown=other.id)
    assert (done.left, done.place) == (False, other.id)
    assert done.ack()["moved"] is False


def test_another_person_is_named_and_a_nameless_one_is_somebody():
    assert desk.display_name("Bea") == "Bea"
    assert desk.display_name("anonymous-0123456789ab") == "somebody"
