"""The reward model against the scorer: the figure, what is left out, and what the queue does meanwhile."""

import threading

import numpy as np
import pytest

from core.evaluation.choosing import predict
from core.noise import draw
from core.scoring.scores import entropy, expected
from studio.annotation import foreseeing
from studio.images.making import encode
from tests import tiny
from tests.tiny import change_settings


def points(studio, figure="points"):
    with studio.store.database.reading() as db:
        return dict(db.execute(f"SELECT sample, {figure} FROM foreseen").fetchall())


def test_the_work_can_be_bounded_stopped_and_gone_on_with(scored):
    assert scored.foreseeing.foresee(5) == {"compared": 5, "left_out": 0, "missing": 7}
    assert set(points(scored)) == {row["id"] for row in scored.store.samples.find(limit=5)}
    stop = threading.Event()
    scored.foreseeing.foresee(on_progress=lambda done, total: stop.set() if done else None, stop=stop)
    assert len(points(scored)) == 5 + scored.settings.batch
    scored.foreseeing.foresee()
    assert len(points(scored)) == 12
    with pytest.raises(ValueError, match="number of samples"):
        scored.foreseeing.foresee(0)


def test_projected_noise_is_projected_again_and_a_noise_that_cannot_be_had_is_left_out(scored, sample_row):
    prompt = scored.store.samples.find(limit=1)[0]["prompt"]
    (projected,) = scored.collecting.collect([prompt], 1, "projected", steps=tiny.STEPS)
    scored.scoring.score([projected])
    known = scored.store.samples.get(projected)
    fields = {k: known[k] for k in ("prompt", "n_words", "backbone", "backbone_revision", "width", "height")}
    (chosen,) = scored.store.samples.add([sample_row(**fields, seed=7, noise_sha256="b" * 64)])
    scored.store.scores.add([{"sample": chosen, "word_index": 1, "source": "vlm", "score": 3}])
    assert scored.foreseeing.foresee() == {"compared": 13, "left_out": 1, "missing": 0}
    assert projected in points(scored)
    assert chosen not in points(scored)


def test_without_a_reward_model_the_sentence_says_so(scored):

    change_settings(scored, reward=scored.settings.home / "nowhere")
    with pytest.raises(ValueError, match="There is no reward yet"):
        scored.foreseeing.foresee()
    assert scored.annotation.next("ann", "reward") is None or scored.foreseer.busy
    scored.foreseer._thread.join()
    assert "There is no reward yet" in scored.annotation.why_next("reward")


def test_asking_for_the_order_fills_it_and_the_furthest_apart_comes_first(scored, monkeypatch):
    monkeypatch.setattr(foreseeing, "FIRST", 30)
    first = scored.annotation.next("ann", "reward")
    scored.foreseer._thread.join()
    found = points(scored)
    assert len(found) == 12
    assert first.id in found
    assert scored.annotation.next("bob", "reward", lease=None, exclude=first.id).id == max(
        (id for id in found if id != first.id), key=lambda id: found[id]
    )
    assert scored.annotation.why_next("reward").endswith("One of the two is wrong.")


@pytest.mark.parametrize("taught", [False, True])
def test_a_samples_figures_are_of_its_words_and_of_nothing_else_where_it_was_taught(scored, taught):
    """The gap is that between the two models, the promise what is expected where the scorer is unsure."""
    scored.models.using("reward").model.register_to_config(extra=taught)
    seen = []
    found = scored.foreseeing.foresee(on_progress=lambda done, total: seen.append((done, total)))
    assert found == {"compared": 12, "left_out": 0, "missing": 0}
    assert (seen[0], seen[-1]) == ((0, 12), (12, 12))
    row = scored.store.samples.find(limit=1)[0]
    diffuser = scored.models.diffuser()
    noise = draw([row["seed"]], diffuser.latent_shape(row["height"], row["width"]))
    _, (words,) = predict(scored.models.using("reward").model, noise, encode(diffuser, [row["prompt"]]))
    vlm = {i: said["vlm"]["distribution"] for i, said in scored.store.scores.current(row["id"]).items()}
    assert set(vlm) - set(words) == (set() if taught else {row["n_words"] - 1})
    gaps = [9 * abs(value - float(expected(np.array(vlm[i])))) for i, value in words.items()]
    assert points(scored)[row["id"]] == pytest.approx(np.mean(gaps), abs=1e-3)
    promises, unsure = points(scored, "promise"), {i: float(entropy(np.array(p))) for i, p in vlm.items()}
    assert promises[row["id"]] == pytest.approx(np.mean([words[i] * unsure[i] for i in words]), abs=1e-3)
    first = scored.annotation.next("Ann", "projected", lease=None)
    assert promises[first.id] == max(promises.values())
    assert scored.foreseeing.foresee() == {"compared": 0, "left_out": 0, "missing": 0}


def test_while_it_is_computed_the_page_answers_and_says_so(scored, monkeypatch):
    monkeypatch.setattr(foreseeing, "FIRST", 0.05)
    with scored.models.lock:  # the models are at other work
        view = scored.annotation.next("ann", "reward")
        while not scored.foreseer.total:
            pass
        assert "asked about 0 of 12 images" in scored.annotation.why_next("reward")
    assert view.id == scored.annotation.next("ann", "uncertainty").id
    scored.foreseer._thread.join()
    assert scored.foreseer.notice() == ""
    assert not scored.foreseer.busy
