"""core/scoring/answers.py: an answer of a judge's server is read where it is exactly what was asked for; it is never guessed at."""

import copy
import json

import numpy as np
import pytest

from core.scoring.answers import Unreadable, digit_distribution, digits_of
from tests.judge import MODEL, completion, one_digit, spread_of, tokens

SPREAD = spread_of("red")
GOOD = one_digit(SPREAD)


def edited(change):
    """The good one-token answer after `change` was done to its choice, a list of one."""
    answer = copy.deepcopy(GOOD)
    change(answer["choices"])
    return answer


def listed(change):
    """The good one-token answer after `change` was done to its list of likeliest tokens."""
    return edited(lambda choices: change(choices[0]["logprobs"]["content"][0]["top_logprobs"]))


def every_logprob(value):
    return listed(lambda entries: [entry.update(logprob=value) for entry in entries])


def first_logprob(text):
    """The good answer with other text for the likeliest digit's logarithm, NaN for one, which json refuses to write."""
    return json.dumps(every_logprob("?")).replace('"?"', text, 1).replace('"?"', "-3.0")


PROSE = "The word is clearly shown, so I would say 9."
MEGABYTE = "9 " * 500_000
DEEP = "[" * 100_000

LOGPROBS = {
    "prose": completion(PROSE, tokens({"The": 0.9, "9": 0.05})),
    "prose that the probabilities contradict": completion(PROSE, GOOD["choices"][0]["logprobs"]),
    "a fence": completion("```", tokens({"```": 0.99})),
    "11": completion("11", tokens({"11": 0.9, "1": 0.1})),
    "-1": completion("-1", tokens({"-1": 0.9, "1": 0.1})),
    "a minus sign": completion("-", tokens({"-": 0.9, "1": 0.1})),
    "4.5": completion("4.5", tokens({"4.5": 0.6, "4": 0.4})),
    "true": completion("true", tokens({"true": 0.6, "1": 0.4})),
    "null as text": completion("null", tokens({"null": 0.9})),
    "NaN as text": completion("NaN", tokens({"NaN": 0.9})),
    "an empty text": completion("", tokens({"": 0.9})),
    "a digit with a space before it": completion(" 4", tokens({" 4": 0.9, "4": 0.1})),
    "a digit with a line after it": completion("4\n", tokens({"4\n": 0.9, "4": 0.1})),
    "a digit of another script": completion("٤", tokens({"٤": 0.9, "4": 0.1})),
    "a full-width digit": completion("４", tokens({"４": 0.9})),
    "a superscript digit": completion("²", tokens({"²": 0.9})),
    "text that is a number": completion(4, tokens({"4": 0.9})),
    "text that is null": completion(None, tokens({"4": 0.9})),
    "text that is a list of text": completion(["4"], tokens({"4": 0.9})),
    "text that is an empty list": completion([], tokens({"4": 0.9})),
    "a part without text": completion([{"type": "text"}, {"type": "text", "text": "4"}], tokens({"4": 0.9})),
    "a part whose text is a number": completion([{"type": "text", "text": 4}], tokens({"4": 0.9})),
    "a part that is no text": completion([{"type": "refusal", "text": "4"}], tokens({"4": 0.9})),
    "two parts with a digit each": completion(
        [{"type": "text", "text": d} for d in "44"], tokens({"4": 0.9})
    ),
    "a thought without an end": completion("<think>4", tokens({"4": 0.9})),
    "a thought and no answer": completion("<think>4</think>", tokens({"4": 0.9})),
    "a thought and prose": completion("<think>4</think>It is 4", tokens({"4": 0.9})),
    "a thought that ends twice": completion("<think>4</think>4</think>4", tokens({"4": 0.9})),
    "a thought and another token than the answer": completion(
        "<think>4</think>5", tokens({"4": 0.9, "5": 0.1})
    ),
    "another token than the text": completion("5", tokens({"4": 0.9, "5": 0.1})),
    "two tokens": edited(lambda c: c[0]["logprobs"]["content"].append(c[0]["logprobs"]["content"][0])),
    "no token": edited(lambda c: c[0]["logprobs"]["content"].clear()),
    "no logprobs": edited(lambda c: c[0].update(logprobs=None)),
    "logprobs without content": edited(lambda c: c[0].update(logprobs={"tokens": ["4"]})),
    "no list of likeliest tokens": edited(lambda c: c[0]["logprobs"]["content"][0].pop("top_logprobs")),
    "an empty list of likeliest tokens": listed(lambda entries: entries.clear()),
    "likeliest tokens without digits": listed(
        lambda entries: [entry.update(token="a" + entry["token"]) for entry in entries]
    ),
    "too little of the probability on digits": one_digit(SPREAD, 0.49),
    "no probability on digits": every_logprob(-9999.0),
    "a digit listed twice": listed(lambda entries: entries.append(entries[0])),
    "a digit listed twice at no probability": listed(
        lambda entries: entries.extend(
            [{"token": "x", "logprob": -9999.0}, {"token": "3", "logprob": -9999.0}]
        )
    ),
    "probabilities above 1 in sum": every_logprob(-0.1),
    "a positive logprob": every_logprob(0.7),
    "a logprob that is text": every_logprob("-0.1"),
    "a logprob that is true": every_logprob(True),
    "a logprob that is null": every_logprob(None),
    "a logprob that is NaN": first_logprob("NaN"),
    "a logprob that is -Infinity": first_logprob("-Infinity"),
    "a logprob that is beyond all numbers": first_logprob("-1e999"),
    "a logprob of ten thousand digits": first_logprob("-" + "1" * 10_000),
    "a logprob that is an integer beyond all floats": first_logprob("-" + "1" * 400),
    "a token that is a number": listed(lambda entries: entries[0].update(token=4)),
    "an entry that is text": listed(lambda entries: entries.append("4")),
}

SCHEMA = {
    "prose": PROSE,
    "a fence": '```json\n{"1": 4, "2": 7, "3": 1}\n```',
    "truncated JSON": '{"1": 4, "2"',
    "JSON with a comma too many": '{"1": 4, "2": 7, "3": 1,}',
    "JSON and prose after it": '{"1": 4, "2": 7, "3": 1} I hope this helps!',
    "two objects": '{"1": 4, "2": 7, "3": 1}{"1": 4, "2": 7, "3": 1}',
    "11": '{"1": 11, "2": 7, "3": 1}',
    "10": '{"1": 10, "2": 7, "3": 1}',
    "-1": '{"1": -1, "2": 7, "3": 1}',
    "-0": '{"1": -0, "2": 7, "3": 1}',
    "4.5": '{"1": 4.5, "2": 7, "3": 1}',
    "4.0": '{"1": 4.0, "2": 7, "3": 1}',
    "4e0": '{"1": 4e0, "2": 7, "3": 1}',
    "04": '{"1": 04, "2": 7, "3": 1}',
    "true ": '{"1": true, "2": 7, "3": 1}',
    "null": '{"1": null, "2": 7, "3": 1}',
    "NaN": '{"1": NaN, "2": 7, "3": 1}',
    "Infinity": '{"1": Infinity, "2": 7, "3": 1}',
    "a digit as text": '{"1": "4", "2": 7, "3": 1}',
    "a digit in a list": '{"1": [4], "2": 7, "3": 1}',
    "a digit in an object": '{"1": {"score": 4}, "2": 7, "3": 1}',
    "a word missing": '{"1": 4}',
    "all words missing": "{}",
    "a word doubled": '{"1": 4, "2": 7, "3": 1, "1": 9}',
    "a word doubled with the same digit": '{"1": 4, "2": 7, "3": 1, "1": 4}',
    "a word too many": '{"1": 4, "2": 7, "3": 1, "4": 1}',
    "other words": '{"red": 4, "circle": 7}',
    "keys with spaces": '{" 1": 4, "2": 7, "3": 1}',
    "keys of another script": '{"١": 4, "2": 7, "3": 1}',
    "a list": "[4, 7]",
    "a list of objects": '[{"1": 4, "2": 7, "3": 1}]',
    "a number": "4",
    "a text in quotes": '"4"',
    "single quotes": "{'1': 4, '2': 7}",
    "JSON in JSON": json.dumps('{"1": 4, "2": 7, "3": 1}'),
    "an empty text": "",
    "a number of ten thousand digits": '{"1": %s, "2": 7, "3": 1}' % ("1" * 10_000),
    "a byte-order mark": '\ufeff{"1": 4, "2": 7, "3": 1}',
    "a thought without an end": '<think>{"1": 4, "2": 7, "3": 1}',
    "a thought and prose": '<think>Hm.</think>The scores: {"1": 4, "2": 7, "3": 1}',
    "a thought that ends twice": '<think>Hm.</think>{}</think>{"1": 4, "2": 7, "3": 1}',
    "half a surrogate": '{"1": 4, "2": 7, "3": 1}\ud800',
    "brackets without end": DEEP,
}

# ways in which any answer goes wrong around its text, for either read-out
AROUND = {
    "an empty body": b"",
    "a page of HTML": "<html><body><h1>Welcome to nginx!</h1></body></html>",
    "a body that is no UTF-8": b"\xff\xfe" + json.dumps(GOOD).encode(),
    "UTF-8 that is broken inside": json.dumps(GOOD).encode().replace(MODEL.encode(), b"\xc3\x28"),
    "half a body of JSON": json.dumps(GOOD)[:-40],
    "JSON that is null": "null",
    "JSON that is a list": [GOOD],
    "an error in place of an answer": {"error": {"message": "CUDA out of memory", "code": 500}},
    "no choices": {k: v for k, v in GOOD.items() if k != "choices"},
    "empty choices": {**GOOD, "choices": []},
    "choices that are null": {**GOOD, "choices": None},
    "two choices": {**GOOD, "choices": GOOD["choices"] * 2},
    "a choice that is text": {**GOOD, "choices": ["4"]},
    "no message": edited(lambda c: c[0].pop("message")),
    "a message that is text": edited(lambda c: c[0].update(message="4")),
    "choices twice": json.dumps(GOOD)[:-1] + ', "choices": ' + json.dumps(GOOD["choices"]) + "}",
    "a megabyte of text": completion(MEGABYTE, tokens({"4": 0.9})),
    "a megabyte that is no JSON": MEGABYTE,
    "a hundred thousand brackets": DEEP,
    "NaN beside the answer": json.dumps(GOOD).replace('"created": 1', '"created": NaN'),
    "text after the stream's form": 'data: {"choices": []}\n\ndata: [DONE]\n\n',
}


def as_bytes(body):
    return body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()


def read(read_out, body):
    return digit_distribution(body) if read_out == "logprobs" else digits_of(body, (1, 2, 3))


CASES = [("logprobs", name, body) for name, body in {**LOGPROBS, **AROUND}.items()]
CASES += [("schema", name, completion(text)) for name, text in SCHEMA.items()]
CASES += [("schema", name, body) for name, body in AROUND.items()]


@pytest.mark.parametrize(
    ("read_out", "name", "body"), CASES, ids=[f"{one}: {name}" for one, name, _ in CASES]
)
def test_bad_answers_are_never_guessed_at(read_out, name, body):
    with pytest.raises(Unreadable) as refused:
        read(read_out, as_bytes(body))
    assert 0 < len(str(refused.value)) <= 120 and str(refused.value).isprintable()


def spoken(content, thought=()):
    """The good one-token answer with this content, and tokens of a thought before its digit."""
    answer = edited(lambda choices: choices[0]["message"].update(content=content))
    answer["choices"][0]["logprobs"]["content"][:0] = [tokens({t: 1.0})["content"][0] for t in thought]
    return as_bytes(answer)


DIGIT = str(int(np.argmax(SPREAD)))
THOUGHTS = [("<think>", "</think>"), ("<think>\n", "\n</think>\n\n"), ("", "</think>\n"), ("<thinking>", "</thinking> "),
            ("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷"), ("<think>", "</think>\n\n\t")]  # fmt: skip


def test_what_was_asked_for_is_read_after_a_thought_and_in_parts():
    said = [spoken(DIGIT), spoken([{"type": "text", "text": DIGIT}])]
    said += [spoken([{"type": "output_text", "text": DIGIT, "annotations": []}])]
    said += [spoken(f"{start}Hm, 7 or {{}}.{end}{DIGIT}", (start, "7", end)) for start, end in THOUGHTS]
    said += [
        spoken(
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "3"}]},
                {"type": "text", "text": DIGIT},
            ]
        )
    ]
    assert all(np.abs(digit_distribution(answer) - SPREAD).max() < 1e-6 for answer in said)
    whole = '{"1": 4, "2":7,\n "3": 1}'
    texts = [whole, *(f"{start}Hm, 7 or {{}}.{end}{whole}" for start, end in THOUGHTS)]
    texts += [[{"type": "text", "text": whole[:1]}, {"type": "text", "text": whole[1:]}]]
    texts += [[{"type": "text", "text": "<think>Hm.</think>"}, {"type": "text", "text": whole}]]
    assert all(digits_of(as_bytes(completion(t)), (1, 2, 3)) == {1: 4, 2: 7, 3: 1} for t in texts)
    assert digit_distribution(as_bytes(one_digit(SPREAD, 0.51))).sum() == pytest.approx(1)
    with pytest.raises(Unreadable, match="digits have 49% of the probability, less than 50%"):
        digit_distribution(as_bytes(one_digit(SPREAD, 0.49)))
