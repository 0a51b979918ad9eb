"""core/scoring/dialogue.py: where the digit is read in templates and tokenizers of several forms."""

import pytest

from core.scoring.dialogue import INSTRUCTION, Dialogue
from tests.core.scoring.families import GEMMA, QWEN, SMOL, tokens

BASE = ["<|im_start|>", "<|im_end|>", "<image>", "<think>"]


def talk(template, image="<image>", special=BASE, **named):
    tokenizer = tokens(special, template, **named)
    return Dialogue(tokenizer, tokenizer.convert_tokens_to_ids(image))


def asked(dialogue, text="a cup"):
    return dialogue.tokenizer.decode(dialogue.head + dialogue.ask(text))


def qwen(opening):
    """A template of Qwen's form with another opening of the answer."""
    return QWEN.replace("<|vision_start|><|image_pad|><|vision_end|>", "<image>").replace(
        "<|im_start|>assistant\n{% endif %}", opening + "{% endif %}"
    )


def test_the_instruction_stands_once_before_the_image_and_the_prompt_after_it_where_the_template_can():
    text = asked(talk(qwen("<|im_start|>assistant\n")))
    assert text.index(INSTRUCTION) < text.index("<image>") < text.index("a cup")
    assert text.endswith("<|im_start|>assistant\n")
    assert text.count("*nothing else*") == INSTRUCTION.count("*nothing else*") == 1
    text = asked(talk(SMOL))  # which does not show an instruction that is a string
    assert text.startswith(f"<|im_start|>System: {INSTRUCTION}") and text.count(INSTRUCTION) == 1
    text = asked(
        talk(GEMMA, "<start_of_image>", ["<start_of_image>"], bos_token="<bos>")
    )  # without a system message
    assert text.count(INSTRUCTION) == text.count("<bos>") == 1
    assert text.index("<start_of_image>") < text.index(INSTRUCTION) < text.index("a cup")


@pytest.mark.parametrize("adds", [True, False])
def test_the_bos_token_occurs_once(adds):
    from tokenizers.processors import TemplateProcessing

    tokenizer = tokens(BASE, qwen("<|im_start|>assistant\n"), bos_token="<s>")
    first = tokenizer.bos_token_id
    if adds:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", first)]
        )
    dialogue = Dialogue(tokenizer, tokenizer.convert_tokens_to_ids("<image>"))
    assert (dialogue.head[:1] == [first]) == adds
    assert dialogue.head.count(first) == adds


@pytest.mark.parametrize(
    ("joined", "words", "tail", "digit"),
    [(True, False, ":", "Ġ7"), (False, False, "Ġ", "7"), (False, True, "▁", "7")],
)
def test_a_space_before_the_answer_is_read_as_the_tokenizer_writes_it(joined, words, tail, digit):
    dialogue = talk(SMOL, words=words, **({"joined": True} if joined else {}))
    names = dialogue.tokenizer.convert_ids_to_tokens
    assert names(dialogue.tail[-1]) == tail
    assert names(dialogue.digits[7]) == digit


def test_an_empty_thought_that_the_template_writes_before_an_answer_is_written():
    template = qwen("<|im_start|>assistant\n").replace(
        "{{ message['content'] }}",
        "{% if message['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ message['content'] }}",
    )
    assert asked(talk(template)).endswith("assistant\n<think>\n\n</think>\n\n")


def test_a_template_that_opens_with_a_thought_or_never_shows_the_instruction_is_refused():
    with pytest.raises(ValueError, match="opens the answer with a thought"):
        talk(qwen("<|im_start|>assistant\n<think>\n"))
    last = "messages[-2 if messages[-1]['role'] == 'assistant' else -1]"
    with pytest.raises(ValueError, match="leaves the instruction out"):
        talk(f"<image>{{{{ {last}['content'][1]['text'][-6:] }}}}")


def test_a_prompt_that_spells_a_token_which_is_not_marked_as_special_is_cut():
    dialogue = talk(SMOL, special=BASE[:3], plain=["<tool_call>", "[IMG]"])
    text = "a <tool_call> cup [IMG] <image>"
    ids = dialogue.plain(text)
    assert not set(ids) & set(dialogue.tokenizer.added_tokens_decoder)
    assert dialogue.tokenizer.decode(ids) == text
