"""Weights in the WebUI's syntax: what is read, and what they do to hidden states."""

import pytest
import torch

from core.diffusion import Diffuser
from core.emphasis import is_weighted, parse, plain, token_weights, weighted
from core.options import Configured, Options
from tests import backbones

TIMES = 1.1


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("a red cat", [("a red cat", 1)]),
        ("a (red:1.3) cat", [("a ", 1), ("red", 1.3), (" cat", 1)]),
        ("a (red) cat", [("a ", 1), ("red", TIMES), (" cat", 1)]),
        ("a [red] cat", [("a ", 1), ("red", 1 / TIMES), (" cat", 1)]),
        ("((red))", [("red", TIMES**2)]),
        ("(big (blue:1.5) dog:0.5)", [("big ", 0.5), ("blue", 0.75), (" dog", 0.5)]),
        (r"a \(red\) \[cat\]", [("a (red) [cat]", 1)]),
        ("a (red cat", [("a ", 1), ("red cat", TIMES)]),
        ("a) b] :1.3)", [("a) b] :1.3)", 1)]),
        ("(a: b) at 16:9", [("a: b", TIMES), (" at 16:9", 1)]),
        ("a \\ b", [("a \\ b", 1)]),
        ("(red:0)", [("red", 0)]),
    ],
)
def test_a_prompt_is_read_as_the_webui_reads_it(prompt, pieces):
    parsed = parse(prompt)
    assert [text for text, _ in parsed] == [text for text, _ in pieces]
    assert [weight for _, weight in parsed] == pytest.approx([weight for _, weight in pieces])
    assert plain(prompt) == "".join(text for text, _ in pieces)
    assert is_weighted(prompt) == any(weight != 1 for _, weight in pieces)


@pytest.mark.parametrize("prompt", ["(red:11)", "(red:-1)", "(" * 40 + "red"])
def test_a_weight_out_of_range_is_refused(prompt):
    with pytest.raises(ValueError, match="not from 0 to 10"):
        parse(prompt)


@pytest.mark.parametrize("name", ["sdxl", "sd15", "sd3", "flux-dev", "sana", "qwen", "z-image"])
def test_the_tokens_of_a_part_have_its_weight_however_many_there_are_and_whatever_stands_around_them(name):
    """All tokenizers here but SDXL's have a token for every letter."""
    diffuser = Diffuser(backbones.build(name), size=(64, 64))
    text = diffuser.encode(["a red circle above", "a red circle"])
    rows = token_weights(diffuser, ["a (red:1.3) circle [above]", "a red circle"], text.mask)
    words, expected = text.located[0], torch.ones(text.mask.shape[1])
    expected[list(words[1].tokens)], expected[list(words[3].tokens)] = 1.3, 1 / TIMES
    first = 77 if name == "sd3" else len(expected)  # its second stretch has the tokens of T5
    assert torch.allclose(rows[0, :first], expected[:first]) and torch.equal(
        rows[1], torch.ones_like(rows[1])
    )
    assert name != "sd3" or (rows[0, first:] == 1.3).sum() in (3, 4)


@pytest.mark.parametrize("name", ["sdxl", "sd3", "klein", "sana", "qwen", "pixart", "z-image"])
def test_the_tokens_of_a_negative_prompt_have_the_weights_that_they_would_have_in_a_prompt(name):
    diffuser, typed = Diffuser(backbones.build(name), size=(64, 64)), "a (red:1.3) circle [above]"
    if name == "klein":
        diffuser.pipe.register_to_config(is_distilled=False)
    text = Configured(diffuser, Options(negative=typed, weighted=True)).encode(["a star", "a red circle"])
    expected = Configured(diffuser, Options(weighted=True)).encode([typed]).emphasis
    length = min(expected.shape[1], text.negative_emphasis.shape[1])  # some are as long as the longest text
    # SANA puts an instruction before the prompt alone
    assert name == "sana" or torch.equal(
        text.negative_emphasis[:, :length], expected[:, :length].repeat(2, 1)
    )
    for weight in set(expected.unique().tolist()) - {1.0}:
        assert (text.negative_emphasis[0] == weight).sum() == (expected == weight).sum() > 0
    assert text.negative_emphasis.shape == text.negative.shape[:2]


def test_weights_scale_hidden_states_and_restore_their_mean():
    states = torch.randn(2, 5, 8) + 1
    scaled = weighted(states, torch.tensor([[1, 2, 1, 1, 1.0], [1, 1, 1, 1, 1]]))
    assert torch.allclose(scaled.mean((1, 2)), states.mean((1, 2)), atol=1e-6)
    assert torch.allclose(scaled[0, 1] / scaled[0, 0], 2 * states[0, 1] / states[0, 0], rtol=1e-4)
    assert torch.equal(scaled[1], states[1])
    centred = states - states.mean((1, 2), keepdim=True)  # has no mean that could be restored
    assert torch.equal(weighted(centred, torch.full((2, 5), 2.0)), 2 * centred)
