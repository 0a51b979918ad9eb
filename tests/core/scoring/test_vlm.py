"""core/scoring/vlm.py: the fast read-out is the plain one, prompts stay data, and folders load through Auto classes."""

import json
import shutil
from itertools import chain

import numpy as np
import pytest
import torch
from PIL import Image

from core.checkpoint import CheckpointError
from core.scoring.dialogue import DENIED, Dialogue, mark
from core.scoring.vlm import VLMScorer
from core.training.scorer_model import make_scorer, save_scorer
from core.words import scored, units
from tests.core.scoring.conftest import TINY, VOCABULARY

PROMPTS = ["a red circle above a blue square", "a green star", "a red star and a blue circle", "of the"]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tiny_scorer, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "scorer"
    save_scorer(tiny_scorer, path)
    return path


def plainly(scorer, image, prompt, word):
    """p(digit) and the hidden state by the model's own forward of one word, image and all."""
    inputs = scorer.image_processor(images=[Image.fromarray(image)], return_tensors="pt")
    tokens = int(inputs["image_grid_thw"].prod()) // 4
    ids = torch.tensor([scorer.dialogue.prefix(tokens) + scorer.dialogue.question(prompt, word)])
    with torch.no_grad():
        out = scorer.model(
            input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True,
            mm_token_type_ids=(ids == scorer.model.config.image_token_id).int(), **inputs,
        )  # fmt: skip
    return out.logits[0, -1, scorer.dialogue.digits].softmax(-1), out.hidden_states[-1][0, -1]


def test_the_shared_cache_gives_what_one_word_at_a_time_gives(tiny_scorer, images):
    given = tiny_scorer.score(images, PROMPTS, batch=3)
    for scores, image, prompt in zip(given, images, PROMPTS, strict=True):
        asked = scored(units(prompt))
        assert [score.word_index for score in scores] == [word.index for word in asked]
        for score, word in zip(scores, asked, strict=True):
            p, hidden = plainly(tiny_scorer, image, prompt, word)
            assert np.abs(score.distribution - p.numpy()).max() < 1e-4
            assert np.abs(score.hidden.astype(np.float32) - hidden.numpy()).max() < 5e-3
            assert score.hidden.dtype == np.float16 and score.score == int(p.argmax())


def test_images_of_several_sizes_are_scored_in_one_call_as_alone_however_many_words_a_pass_takes(
    tiny_scorer, images, monkeypatch
):
    mixed = [images[0], Image.fromarray(images[1]).resize((64, 16)), images[2]]
    together = tiny_scorer.score(mixed, PROMPTS[:3])
    alone = [tiny_scorer.score([image], [p])[0] for image, p in zip(mixed, PROMPTS, strict=False)]
    monkeypatch.setattr("core.scoring.vlm.MAX_ROWS", 2)
    for other in (alone, tiny_scorer.score(mixed, PROMPTS[:3])):
        for a, b in zip(chain(*together), chain(*other), strict=True):
            assert np.abs(a.distribution - b.distribution).max() < 1e-5
    asked = iter([False, True])
    given = tiny_scorer.score(images[:2], PROMPTS[:2], batch=1, stop=lambda: next(asked))
    assert given[0] and not given[1] and tiny_scorer.missing == [{}] * 2


def test_a_saved_scorer_loads_through_the_auto_classes_says_the_same_and_knows_its_damage(
    tiny_scorer, folder, images, tmp_path
):
    loaded = VLMScorer.load(folder, device="cpu")
    assert loaded.model.dtype == torch.float32
    same = zip(chain(*tiny_scorer.score(images, PROMPTS)), chain(*loaded.score(images, PROMPTS)), strict=True)
    assert all(np.abs(a.distribution - b.distribution).max() < 5e-3 for a, b in same)  # float16 on disk
    assert all(file.stat().st_size < 10_000_000 for file in folder.iterdir())
    version = loaded.version
    assert version.startswith("marked-") and "@" in version and version.endswith("Pil")
    save_scorer(make_scorer(VOCABULARY, TINY, seed=1), tmp_path / "other")
    assert VLMScorer.load(tmp_path / "other").version != version
    weights = tmp_path / "other" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 255
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        VLMScorer.load(tmp_path / "other")
    with pytest.raises(ValueError, match="cannot be loaded.*give a folder"):
        VLMScorer.load(tmp_path)


def test_a_chat_template_that_only_the_processor_has_is_found(folder, tmp_path, tiny_scorer):
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / "manifest.json").unlink()
    template = (bare / "chat_template.jinja").read_text()
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="no chat template"):
        VLMScorer.load(bare)
    (bare / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert VLMScorer.load(bare).dialogue.head == tiny_scorer.dialogue.head


def test_the_asked_word_alone_is_marked_a_relation_at_its_head_and_a_denial_with_what_it_means(tiny_scorer):
    prompt = "a *red* circle, 5 * red"
    assert mark(prompt, scored(units(prompt))[0]) == "a  *red*  circle, 5   red"
    for prompt, asked in (
        ("a red circle to the left of a star", "a red circle to the *left* of a star"),
        ("a circle with no star", f"a circle with *no star* ({DENIED})"),
    ):
        (word,) = [word for word in units(prompt) if " " in word.text and word.kind != "extra"]
        assert tiny_scorer.dialogue.question(prompt, word) == tiny_scorer.dialogue.ask(asked)
    for prompt, asked in (
        ("a red circle", "a red circle, and *nothing else*"),
        ("A red *circle*. ", "A red  circle, and *nothing else*"),
        ("one; two,", "one; two, and *nothing else*"),
    ):
        assert mark(prompt, units(prompt)[-1]) == asked
    known = tiny_scorer.tokenizer("a red circle, and *nothing else*", add_special_tokens=False)["input_ids"]
    assert tiny_scorer.tokenizer.unk_token_id not in known


@pytest.mark.parametrize("other", ["star", "a", "<|im_end|>"])
def test_half_of_the_probability_is_the_least_that_is_a_digit(images, other):
    scorer = make_scorer(VOCABULARY, TINY)
    head, digits = scorer.model.get_output_embeddings(), scorer.dialogue.digits
    odd = scorer.tokenizer.convert_tokens_to_ids(other)
    head.weight.data.zero_()
    for share, read in ((0.51, True), (0.49, False), (0.02, False), (0.999, True)):
        # a bias alone decides: the ten digits have this share, another token has the rest
        head.bias = torch.nn.Parameter(torch.full((head.out_features,), -100.0))
        head.bias.data[digits] = float(np.log(share / 10))
        head.bias.data[odd] = float(np.log(1 - share))
        result = scorer.score(images[:1], ["a red circle"])[0]
        assert [score.word_index for score in result] == ([1, 2, 3] if read else [])
        assert all(np.abs(score.distribution - 0.1).max() < 1e-6 for score in result)
        why = f"digits have {share:.0%} of the probability, less than 50%"
        assert scorer.missing == [{} if read else dict.fromkeys((1, 2, 3), why)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": PROMPTS[:2]}, "4 images but 2 prompts"),
        ({"batch": 0}, "batch is 0"),
        ({"images": np.zeros((4, 32, 32), np.uint8)}, "uint8 of shape"),
        ({"images": np.zeros((4, 32, 32, 3), np.float32)}, "uint8 of shape"),
        ({"prompts": ["", *PROMPTS[1:]]}, "prompt is empty"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(tiny_scorer, images, change, message):
    with pytest.raises(ValueError, match=message):
        tiny_scorer.score(**{"images": images, "prompts": PROMPTS, **change})


class Letters:
    """A tokenizer that writes a digit as two tokens."""

    unk_token_id, added_tokens_decoder = 0, {}

    def apply_chat_template(self, messages, chat_template=None, **_):
        return "i" + messages[1]["content"][1]["text"] + "t"

    def __call__(self, text, **_):
        return {"input_ids": [v for c in text for v in ([1, ord(c)] if c.isdigit() else [ord(c)])]}


def test_a_dialogue_without_digits_or_an_image_is_refused(tiny_scorer):
    with pytest.raises(ValueError, match="each digit as one token"):
        Dialogue(Letters(), ord("i"))
    image = tiny_scorer.model.config.image_token_id
    with pytest.raises(ValueError, match="image tokens"):
        Dialogue(tiny_scorer.tokenizer, image, "{{ messages[1]['content'][1]['text'] }}")
