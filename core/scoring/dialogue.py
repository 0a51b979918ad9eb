"""Token ids of a question to a vision-language model, for any chat template.

The model sees the image and the prompt with one word marked *so*, and answers with a digit s_j; *nothing else* is marked
after the prompt. The *prefix* (instruction and image) comes first, then the *question* (the marked prompt and the opening
of the answer). A chat template determines the text around them. Prompts are data: they are tokenised separately from the
template, with special tokens disabled.

The instruction is a system message. A template that does not show one, or needs its messages in another form, is given
the next form of `FORMS`. The beginning of an answer is taken from the template too: some write a space or a line break
between the opening and the answer, and the digit's token is read after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from jinja2 import TemplateError

from core.scoring.scores import DIGITS
from core.words import EXTRA, NEGATION, NOTHING_ELSE, Word

PROMPT_VERSION = "marked-2"
ELSE = "Where *nothing else* is marked: does it show nothing that the prompt does not ask for, no repeats, no artefacts?"
DENIED = "Words that deny something, like 'no hat', hold where the image lacks it."
INSTRUCTION = (
    f"How well does the image show the word marked *so* of the prompt? {ELSE} "
    "Answer with a digit: 0 not at all, 9 fully."
)
MARK = "*"
SLOT = "PROMPT"  # placeholder of the prompt while the chat template is rendered
ANSWER = "7"  # placeholder of the answer


def _part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


FORMS: tuple[list[dict[str, Any]], ...] = (
    [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": [{"type": "image"}, _part(SLOT)]},
    ],
    [
        {"role": "system", "content": [_part(INSTRUCTION)]},
        {"role": "user", "content": [{"type": "image"}, _part(SLOT)]},
    ],
    [{"role": "user", "content": [{"type": "image"}, _part(f"{INSTRUCTION}\n{SLOT}")]}],
)


def mark(prompt: str, word: Word, span: tuple[int, int] | None = None) -> str:
    """The prompt with `word` marked, or the text at `span`; the mark's own character is removed from the prompt, so that
    exactly one word is marked. The unit *nothing else* is appended to the prompt."""
    bare = prompt.replace(MARK, " ")
    if word.kind == EXTRA:
        return f"{bare.rstrip(' .,;:!')}, and {MARK}{NOTHING_ELSE}{MARK}"
    start, end = span or (word.start, word.end)
    return f"{bare[:start]}{MARK}{bare[start:end]}{MARK}{bare[end:]}"


class Dialogue:
    """A question as token ids: prefix (instruction and image, the same for all words of an image) and question (marked
    prompt, up to the position at which the digit is read).

    image_token_id: the token that the template writes for an image. controls: ids of further tokens that a prompt must not
    write. ValueError where the template or the tokenizer cannot be used.
    """

    def __init__(
        self,
        tokenizer: Any,
        image_token_id: int,
        chat_template: str | None = None,
        controls: Iterable[int] = (),
    ) -> None:
        self.tokenizer = tokenizer
        self.image_token_id = image_token_id
        self._template = chat_template
        added = tokenizer.added_tokens_decoder
        self.special = {id for id, token in added.items() if token.special} | {image_token_id, *controls}
        self.special.discard(getattr(tokenizer, "unk_token_id", None))
        # tokens that split_special_tokens does not disable: text that spells one is split within it
        enabled = {
            token.content
            for id, token in added.items()
            if not token.special and (id in self.special or re.fullmatch(r"<.+>|\[.+\]", token.content))
        }
        longest_first = sorted(enabled, key=len, reverse=True)
        self._spelled = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        whole = [id for id, t in added.items() if t.special and not (t.lstrip or t.rstrip or t.single_word)]
        self._anchor = added[whole[0]].content if whole else ""

        problems: list[str] = []
        for form in FORMS:
            try:
                self._fit(form)
                return
            except ValueError as problem:
                problems.append(str(problem))
            except (TemplateError, TypeError, LookupError) as problem:
                problems.append(f"The chat template does not take the messages: {problem}.")
        raise ValueError(problems[0])

    def _fit(self, form: list[dict[str, Any]]) -> None:
        """Set head (ids up to the prompt), tail (ids after it) and digits; ValueError where this form does not work."""
        text = self._render(form)
        self.opening, _, tail = text.rpartition(SLOT)
        bos = getattr(self.tokenizer, "bos_token", None)
        if bos and not self.opening.startswith(bos):
            ids = self.tokenizer("a")["input_ids"]
            self.opening = (bos if ids[:1] == [self.tokenizer.bos_token_id] else "") + self.opening
        self.head = self._ids(self.opening)
        if self.head.count(self.image_token_id) != 1:
            raise ValueError(
                f"The chat template writes {self.head.count(self.image_token_id)} image tokens before the prompt where "
                "one is needed: choose a model whose chat template takes an image and then a text."
            )
        if tail.count("<think>") > tail.count("</think>"):
            raise ValueError(
                "The chat template opens the answer with a thought, and the digit is read at once: choose the "
                "instruct variant of this model."
            )
        self.tail, self.digits = self._answer(text, tail, form)
        if INSTRUCTION not in self.opening:
            raise ValueError("The chat template leaves the instruction out: choose a model that shows it.")

    def _render(self, messages: list[dict[str, Any]], answered: bool = False) -> str:
        return self.tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=not answered,
            chat_template=self._template,
            enable_thinking=False,
        )

    def _answer(self, text: str, tail: str, form: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
        """Ids of the answer's opening, and of the ten digits at the position after it."""
        between = ""  # the template's text between the opening and an answer
        for content in (ANSWER, [_part(ANSWER)]):
            try:
                answered = self._render([*form, {"role": "assistant", "content": content}], answered=True)
            except (TemplateError, TypeError, LookupError):
                continue
            if answered.startswith(text) and ANSWER in answered[len(text) :]:
                between = answered[len(text) :].partition(ANSWER)[0]
                break
        for lead in dict.fromkeys((between, "")):
            coded = [self._after(f"{tail}{lead}{digit}") for digit in range(DIGITS)]
            openings = {tuple(ids[:-1]) for ids in coded}
            if len({ids[-1] for ids in coded}) == DIGITS and len(openings) == 1:
                opening = coded[0][:-1]
                if opening in (self._after(tail + lead), self._after(tail)):
                    return opening, [ids[-1] for ids in coded]
        alone = [self._ids(str(digit)) for digit in range(DIGITS)]
        raise ValueError(
            f"The tokenizer does not write each digit as one token of its own: {alone}. Choose a model whose "
            "tokenizer does."
        )

    def _ids(self, text: str, **options: Any) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, **options)["input_ids"])

    def _after(self, text: str, anchor: str | None = None, **options: Any) -> list[int]:
        """Ids of a text in mid-sentence: without the space that some tokenizers put before a first word."""
        anchor = self._anchor if anchor is None else anchor
        start, ids = self._ids(anchor, **options), self._ids(anchor + text, **options)
        return ids[len(start) :] if ids[: len(start)] == start else self._ids(text, **options)

    def plain(self, text: str) -> list[int]:
        """Ids of text as data: never a special token, whatever it spells."""
        cuts = [match.start() + 1 for match in self._spelled.finditer(text)]
        ids = self._ids(text[: cuts[0]] if cuts else text, split_special_tokens=True)
        for at, end in pairwise([*cuts, len(text)]):
            ids += self._after(text[at:end], "\n", split_special_tokens=True)
        return [id for id in ids if id not in self.special]

    def prefix(self, image_tokens: int) -> list[int]:
        """Ids up to the prompt, with `image_tokens` places for the image."""
        at = self.head.index(self.image_token_id)
        return self.head[:at] + [self.image_token_id] * image_tokens + self.head[at + 1 :]

    def ask(self, text: str) -> list[int]:
        """Ids of a user's text and the opening of the answer."""
        return self.plain(text) + self.tail

    def question(self, prompt: str, word: Word) -> list[int]:
        """Ids from the prompt, with the head of the word marked, to the position whose next token is the digit."""
        marked = mark(prompt, word, word.head)
        return self.ask(f"{marked} ({DENIED})" if word.kind == NEGATION else marked)
