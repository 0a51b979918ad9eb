"""core/training/scorer.py: packed training is the read-out's computation, it learns, resumes to the bit and saves."""

import dataclasses

import numpy as np
import pytest
import torch

from core.training import scorer as training
from core.training.scorer import Example, Question, evaluate_scorer, pack, roughen, train_scorer
from core.training.scorer_model import ScorerConfig, make_scorer, make_tokenizer
from core.words import scored, units

VOCABULARY = "a the of to is red blue circle square above below left right and where".split()
TINY = ScorerConfig(image=32, patch=8, vision_width=32, vision_depth=1, width=32, depth=2, heads=2, feed=48)
COLOURS = {"red": (220, 30, 30), "blue": (30, 60, 220)}


def picture(colour, seed=0, size=32):
    rng = np.random.default_rng(seed)
    image = np.full((size, size, 3), 220, np.uint8)
    x, y = rng.integers(1, 6, 2)
    image[y : size - y, x : size - x] = COLOURS[colour]
    return image


def examples(step, count=8):
    """A square of one of two colours, one of which the prompt names."""
    rng = np.random.default_rng([5, step])
    made = []
    for _ in range(count):
        shown, named = str(rng.choice(["red", "blue"])), "red"
        truths = (float(shown == named), 1.0, float(shown == named))
        made.append(
            Example(
                picture(shown, int(rng.integers(1000))),
                (Question(f"a {named} square", truths),),
                (("where", f"{shown} square"),),
                (({shown: 0.5, "square": 0.5}, 0.5, 0.5, 0.4),),
                True,
            )
        )
    return made


@pytest.fixture(scope="module")
def fresh():
    return make_scorer(VOCABULARY, TINY)


def test_a_packed_sequence_gives_what_the_read_out_gives(fresh):
    prompts = [("a red circle above a blue square", "a blue square"), ("a red square",)]
    packed = [
        Example(
            np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8),
            tuple(Question(p, (1.0,) * len(scored(units(p)))) for p in asked),
            (("where", "red square left of blue circle"), ("red", "blue")),
        )
        for i, asked in enumerate(prompts)
    ]
    batch = pack(packed, fresh)
    with torch.no_grad():
        logits, *_ = training.answers(fresh, batch)
    together = logits[:, fresh.dialogue.digits].softmax(-1).numpy()
    alone = [
        score.distribution
        for example in packed
        for question in example.questions
        for score in fresh.score([example.image], [question.prompt], least=0)[0]
    ]
    assert len(together) == len(alone) == 12
    assert np.abs(together - np.stack(alone)).max() < 1e-4


def test_captions_are_predicted_at_the_positions_after_the_request(fresh):
    batch = pack([Example(picture("red"), (), (("where", "red square"),))], fresh)
    caption = fresh.tokenizer.convert_ids_to_tokens(batch.caption_ids.tolist())
    assert caption == ["red", "square", "<|im_end|>"]
    before = batch.ids[batch.caption_at[:, 0], batch.caption_at[:, 1]].tolist()
    assert fresh.tokenizer.convert_ids_to_tokens(before) == ["assistant", "red", "square"]


def test_the_targets_of_image_tokens_are_the_words_of_the_things_there_and_of_their_place(fresh):
    things = (({"red": 0.5, "circle": 0.3, "square": 0.2}, 0.25, 0.25, 0.2),)
    shown = [Example(picture("red"), (), (), things, True), Example(picture("red"), ())]
    known, unknown, empty = training.sights([*shown, Example(picture("red"), (), mapped=True)], fresh)
    words = [set(fresh.tokenizer.convert_ids_to_tokens(row.nonzero().flatten().tolist())) for row in known]
    sides = {"left", "right", "above", "below"}
    assert [one - sides for one in words] == [{"red", "circle", "square"}] + [{"nothing"}] * 3
    assert known.sum(-1).tolist() == empty.sum(-1).tolist() == pytest.approx([1] * 4)
    assert unknown.sum() == 0
    left, right, above, below, nothing = (
        empty[:, fresh.tokenizer.convert_tokens_to_ids(word)].tolist()
        for word in ("left", "right", "above", "below", "nothing")
    )
    assert nothing == pytest.approx([1 - training.SIDED] * 4)
    assert (left, right) == (pytest.approx([0.15, 0.05, 0.15, 0.05]), pytest.approx([0.05, 0.15, 0.05, 0.15]))
    assert (above, below) == (
        pytest.approx([0.15, 0.15, 0.05, 0.05]),
        pytest.approx([0.05, 0.05, 0.15, 0.15]),
    )


def test_names_are_trained_on_their_place_and_a_relation_on_the_direction_between_them(fresh):
    prompt, places = "a red circle above a blue circle", ((0.2, 0.3), (0.6, 0.9))
    asked = Question(prompt, (None, None, 1.0, None, None, 0.0), places)
    batch = pack([Example(picture("red"), (asked,))], fresh)
    (relation, _), ids = batch.answer_at.tolist(), batch.ids[0].tolist()
    assert batch.relation_at.tolist() == [relation]
    assert batch.directions.tolist() == [pytest.approx([-0.4, -0.6])]
    circle = fresh.tokenizer.convert_tokens_to_ids("circle")
    assert [row[1] for row in batch.name_at.tolist()] == [k for k, id in enumerate(ids) if id == circle]
    assert batch.name_places.tolist() == [pytest.approx(place) for place in places * 2]
    values = training.losses(fresh, batch)
    assert {"place", "heading"} <= set(values) and all(torch.isfinite(value) for value, _ in values.values())
    half = pack([Example(picture("red"), (dataclasses.replace(asked, places=(places[0], None)),))], fresh)
    assert half.name_at.tolist()[0] == [
        0,
        ids.index(circle),
    ]  # the first circle of the prompt, not the second
    assert half.name_places.tolist() == [pytest.approx(places[0])] * 2
    plain = pack([Example(picture("red"), (dataclasses.replace(asked, places=()),))], fresh)
    assert not {"place", "heading"} & set(training.losses(fresh, plain))


def test_what_does_not_fit_the_prompt_or_the_patches_is_refused_with_a_sentence(fresh):
    for prompt, truths, places, says in (
        ("a red square", 3, ((0, 0), (1, 1)), "names 1 things, but 2 places"),
        ("a red star", 3, ((0, 0),), "does not know the name 'star'"),
        ("a red square", 1, (), "3 scored words, .nothing else. among them, but 1 truths"),
    ):
        with pytest.raises(ValueError, match=says):
            pack([Example(picture("red"), (Question(prompt, (1.0,) * truths, places),))], fresh)
    with pytest.raises(ValueError, match="not a multiple of two patches"):
        make_scorer(VOCABULARY, dataclasses.replace(TINY, image=36))


def test_it_learns_to_score_from_renders_alone():
    scorer = make_scorer(VOCABULARY, TINY)
    seen = []
    options = {"steps": 110, "sight_steps": 20, "caption_steps": 20, "rate": 4e-3, "chunk": 8}
    train_scorer(scorer, examples, **options, on_progress=lambda p: seen.append(p.metrics))
    assert set(seen[0]) == {"loss", "sight"}
    assert set(seen[-1]) == {"loss", "sight", "caption", "score"}
    figures = evaluate_scorer(scorer, examples(10_000, 40))
    assert figures["colour"]["auc"] > 0.95
    assert figures["all"]["words"] == 120
    assert figures["extra"]["auc"] > 0.95
    assert figures["object"]["mae"] < 0.3


def test_a_stopped_run_resumes_to_the_same_bits(tmp_path):
    whole = make_scorer(VOCABULARY, TINY)
    options = {"steps": 6, "sight_steps": 2, "caption_steps": 2, "chunk": 4}
    train_scorer(whole, lambda step: examples(step, 4), **options)

    stopped = make_scorer(VOCABULARY, TINY)
    done = []
    result = train_scorer(
        stopped,
        lambda step: examples(step, 4),
        **options,
        folder=tmp_path,
        on_progress=done.append,
        stop=lambda: len(done) == 3,
    )
    assert result.stopped
    again = make_scorer(VOCABULARY, TINY, seed=9)
    train_scorer(again, lambda step: examples(step, 4), **options, folder=tmp_path)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_the_tokenizer_writes_words_digits_and_marks_apart():
    tokenizer = make_tokenizer(["red"])
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("A *Red* 42 zebra, LEFT.")["input_ids"])
    assert pieces == ["a", "*", "red", "*", "4", "2", "<|unk|>", ",", "left", "."]
    assert {"left", "right", "above", "below", "nothing"} <= set(tokenizer.get_vocab())


def test_roughened_pictures_are_the_same_for_the_same_seed_and_still_recognisable():
    images = np.stack([picture("red", i, 64) for i in range(24)])
    first = roughen(images, np.random.default_rng(3))
    assert np.array_equal(first, roughen(images, np.random.default_rng(3)))
    assert first.dtype == np.uint8
    assert (first != images).any(axis=(1, 2, 3)).mean() > 0.5
    assert np.abs(first.astype(int) - images).mean() < 12


def test_a_word_without_a_truth_is_not_asked_for(fresh):
    question = Question("a red square", (None, 1.0, None))
    batch = pack([Example(picture("red"), (question,))], fresh)
    assert len(batch.answer_at) == 1
    whole = pack([Example(picture("red"), (Question("a red square", (0.0, 1.0, 0.0)),))], fresh)
    with torch.no_grad():
        alone, among = training.answers(fresh, batch)[0][0], training.answers(fresh, whole)[0][1]
    assert torch.allclose(alone, among, atol=1e-4)
