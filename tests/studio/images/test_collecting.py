"""Collecting and scoring: resumable, in batches whose prompts differ, and never on seeds that judge."""

import unicodedata
from hashlib import sha256

import pytest
import torch

from core.noise import draw
from data.prompts import load
from studio.experiments.evaluation import unseen
from studio.images.prompts import EVALUATION_SEEDS, Prompts, seeds_for, split_of, without
from tests.tiny import STEPS

PROMPTS = ["a red circle", "a blue square", "a green star"]


def test_a_collection_that_was_stopped_goes_on_where_it_was_in_batches_of_any_size(studio):
    made = []
    first = studio.collecting.collect(PROMPTS, 3, steps=STEPS, batch=2, on_progress=lambda d, t: made.append((d, t)),
                           stop=lambda: len(made) > 2)  # fmt: skip
    assert 0 < len(first) < 9
    again = studio.collecting.collect(PROMPTS, 3, steps=STEPS, batch=4)
    assert len(again) == 9 and set(first) < set(again) and studio.store.samples.count() == 9
    assert studio.collecting.collect(PROMPTS, 3, steps=STEPS) == again
    noises = {
        row["noise_sha256"]: draw([row["seed"]], studio.models.diffuser().latent_shape())
        for row in studio.store.samples.find(ids=again)
    }
    assert all(sha256(noise[0].numpy().tobytes()).hexdigest() == kept for kept, noise in noises.items())
    assert len(studio.collecting.collect(["un café", "un cafe\u0301"], 1, steps=STEPS)) == 1  # one prompt
    (id,) = studio.collecting.collect(PROMPTS[:1], 1, "projected", steps=STEPS, strength=0.5)
    row = studio.store.samples.get(id)
    assert row["projector_run"].startswith("shipped-projector-") and row["strength"] == 0.5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prompts": []}, "no prompt"),
        ({"prompts": [""]}, "empty"),
        ({"prompts": [*PROMPTS, "🦊🌊"]}, "The prompt '🦊🌊' has no word that could be scored: name what"),
        *(({"prompts": [*PROMPTS, prompt]}, "has no word that could be scored")
          for prompt in ("the and of", "... !", "❤\ufe0f", "<lora:x:0.8>, BREAK", "\u200d\u0301")),
        ({"method": "magic"}, "not known"),
        ({"seeds_per_prompt": 0}, "out of range"),
        ({"seeds_per_prompt": 1.5}, "not a whole number"),
        ({"steps": 0}, "out of range"),
        ({"guidance": float("nan")}, "not a number"),
        ({"strength": 2}, "out of range"),
        ({"batch": -1}, "out of range"),
    ],
)  # fmt: skip
def test_bad_collections_are_refused(studio, change, says):
    with pytest.raises(ValueError, match=says):
        studio.collecting.collect(**{"prompts": PROMPTS, "seeds_per_prompt": 1, "steps": STEPS, **change})


def test_only_what_is_not_scored_is_scored_and_no_picture_that_was_changed(studio):
    first, second, third = studio.collecting.collect(PROMPTS, 1, steps=STEPS)
    assert studio.scoring.score([first]) == 1
    current = studio.store.scores.current(first)
    assert set(current) == {1, 2, 3}
    assert current[1]["vlm"]["scorer_version"] == studio.models.scorer().version
    path = studio.settings.home / studio.store.samples.get(second)["image_path"]
    path.write_bytes(path.read_bytes() + b"x")
    assert (studio.scoring.score(), studio.scoring.score()) == (1, 0)
    with pytest.raises(ValueError, match="was changed"):
        studio.scoring.score([second])
    with pytest.raises(ValueError, match="no sample"):
        studio.scoring.score([third, "nothing"])


def test_what_has_no_word_to_score_or_no_answer_with_a_digit_is_nothing_to_do_again(studio):
    """Samples without a word to score are in stores of earlier versions."""
    (first,) = studio.collecting.collect(PROMPTS[:1], 1, steps=STEPS)
    row = {k: v for k, v in studio.store.samples.get(first).items() if k not in ("seq", "id")}
    others = studio.store.samples.add(
        {**row, "prompt": prompt, "n_words": count} for prompt, count in (("🦊🌊", 0), ("the and of", 3))
    )
    scorer = studio.models.scorer()
    head = scorer.model.get_output_embeddings()
    bias = torch.zeros(head.out_features)
    bias[scorer.tokenizer.convert_tokens_to_ids("red")] = 100
    head.bias = torch.nn.Parameter(bias)
    try:
        asked = (None, None, others, [first, *others])
        assert [studio.scoring.score(*([ids] if ids else [])) for ids in asked] == [1, 0, 0, 0]
    finally:
        head.bias = None
    assert studio.store.scores.current(first) == {}
    why = "digits have 0% of the probability, less than 50%"
    notes = [(note["word_index"], note["reason"]) for note in studio.store.missing.find(first)]
    assert notes == [(index, why) for index in (1, 2, 3)]


@pytest.mark.parametrize("word", ["café", "한글"])
def test_both_forms_of_a_prompt_are_one_prompt_of_one_split(studio, tmp_path, word):
    own = [f"{word} {n}" for n in range(60)]
    other = [unicodedata.normalize("NFD", prompt) for prompt in own]
    (tmp_path / "own.txt").write_text("\n".join(own + other), encoding="utf-8")
    prompts = Prompts(str(tmp_path / "own.txt"))
    assert list(prompts.own) == own
    for a, b in zip(own, other, strict=True):
        assert (prompts.split_of(a), prompts.trains(a)) == (prompts.split_of(b), prompts.trains(b))
        assert without([a], [b]) == without([b], [a]) == []
    studio.prompts = prompts
    assert unseen(studio, other) == unseen(studio, own)


def test_every_prompt_has_seeds_of_its_own_and_evaluation_has_others():
    mine, yours = seeds_for("a red circle", 4), seeds_for("a blue square", 4)
    assert mine == seeds_for("a red circle", 4)
    assert seeds_for("a red circle", 2, first=2) == mine[2:]
    assert not set(mine) & set(yours)
    assert max(mine) < EVALUATION_SEEDS <= min(seeds_for("a red circle", 4, evaluation=True))


def test_held_out_prompts_are_known_as_such_and_never_those_that_were_trained_on():
    train, held = load("shapes_train", 20), load("shapes_heldout", 20)
    assert {split_of(p) for p in train} == {"train"}
    assert {split_of(p) for p in held} == {"heldout"}
    assert split_of("an astronaut on a horse") == "train"
    other_words = "there is a red circle to the left of a blue square"
    assert without([other_words, held[0]], ["a red circle left of a blue square"]) == [held[0]]
    assert without(["a fish", "a cat"], ["a fish"]) == ["a cat"]


def test_a_set_of_ones_own_is_split_by_hash_and_the_rest_is_trained_on(tmp_path):
    own = [f"an astronaut on horse {n}" for n in range(200)] + ["a red circle"]
    (tmp_path / "own.txt").write_text("\n".join(own))
    prompts = Prompts(str(tmp_path / "own.txt"))
    splits = {split: prompts.of(split, 1000) for split in ("train", "validation", "heldout")}
    assert sorted(p for of in splits.values() for p in of) == sorted(own)
    assert len(splits["train"]) > 140 and min(map(len, splits.values())) > 5
    assert all(prompts.split_of(p) == split for split, of in splits.items() for p in of)
    assert prompts.split_of("a red circle") == split_of("a red circle")
    assert prompts.split_of("typed in by someone") == "train"
    smaller = tmp_path / "smaller.txt"
    smaller.write_text("\n".join(own[:50]))
    assert all(Prompts(str(smaller)).split_of(p) == prompts.split_of(p) for p in own[:50])
    (tmp_path / "generation_prompts.txt").write_text("\n".join(own))
    assert Prompts(f"geneval:{tmp_path}").own == prompts.own
    with pytest.raises(ValueError, match="check its name"):
        Prompts(str(tmp_path / "nothing.txt")).of("train", 1)
