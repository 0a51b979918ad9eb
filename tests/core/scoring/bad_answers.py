"""Bad answers of a judge's server: a named one for each way that was thought of, generated ones for those that were not,
and a reader of its own that says what a strict reader may read in each.

The strict reader shares no code with `core.scoring.answers`: objects are kept as lists of pairs, numbers as the text
they were written in, and an answer by a schema is held against a regular expression.
"""

from __future__ import annotations

import copy
import json
import random
import re
from decimal import Decimal

import numpy as np

from tests.judge import MODEL, as_reply, completion, one_digit, spread_of, tokens

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


def raw(text):
    """A whole HTTP answer as it stands."""
    return text.encode("latin-1")


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
    "true": '{"1": true, "2": 7, "3": 1}',
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
    "gzip that was not asked for": as_reply(b"\x1f\x8b\x08" + b"\x00" * 60, **{"Content-Encoding": "gzip"}),
    "status 400": as_reply({"error": {"message": "This model takes no images"}}, 400),
    "status 413": as_reply("too large", 413),
    "status 422": as_reply(GOOD, 422),
    "text after the stream's form": 'data: {"choices": []}\n\ndata: [DONE]\n\n',
}


def named(read_out):
    """{name: what the judge replies} of all named bad answers of a read-out."""
    if read_out == "logprobs":
        own = {name: as_reply(body) for name, body in LOGPROBS.items()}
    else:
        own = {name: as_reply(completion(text)) for name, text in SCHEMA.items()}
    return own | {name: body if isinstance(body, tuple) else as_reply(body) for name, body in AROUND.items()}


# ---- generated ----------------------------------------------------------------------------------------------------

ODD = (
    "null", "true", "false", "NaN", "-Infinity", "1e999", "-1", "-0", "0.0", "4.5", "10", "11", "99", '""', '"4"', '" 4"',
    '"9"', "4", "[]", "{}", "[4]", '{"4": 4}', '"\\ud800"', "-0.0001", "-1e-3", "0.5", "9" * 400, '"4\\n"', "04", "+4",
)  # fmt: skip


def good(read_out, count, rng):
    """The text of a good answer of `count` words."""
    if read_out == "logprobs":
        spread = np.array([rng.random() ** 3 + 1e-9 for _ in range(10)])
        return json.dumps(one_digit(spread / spread.sum(), rng.uniform(0.3, 0.999)))
    scores = {str(index): rng.randrange(10) for index in range(count)}
    return json.dumps(completion(json.dumps(scores, indent=rng.choice([None, 1]))))


def generated(read_out, number, count=4, seed=0):
    """Bodies of answers of `count` words: good ones, each after none to four random mistakes."""
    rng = random.Random(f"{read_out} {seed}")
    result = []
    for _ in range(number):
        body = good(read_out, count, rng).encode()
        for _ in range(rng.choice([0, 1, 1, 1, 1, 2, 2, 3, 4])):
            body = mistaken(body, rng)
        result.append(body)
    return result


def mistaken(body, rng):
    """The body after one random mistake."""
    if not body:
        return rng.randbytes(rng.randrange(20))
    at = rng.randrange(len(body))
    kind = rng.randrange(10)
    if kind == 0:  # a bit is flipped
        return body[:at] + bytes([body[at] ^ (1 << rng.randrange(8))]) + body[at + 1 :]
    if kind == 1:
        return body[:at]
    if kind == 2:  # a piece is lost, or comes twice
        end = min(len(body), at + rng.randrange(1, 12))
        return body[:at] + body[at:end] * rng.choice([0, 2]) + body[end:]
    if kind == 3:
        return body[:at] + rng.randbytes(rng.randrange(1, 4)) + body[at:]
    if kind == 4:  # another digit for a digit
        places = [m.start() for m in re.finditer(rb"[0-9]", body)]
        at = rng.choice(places or [at])
        return body[:at] + rng.choice("0123456789").encode() + body[at + 1 :]
    if kind == 5:  # a key comes twice, with the same or with another value
        pairs = list(re.finditer(rb'(\\?"[\w ]+\\?"): ?([-\w.]+|\\?"[^"\\]*\\?")', body))
        if not pairs:
            return body
        pair = rng.choice(pairs)
        value = pair[2] if rng.random() < 0.5 else rng.choice(ODD).encode()
        return body[: pair.end()] + b", " + pair[1] + b": " + value + body[pair.end() :]
    if kind in (6, 7):  # another value
        values = list(re.finditer(rb': ?([-\w.]+|\\?"[^"\\]*\\?")', body))
        if not values:
            return body
        value, odd = rng.choice(values), rng.choice(ODD).encode()
        return body[: value.start(1)] + odd + body[value.end(1) :]
    if kind == 8:  # words around it
        return (
            rng.choice([b"```json\n%s\n```", b"Sure! %s", b"%s\n\nI hope this helps.", b" %s\n", b"[%s]"])
            % body
        )
    keys = list(re.finditer(rb'\\?"(\w+)\\?":', body))  # a key is another
    key = rng.choice(keys) if keys else None
    return (
        body[: key.start(1)] + rng.choice([b"0", b"9", b"text", b"token"]) + body[key.end(1) :]
        if key
        else body
    )


# ---- the strict reader --------------------------------------------------------------------------------------------


class Number(str):
    """A number as it was written."""


class Pairs(list):
    """An object as its pairs."""


class Broken(Exception):
    pass


def refuse(*_):
    raise Broken


def parsed(text):
    try:
        return json.JSONDecoder(
            object_pairs_hook=Pairs, parse_int=Number, parse_float=Number, parse_constant=refuse
        ).decode(text)
    except (ValueError, RecursionError):
        raise Broken from None


def single(tree):
    """Whether no object of the tree has a key twice."""
    if isinstance(tree, Pairs):
        return len({key for key, _ in tree}) == len(tree) and all(single(value) for _, value in tree)
    return all(map(single, tree)) if isinstance(tree, list) else True


def at(tree, *path):
    for step in path:
        if isinstance(step, int):
            if not isinstance(tree, list) or isinstance(tree, Pairs) or len(tree) != 1:
                raise Broken
            tree = tree[0]
        else:
            values = [value for key, value in tree if key == step] if isinstance(tree, Pairs) else []
            if not values:
                raise Broken
            tree = values[0]
    return tree


def strictly(read_out, body, count=4):
    """{word index: p(digit)} of an answer of `count` words, empty where there is none to be read."""
    try:
        tree = parsed(body.decode())
        if not single(tree):
            raise Broken
        text = at(tree, "choices", 0, "message", "content")
        if type(text) is not str:
            raise Broken
        if read_out == "schema":
            return schema_says(text, count)
        return {0: token_says(text, at(tree, "choices", 0, "logprobs", "content", 0))}
    except (Broken, UnicodeDecodeError):
        return {}


def schema_says(text, count):
    blank = r"[ \t\r\n]*"
    pair = rf'"(\d+)"{blank}:{blank}([0-9])'
    whole = re.fullmatch(rf"{blank}\{{{blank}{pair}({blank},{blank}{pair})*{blank}\}}{blank}", text, re.ASCII)
    result = re.findall(pair, text, re.ASCII)
    if not whole or sorted(key for key, _ in result) != [str(index) for index in range(count)]:
        raise Broken
    return {int(key): np.eye(10)[int(digit)] for key, digit in result}


def token_says(text, token):
    def chance(entry):
        logprob, name = at(entry, "logprob"), at(entry, "token")
        if type(logprob) is not Number or type(name) is not str:
            raise Broken
        if not -Decimal("1.7e308") < Decimal(logprob) <= Decimal("0.01"):
            raise Broken
        return name, min(1.0, float(Decimal(max(logprob, "-5000", key=Decimal)).exp()))

    entries = at(token, "top_logprobs")
    if isinstance(entries, Pairs) or not isinstance(entries, list):
        raise Broken
    chance(token)
    pairs = [chance(entry) for entry in entries]
    digits = [(name, p) for name, p in pairs if re.fullmatch("[0-9]", name)]
    names = [name for name, _ in digits]
    mass = sum(p for _, p in digits)
    if at(token, "token") != text or names.count(text) != 1 or len(set(names)) < len(names):
        raise Broken
    if sum(p for _, p in pairs) > 1.01 or mass < 0.5:
        raise Broken
    result = np.zeros(10)
    for name, p in digits:
        result[int(name)] = p / mass
    return result
