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
        told = (word.vlm, word.expected, word.calibrated, word.human, word.by, word.score)
        assert set(told) == {None}
        assert word.uncertain == 0.0 or not word.scored
    scored.annotation.correct(shown.id, first, 4, "Ann")
    after = desk.item(scored, shown.id, "Ann", blind=True)
    assert after.view.words[first].vlm is not None
    assert first not in after.hidden
    scored.annotation.correct(shown.id, first, None, "Ann")  # what was seen stays seen
    assert first not in desk.item(scored, shown.id, "Ann", blind=True).hidden


def test_only_what_others_said_since_is_shown(scored, shown):
    first, second, *_ = places(shown)
    scored.annotation.correct(shown.id, first, 1, "Bea")
    opened = desk.item(scored, shown.id, "Ann").last
    scored.annotation.correct(shown.id, second, 6, "Bea")
    scored.annotation.correct(shown.id, second, 8, "Ann")  # the later one sees that it had changed
    found = desk.item(scored, shown.id, "Ann", opened=opened)
    assert found.others == {second: [{"who": "Bea", "score": 6}]}


def test_whatever_the_clock_says_what_others_said_since_is_shown(scored, shown, bad_clock):
    first, second, *_ = places(shown)
    scored.annotation.correct(shown.id, first, 1, "Bea")
    opened = desk.item(scored, shown.id, "Ann").last
    scored.annotation.correct(shown.id, second, 6, "Bea")
    assert desk.item(scored, shown.id, "Ann", opened=opened).others == {second: [{"who": "Bea", "score": 6}]}
    assert desk.item(scored, shown.id, "Ann").others == {}


@pytest.mark.parametrize("opened", ["2026-01-01T00:00:00Z", -1, True, 1.5, 2**53])
def test_a_moment_that_no_page_was_given_is_refused(opened):
    packet = {"client": CLIENT, "sample": "s", "operations": [{"revision": 1, "kind": "undo"}]}
    with pytest.raises(ValueError, match="opened: reload the page"):
        read_packet({**packet, "opened": opened})


def test_accepting_in_blind_mode_takes_only_what_was_shown(scored, shown):
    first = places(shown)[0]
    scored.annotation.correct(shown.id, first, 4, "Ann")
    desk.accept(scored, shown.id, "Ann", blind=True)
    assert [w.index for w in scored.annotation.sample(shown.id, "Ann").words if w.by == "Ann"] == [first]
    with pytest.raises(ValueError, match="blind mode"):
        desk.clean(scored, shown.id, "Ann", blind=True)
    assert confirmed(scored, shown.id) == {} and scored.annotation.progress("Ann")["submitted"] == 0


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
    done = send(scored, shown.id, {"kind": "set", "word": first, "score": wrong}, {"kind": "submit"})
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


def test_skip_confirms_nothing_nor_does_done_where_the_settings_say_so(scored, shown):
    send(scored, shown.id, {"kind": "skip"})
    assert confirmed(scored, shown.id) == {}
    change_settings(scored, confirm="no")
    send(scored, shown.id, {"kind": "submit"})
    assert confirmed(scored, shown.id) == {} and scored.annotation.progress("Ann")["submitted"] == 1


def test_in_blind_mode_done_confirms_only_what_was_seen(scored, shown):
    first, second, *_ = places(shown)
    scored.annotation.correct(shown.id, first, 4, "Ann")
    scored.annotation.correct(shown.id, second, 4, "Ann")
    scored.annotation.correct(shown.id, second, None, "Ann")  # taken back: the VLM's score has been seen
    send(scored, shown.id, {"kind": "submit"}, blind=True)
    assert confirmed(scored, shown.id) == {second: shown.words[second].vlm}


def test_a_word_without_a_score_is_not_confirmed(scored, shown):
    bare = scored.store.samples.add([{**_row(scored, shown.id), "seed": 78}])[0]
    assert send(scored, bare, {"kind": "submit"}).left
    assert scored.store.scores.current(bare) == {}


def test_nothing_wrong_is_refused_where_a_word_has_no_score(scored, shown):
    bare = scored.store.samples.add([{**_row(scored, shown.id), "seed": 77}])[0]
    done = send(scored, bare, {"kind": "clean"})
    assert "has no score" in done.error
    assert not done.left


def _row(studio, sample):
    found = studio.store.samples.get(sample)
    return {k: v for k, v in found.items() if k not in ("seq", "id", "created")}


def test_undo_goes_back_over_submits_skips_and_scores_of_other_images(scored, shown):
    scored.annotation.correct(shown.id, places(shown)[0], 3, "Ann")
    scored.annotation.submit(shown.id, "Ann")
    second = scored.annotation.next("Ann")
    scored.annotation.submit(second.id, "Ann", "skip")
    third = scored.annotation.next("Ann")
    assert third.id not in (shown.id, second.id)
    one = desk.back(scored.store, "Ann")
    assert one.sample == second.id and one.says.startswith("Back to the image that you skipped last")
    two = desk.back(scored.store, "Ann")
    assert two.sample == shown.id and two.says.startswith("Back to the image that you submitted last")
    three = desk.back(scored.store, "Ann")
    assert (three.sample, three.word) == (shown.id, places(shown)[0])
    assert desk.back(scored.store, "Ann") is None
    assert {held["sample"] for held in scored.store.leases.current("Ann")} >= {shown.id, second.id}


def test_whatever_the_clock_says_undo_goes_back_in_the_order_of_the_keys(scored, shown, bad_clock):
    """A submit is younger than the scores before it, and older than those after it."""
    word = places(shown)[0]
    scored.annotation.correct(shown.id, word, 3, "Ann")
    scored.annotation.submit(shown.id, "Ann")
    second = scored.annotation.next("Ann", exclude=shown.id)
    scored.annotation.accept(second.id, "Ann")
    scored.annotation.submit(second.id, "Ann", "skip")
    scored.annotation.correct(shown.id, word, 5, "Ann")
    steps = []
    while step := desk.back(scored.store, "Ann"):
        done = scored.annotation.progress("Ann")
        steps.append((step.sample, done["corrected_samples"], done["submitted"], done["skipped"]))
    assert steps == [
        (shown.id, 2, 1, 1), (second.id, 2, 1, 0), (second.id, 1, 1, 0), (shown.id, 1, 0, 0), (shown.id, 0, 0, 0)
    ]  # fmt: skip


def test_a_submit_that_is_undone_is_none_in_the_progress_in_the_queue_and_for_others(scored, shown):
    before = [scored.annotation.progress("Ann"), scored.store.tallies.queue("Bea", 1, split="train")]
    key = {"kind": "set", "word": places(shown)[0], "score": 3}
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


def test_the_endpoints_undo_takes_the_last_submit_of_one_image_back(scored, shown):
    scored.annotation.submit(shown.id, "Ann")
    second = scored.annotation.next("Ann")
    scored.annotation.submit(second.id, "Ann", "skip")
    assert scored.annotation.undo("Ann", shown.id).id == shown.id
    assert scored.annotation.undo("Ann", shown.id) is None
    assert (scored.annotation.progress("Ann")["submitted"], scored.annotation.progress("Ann")["skipped"]) == (
        0,
        1,
    )


def test_keys_are_done_in_order_and_what_cannot_be_kept_is_named(scored, shown):
    first, second, *_ = places(shown)
    done = send(
        scored, shown.id, {"kind": "set", "word": first, "score": 3}, {"kind": "set", "word": 0, "score": 3},
        {"kind": "set", "word": second, "score": 5}, {"kind": "flag", "text": "broken"},
        {"kind": "note", "text": "two moons"},
    )  # fmt: skip
    assert done.revision == 5
    assert "carries no score" in done.error
    found = desk.item(scored, shown.id, "Ann")
    assert [found.view.words[i].score for i in (first, second)] == [3, 5]
    assert (found.flag, found.note) == ("broken", "two moons")
    done = send(scored, shown.id, {"kind": "unflag"}, {"kind": "note", "text": ""})
    found = desk.item(scored, shown.id, "Ann")
    assert (found.flag, found.note) == ("", "")


def test_of_its_own_keys_alone_the_page_is_told_no_more_than_that_they_are_stored(scored, shown):
    first, second, *_ = places(shown)
    mark = desk.item(scored, shown.id, "Ann").mark
    keys = [{"kind": "set", "word": first, "score": 3}, {"kind": "set", "word": second, "score": 5}]
    after = inbox.unchanged(scored, send(scored, shown.id, *keys, mark=mark), "Ann")
    assert after == desk.mark(scored, shown.id, "Ann") != mark
    again = inbox.unchanged(scored, send(scored, shown.id, keys[1], mark=after), "Ann")
    assert again == after  # what stands is said again: nothing is new


def test_what_anyone_else_said_or_another_tab_or_any_other_key_brings_all_of_it(scored, shown, monkeypatch):
    first, second, *_ = places(shown)
    key = {"kind": "set", "word": first, "score": 3}

    def told(*operations, who="Ann", **more):
        mark = desk.item(scored, shown.id, "Ann").mark
        for act in more.pop("meanwhile", ()):
            act()
        return inbox.unchanged(scored, send(scored, shown.id, *operations, mark=mark, who=who, **more), who)

    assert told(key)
    for act in (
        lambda: scored.annotation.correct(shown.id, second, 1, "Bea"),
        lambda: scored.annotation.correct(shown.id, second, 7, "Ann"),  # in another tab
        lambda: scored.store.remarks.flag(shown.id, "Bea", "broken"),
        lambda: scored.store.scores.set(shown.id, second, 1, "detector", "simulated"),
    ):
        assert told({**key, "score": 4}, meanwhile=[act]) is None
        assert told(key)
    assert told(key, who="Bea") is None  # the page was drawn for another one
    assert told(key, {"kind": "accept"}) is None
    assert told({"kind": "undo"}) is None
    assert told({"kind": "clear", "word": first}) is None  # what stands then may be another one's
    assert told({"kind": "set", "word": 0, "score": 3}) is None  # an article: it could not be kept
    monkeypatch.setattr(type(scored.models), "loaded_diffuser", None)
    found = desk.item(scored, shown.id, "Ann").mark
    monkeypatch.undo()
    assert inbox.unchanged(scored, send(scored, shown.id, key, mark=found), "Ann") is None


@pytest.mark.parametrize("mark", ["1.2.1", "1.2.3.4", "-1.2.1.4", 7, "1.2.1.4 ", "9" * 30 + ".1.1.4"])
def test_a_mark_that_no_page_was_given_is_refused(mark):
    packet = {"client": CLIENT, "sample": "s", "operations": [{"revision": 1, "kind": "undo"}], "mark": mark}
    with pytest.raises(ValueError, match="reload the page"):
        read_packet(packet)


def test_a_full_disk_leaves_the_key_and_those_after_it_with_the_page(scored, shown, monkeypatch):
    keys = [{"kind": "set", "word": w, "score": 3} for w in places(shown)[:2]]
    with monkeypatch.context() as broken:

        def full(*_args, **_more):
            raise StoreError("The disk of studio.db is full; nothing was changed.")

        broken.setattr(scored.store.scores, "set", full)
        done = send(scored, shown.id, *keys)
        assert (done.revision, done.retry) == (0, True)
        assert done.error.startswith("The disk")
    done = send(scored, shown.id, *keys)
    assert (done.revision, done.retry, done.error) == (2, False, "")


def restarted(studio):
    """The server was killed and started anew: nothing of it is left but what its store holds."""
    studio.store.database.close()
    new = Studio(studio.settings)
    new.models._diffuser, new.models._scorer = studio.models._diffuser, studio.models._scorer
    return new


KEYS = {
    "a score": [{"kind": "set", "score": 3}],
    "an undo": [{"kind": "undo"}],
    "two undos": [{"kind": "undo"}, {"kind": "undo"}],
    "accept": [{"kind": "accept"}],
    "a submit": [{"kind": "submit"}],
    "a skip": [{"kind": "skip"}],
    "nothing wrong": [{"kind": "clean"}],
    "a note": [{"kind": "note", "text": "two moons"}],
    "a flag and back": [{"kind": "flag", "text": "broken"}, {"kind": "unflag"}],
    "what cannot be kept": [{"kind": "set", "word": 0, "score": 3}],
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
    send(scored, shown.id, *({"kind": "set", "word": w, "score": 5} for w in (word, other)))
    keys = [{"word": word, **key} if key["kind"] == "set" else key for key in KEYS[name]]
    done, before = send(scored, shown.id, *keys, first=3), written(scored)
    for _ in range(2):
        again = send(restarted(scored), shown.id, *keys, first=3)
        assert written(scored) == before
        assert again.revision == done.revision == 2 + len(keys)
        assert (again.answer(), again.retry) == (done.answer(), False)
    late = send(scored, shown.id, {"kind": "set", "word": word, "score": 5}, first=1)
    assert late.revision == done.revision and written(scored) == before


def test_of_keys_that_come_again_with_new_ones_the_new_ones_are_done(scored, shown):
    first, second, *_ = places(shown)
    keys = [{"kind": "set", "word": first, "score": 3}, {"kind": "undo"}]
    send(scored, shown.id, *keys)
    done = send(restarted(scored), shown.id, *keys, {"kind": "set", "word": second, "score": 7}, first=1)
    assert (done.revision, done.word) == (3, first)
    assert [x["action"] for x in scored.annotation.history("Ann")] == ["set", "undo", "set"]


def test_many_threads_that_send_the_same_keys_do_them_once(scored, shown):
    keys = [{"kind": "set", "word": places(shown)[0], "score": n} for n in (1, 2, 3)] + [{"kind": "undo"}] * 2
    with ThreadPoolExecutor(4) as senders:
        answers = list(senders.map(lambda n: send(scored, shown.id, *keys[: 3 + n], first=1), (2, 0, 1, 2)))
    assert sorted(done.revision for done in answers)[-2:] == [5, 5]
    assert [x["action"] for x in scored.annotation.history("Ann")] == ["undo", "undo", "set", "set", "set"]


def test_a_key_and_its_receipt_are_kept_together_or_not_at_all(scored, shown, monkeypatch):
    key, before = {"kind": "set", "word": places(shown)[0], "score": 3}, written(scored)
    with monkeypatch.context() as broken:

        def full(*_args):
            raise StoreError("The disk of studio.db is full; nothing was changed.")

        broken.setattr(scored.store.receipts, "give", full)
        assert send(scored, shown.id, key).retry
    assert written(scored) == before
    assert send(scored, shown.id, key).revision == 1
    assert len(scored.annotation.history("Ann")) == 1


def test_one_page_of_two_people_has_two_rows_of_numbers(scored, shown):
    """Keys that were typed under a name come again under it, with the numbers that they had."""
    word = places(shown)[0]
    send(scored, shown.id, {"kind": "set", "word": word, "score": 3}, first=1, who="Ann")
    send(scored, shown.id, {"kind": "set", "word": word, "score": 4}, first=3, who="Bea")
    send(scored, shown.id, {"kind": "undo"}, first=2, who="Ann")
    assert [[x["action"] for x in scored.annotation.history(who)] for who in ("Ann", "Bea")] == [
        ["undo", "set"],
        ["set"],
    ]


def test_keys_of_a_page_that_is_gone_do_not_move_the_one_that_is_open(scored, shown):
    other = scored.annotation.next("Bea")
    done = send(scored, shown.id, {"kind": "submit"}, shown=other.id)
    assert (done.left, done.place) == (False, other.id)
    assert done.ack()["moved"] is False


def test_who_may_not_write_is_told_so_and_nothing_is_done(scored, shown):
    packet = read_packet(
        {"client": CLIENT, "sample": shown.id, "operations": [{"revision": 4, "kind": "submit"}]}
    )
    ack = inbox.refused(packet, ValueError("Sign in to score words.")).ack()
    assert (ack["revision"], ack["error"], ack["retry"]) == (4, "Sign in to score words.", False)


def test_another_person_is_named_and_a_nameless_one_is_somebody():
    assert desk.display_name("Bea") == "Bea"
    assert desk.display_name("anonymous-0123456789ab") == "somebody"
