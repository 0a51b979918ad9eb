"""A scorer behind a server in the studio: what it could not answer is noted as missing, what it did not is asked again."""

import json

import numpy as np
import pytest

from core.evaluation.methods import BestOf
from core.evaluation.report import compare as compare_methods
from core.scoring.endpoint import EndpointScorer, Unanswered
from core.words import NOTHING_ELSE, scored, split
from data.prompts import load
from studio.__main__ import main
from studio.cli import commands
from studio.errors import sentence
from studio.images import scoring
from studio.images.models import Models
from studio.images.scoring import Scoring
from studio.pages.compare import change
from studio.settings import Settings
from studio.studio import check_request
from studio.training import datasets, heldout, replay
from tests.judge import Judge, as_reply, completion, data_of, digit_of
from tests.tiny import STEPS, change_settings

PROMPTS = ["a red circle", "a blue square", "a green star", "a red heart", "a blue ring"]
KEY = "sk-very-secret-0123456789"


@pytest.fixture
def judge():
    with Judge() as judge:
        yield judge


@pytest.fixture
def far(studio, judge, monkeypatch):
    """The studio with the judge's server as its scorer, which is asked without long pauses."""
    monkeypatch.setenv("STUDIO_SCORER_KEY", KEY)
    change_settings(studio, scorer=judge.url, batch=2, scorer_parallel=3)
    studio.models._scorer = None
    line = studio.models.scorer().line
    line.back_off, line.retries = 0.001, 1
    return studio


def without(judge, *words):
    """Replies that are prose for these words, and good for others."""
    return lambda p: as_reply(completion("Hm.")) if data_of(p)["word"] in words else judge.good(p)


def test_a_word_without_a_readable_answer_is_noted_and_not_asked_again(far, judge):
    ids = far.collecting.collect(PROMPTS[:3], 1, steps=STEPS)
    judge.reply = without(judge, "blue", "green", "star")
    assert far.scoring.score(ids) == 3
    said = far.store.scores.current(ids[0])[1]["vlm"]
    assert (said["score"], said["scorer_version"]) == (digit_of("red"), far.models.scorer().version)
    assert "/logprobs/png" in said["scorer_version"]
    assert {headers["Authorization"] for headers, _ in judge.asked} == {f"Bearer {KEY}"} and judge.most <= 3
    assert [sorted(far.store.scores.current(id)) for id in ids] == [[1, 2, 3], [2, 3], [3]]
    assert [[note["word_index"] for note in far.store.missing.find(id)] for id in ids] == [[], [1], [1, 2]]
    note = far.store.missing.find(ids[1])[0]
    assert note["scorer_version"] == said["scorer_version"] and "probabilities" in note["reason"]
    count = len(judge.asked)
    assert far.scoring.score() == 0 and far.scoring.score(ids) == 0 and len(judge.asked) == count


def test_a_server_that_dies_midway_loses_nothing_and_the_rest_is_asked_later(far, judge):
    def dies(asked):
        return None if "green" in data_of(asked)["prompt"] or len(judge.asked) > 12 else judge.good(asked)

    ids = far.collecting.collect(PROMPTS, 1, steps=STEPS)
    judge.reply = dies
    with pytest.raises(Unanswered, match="score again") as raised:
        far.scoring.score()
    assert sentence(raised.value) == str(raised.value)
    done = [id for id in ids if far.store.scores.current(id)]
    assert ids[:2] == done[:2] and ids[2] not in done
    assert all(len(far.store.scores.current(id)) == 3 and not far.store.missing.find(id) for id in done)
    judge.reply = judge.good
    judge.asked.clear()
    assert far.scoring.score() == len(ids) - len(done)
    assert len(judge.asked) == 3 * (len(ids) - len(done))
    assert all(len(far.store.scores.current(id)) == 3 for id in ids)


@pytest.mark.parametrize("lent", [False, True])
def test_one_image_without_an_answer_does_not_hold_up_the_next_batches(far, judge, monkeypatch, lent):
    """Where a GPU is lent, a server is asked without it: that it is lent is a fake, the Space's own machinery gives it."""
    ids = far.collecting.collect(PROMPTS, 1, steps=STEPS)
    monkeypatch.setattr(scoring.gpu, "apart", lambda: lent)
    monkeypatch.setattr(Scoring, "_read_apart", lambda *_: 1 / 0)
    change_settings(far, batch=1 + lent)
    judge.reply = lambda p: as_reply("", 500) if "star" in data_of(p)["prompt"] else judge.good(p)
    with pytest.raises(Unanswered, match=r"for 1 images \(status 500\)"):
        far.scoring.score()
    assert [len(far.store.scores.current(id)) for id in ids] == [3, 3, 0, 3, 3]
    judge.reply = judge.good
    assert far.scoring.score(stop=lambda: True) == 0  # it stops between questions
    assert far.scoring.score() == 1


def test_a_server_that_is_down_marks_nothing_and_a_comparison_is_kept_and_shown(far, judge):
    ids = far.collecting.collect(PROMPTS[:1], 1, steps=STEPS)
    judge.close()
    for ask in (far.scoring.score, lambda: far.scoring.score(ids)):
        with pytest.raises(Unanswered, match="does not answer"):
            ask()
    assert far.store.scores.current(ids[0]) == {} and far.store.missing.find(ids[0]) == []
    last = list(far.comparison.compare(check_request(PROMPTS[0], "1", steps=STEPS)))[-1]
    assert last.stage == "done" and "does not answer" in last.message
    assert last.pairs[0].none.image_path and last.pairs[0].none.total is None


def test_a_missing_word_is_shown_as_unscored_can_be_corrected_and_is_no_part_of_a_comparison(far, judge):
    first, second = far.collecting.collect(PROMPTS[:1], 2, steps=STEPS)
    far.scoring.score([first])
    judge.reply = without(judge, "circle")
    far.scoring.score([second])
    whole, view = far.annotation.sample(first), far.annotation.sample(second, "Ann")
    assert (change(whole, view), change(whole, whole)) == (None, 0)
    assert [word.score for word in view.words] == [None, digit_of("red"), None, digit_of(NOTHING_ELSE)]
    assert view.total == pytest.approx((view.words[1].expected + view.words[3].expected) / 2)
    assert far.annotation.accept(second, "Ann").words[2].score is None
    assert far.annotation.correct(second, 2, 7, "Ann").words[2].score == 7


def test_a_report_leaves_out_what_was_not_scored_and_chooses_it_last():
    half = [[[1, 0.2, 2], [2, 0.2, 2]], [[1, 1.0, 9]]]  # the second image's second word is missing
    items = [{"strict": k, "words": {"1": k, "2": k}, "extra": 0} for k in (1, 0)]
    record = {
        "method": "none", "prompt": PROMPTS[0], "used": [1, 2], "seconds": 1.0, "network_calls": 2, "other_calls": {},
        "items": items, "distances": [0.1], "scores": half,
    }  # fmt: skip
    found = compare_methods(PROMPTS[:1], {"none": [record]}, [BestOf(2)], draws=10)["methods"]
    assert found["none"]["scorer"]["estimate"] == pytest.approx(0.2)
    assert found["best-of-2"]["strict"]["estimate"] == 1.0
    assert found["best-of-2"]["scorer"]["estimate"] == pytest.approx(0.2)  # of the one that is chosen


@pytest.mark.parametrize("logprobs", [True, False])
def test_what_a_server_scored_is_corrected_calibrated_and_trained_on(far, judge, logprobs):
    judge.logprobs = logprobs
    ids = far.collecting.collect(load("shapes_train", 6, "small"), 2, steps=STEPS)
    ids += far.collecting.collect(load("shapes_validation", 2), 1, steps=STEPS)
    assert far.models.scorer().version
    lost = scored(split(far.store.samples.get(ids[0])["prompt"]))[0].text

    def lacking(asked):
        data = data_of(asked)
        if logprobs:
            return as_reply(completion("Hm.")) if data["word"] == lost else judge.good(asked)
        return as_reply(completion("{}")) if lost in data["words"].values() else judge.good(asked)

    judge.reply = lacking
    far.scoring.score()
    assert any(far.store.missing.find(id) for id in ids)
    far.annotation.simulate(count=50)
    assert replay.gather(far).features is None
    run = far.training.train("calibrator", {"corrections_needed": 20})
    assert run["state"] == "done" and run["metrics"]["report"]["hidden"] is False
    far.runs.promote(run["id"], "Ann", force=True)
    assert far.models.using("calibrator").model.scorer == far.models.scorer().version
    judge.reply = without(judge, "cross") if logprobs else judge.good
    new = far.collecting.collect(["a purple cross"], 1, steps=STEPS)
    assert far.scoring.score(new) == 1  # the calibrator in use speaks of what was scored
    assert (
        far.training.train("reward", {"reward_steps": 2, "reward_batch": 8, "pictures": False})["state"]
        == "done"
    )
    assert datasets.store_samples(far, far.store.labels.current(), 1.0)[0]


def test_the_address_model_and_limit_come_from_the_environment(judge):
    env = {"STUDIO_SCORER": f"{judge.url}/v1/", "STUDIO_SCORER_MODEL": "mine", "STUDIO_SCORER_PARALLEL": "3"}
    found = Settings.from_env(env)
    assert (found.scorer, found.scorer_model, found.scorer_parallel) == (judge.url, "mine", 3)
    scorer = Models(found, None).scorer()
    assert isinstance(scorer, EndpointScorer)
    assert (scorer.address, scorer.model, scorer.line.parallel) == (judge.url, "mine", 3)
    assert Models(Settings(scorer=judge.url), None).scorer().model == ""
    assert judge.asked == []  # nobody is asked before a score is needed


@pytest.mark.parametrize(
    "given", ["http://me:hunter2@host", "https://host/v1?key=hunter2", "HTTP://hunter2@host"]
)
def test_an_address_with_a_secret_is_refused_and_not_repeated(given, monkeypatch, capsys):
    monkeypatch.setenv("STUDIO_SCORER", given)
    with pytest.raises(ValueError, match="STUDIO_SCORER_KEY") as raised:
        Settings.from_env()
    assert main(["status"]) == 2
    said = capsys.readouterr()
    assert "hunter2" not in str(raised.value) + said.out + said.err
    assert "http://host:8000" in said.err


def test_the_key_is_in_no_setting_status_or_file(far, judge, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(commands, "studio_of", lambda given: far)
    far.scoring.score(far.collecting.collect(PROMPTS[:1], 1, steps=STEPS))
    for command in ("status", "settings"):
        assert main([command, "--json", str(tmp_path / f"{command}.json")]) == 0
    assert json.loads((tmp_path / "status.json").read_text())["scorer"] == judge.url
    assert KEY not in f"{capsys.readouterr()}{far.settings!r}{far.settings.env()}"
    files = [p for folder in (tmp_path, far.settings.home) for p in folder.rglob("*") if p.is_file()]
    assert all(KEY.encode() not in path.read_bytes() for path in files)


def test_the_judge_of_a_training_guesses_nothing_of_missing_words(far, judge):
    image = np.zeros((16, 16, 3), np.uint8)
    by, name = heldout.judge_of(far, ["a horse on a hill"])
    assert name == "scorer"
    assert set(by("a horse on a hill", image)["words"]) == {1, 2, 4}
    judge.reply = without(judge, "hill")
    assert by("a horse on a hill", image) is None
