"""Scorer of words s_j by a vision-language model behind an OpenAI-compatible server (vLLM, SGLang).

The interface of `core.scoring.vlm.VLMScorer`, without hidden states. The server's abilities are probed once, by a question
about a grey picture: `logprobs`, one word a request, reads the probabilities of the ten digits at the answer's one token;
`schema`, all words of an image in a request constrained to a JSON schema, reads one digit a word, and is used where
logprobs cannot be read. Nothing that a prompt or the server writes changes how answers are parsed
(`core.scoring.answers`). An argument that the server refuses by name is omitted from then on, for the lifetime of the
scorer; `max_tokens` becomes `max_completion_tokens`. The model is asked not to think aloud; one that does regardless gets
extra tokens in the `schema` read-out.

There are two kinds of failure. An answer that cannot be read, or a question that the server refuses (400, 413, 422), makes
its words *missing*: the same question would get the same answer. No answer (no connection, a time-out, 408, 425, 429 or
5xx after the retries) leaves the whole image unscored, and `score` ends in `Unanswered`, which holds the scores so far. The
server counts as down, and is not asked any more, after three such images in a row, in one call or several, and where it
needs another key or lacks the model.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from PIL import Image

from core.progress import Stop
from core.scoring.answers import CutShort, Unreadable, digit_distribution, digits_of, reason_of
from core.scoring.connection import Connection, Silent, check_address
from core.scoring.questions import (
    EXTENSIONS,
    PROMPT_VERSION,
    READ_OUTS,
    THOUGHT,
    arguments_in,
    data_url,
    question,
    without,
)
from core.scoring.scores import WordScore, from_digit, make, words_to_score
from core.scoring.vlm import as_pil
from core.words import Word, scored, units

TRIAL = "a red circle"  # prompt of the probing question, about a grey picture
REFUSED = (400, 413, 422)  # status of a refused question
UNKNOWN = (400, 422)  # status of a question that is possibly refused for an argument
ATTEMPTS = 8  # of a question with an argument omitted
GIVE_UP = 3  # images in a row without an answer
POLL = 0.05  # seconds between checks of `stop` while waiting for answers


class Unanswered(ValueError):
    """Images without an answer. scores: those so far, as `score` returns them; down: whether the server counts as down."""

    def __init__(self, text: str, scores: list[list[WordScore]], down: bool) -> None:
        super().__init__(text)
        self.scores, self.down = scores, down


class _Closed(Exception):
    """The server refuses all such questions; the message says what to do."""


@dataclass(frozen=True)
class _Server:
    """The probed server: its model's name and revision, the read-out, and extra tokens for thoughts."""

    name: str
    revision: str
    read_out: str
    room: int


@dataclass
class _Call:
    """One call of `score`. answers: by image, for each word a distribution (10,) or the reason why it is missing; lost: the
    images without an answer, and why; down: the message where the server counts as down."""

    pictures: Sequence[Image.Image]
    prompts: Sequence[str]
    words: list[list[Word]]
    stop: Callable[[], bool]
    answers: list[dict[int, np.ndarray | str]]
    lost: dict[int, str] = field(default_factory=dict)
    down: str = ""

    @property
    def over(self) -> bool:
        return bool(self.down) or self.stop()


class EndpointScorer:
    """Scores the words of prompts on images by the server at `address`.

    model: its name on the server; "" is the first that the server lists. key: sent as a bearer token, shown nowhere.
    read_out: one of READ_OUTS; None is the first by which the server's answers can be read. limits: of `Connection`.
    """

    def __init__(
        self, address: str, model: str = "", key: str = "", *, read_out: str | None = None, **limits: Any
    ) -> None:
        if read_out not in (None, *READ_OUTS):
            raise ValueError(f"The read-out {read_out!r} is not known: choose one of {', '.join(READ_OUTS)}.")
        self.address, self.model = check_address(address), model
        self.read_outs = (read_out,) if read_out else READ_OUTS
        self.missing: list[dict[int, str]] = []
        self.line = Connection(self.address, key, **limits)
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._left_out: frozenset[str] = frozenset()  # arguments that the server refuses
        self._silent = 0  # images in a row without an answer

    @property
    def name(self) -> str:
        """The model's name on the server."""
        return self._known().name

    @property
    def revision(self) -> str:
        """The revision that the server lists for the name (vLLM's `root`, else the id); "" without one."""
        return self._known().revision

    @property
    def version(self) -> str:
        """Identifies what a stored score depends on: prompt version, model and its revision, read-out, image format."""
        known = self._known()
        return f"{PROMPT_VERSION}/{known.name[-80:]}@{known.revision[-60:]}/{known.read_out}/png"

    def score(
        self,
        images: Sequence[np.ndarray | Image.Image] | np.ndarray,
        prompts: Sequence[str],
        batch: int = 16,
        stop: Stop = None,
        rules: Sequence[int] | None = None,
    ) -> list[list[WordScore]]:
        """Score every scored word of each prompt on its image (uint8 (H, W, 3) or PIL) -> one list an image. rules: by which
        each prompt's words are counted; None: the current ones.

        `missing` then holds {word index: reason} for each image. An image has a score or a reason for each of its words,
        or none at all where it was not reached: `stop` is checked before every question and while waiting for answers.
        Raises Unanswered where images got no answer. `batch` images are held as PNG at a time.
        """
        words, pictures = (
            words_to_score(len(images), prompts, batch, rules),
            [as_pil(image) for image in images],
        )
        call = _Call(pictures, prompts, words, stop or (lambda: False), [{} for _ in words])
        self.missing = [{} for _ in words]
        if any(words) and not call.over:
            _in_thread(self._all(self._known(), call, batch))
        return self._result(call)

    def _result(self, call: _Call) -> list[list[WordScore]]:
        """The scores (and reasons, in `missing`) of images with answers for all their words; Unanswered for the others."""
        scores: list[list[WordScore]] = [[] for _ in call.words]
        for i, answers in enumerate(call.answers):
            if i not in call.lost and len(answers) == len(call.words[i]):
                order = sorted(answers.items())
                self.missing[i] = {index: p for index, p in order if isinstance(p, str)}
                scores[i] = [make(index, p) for index, p in order if not isinstance(p, str)]
        if call.down or call.lost:
            text = call.down or self._no_answer(next(iter(call.lost.values())), len(call.lost))
            raise Unanswered(text, scores, bool(call.down))
        return scores

    async def _all(self, known: _Server, call: _Call, batch: int) -> None:
        """Ask for all words, `batch` images at a time."""
        async with self.line.open() as client:
            for at in range(0, len(call.prompts), batch):
                if not call.over:
                    images = range(at, min(at + batch, len(call.prompts)))
                    await self._batch(client, known, call, images)

    async def _batch(
        self, client: httpx.AsyncClient, known: _Server, call: _Call, images: Iterable[int]
    ) -> None:
        """Ask for the words of images, with as many questions in flight as allowed."""
        size = 1 if known.read_out == "logprobs" else 1000
        starts = ((i, j) for i in images for j in range(0, len(call.words[i]), size))
        questions = ((i, call.words[i][j : j + size]) for i, j in starts)
        urls: dict[int, asyncio.Task[str]] = {}

        async def ask() -> None:
            for i, words in questions:
                if call.over:
                    return
                if i in call.lost:
                    continue
                if i not in urls:
                    urls[i] = asyncio.create_task(asyncio.to_thread(data_url, call.pictures[i]))
                await self._note(client, known, call, i, await urls[i], words)

        tasks = [asyncio.create_task(ask()) for _ in range(self.line.parallel)]
        waiting = set(tasks)
        try:
            while waiting and not call.over:
                done, waiting = await asyncio.wait(waiting, timeout=POLL)
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _note(
        self, client: httpx.AsyncClient, known: _Server, call: _Call, i: int, url: str, words: Sequence[Word]
    ) -> None:
        """Ask one question about image i, and record the outcome."""
        try:
            call.answers[i] |= await self._answer(client, known, url, call.prompts[i], words)
        except Unreadable as reason:
            call.answers[i] |= {word.index: str(reason) for word in words}
        except _Closed as reason:
            call.down = str(reason)
            return
        except Silent as reason:
            self._silent += i not in call.lost  # the questions of one image in flight together count once
            call.lost[i] = str(reason)
            if self._silent >= GIVE_UP:
                call.down = self._no_answer(str(reason))
            return
        self._silent = 0

    async def _answer(
        self, client: httpx.AsyncClient, known: _Server, url: str, prompt: str, words: Sequence[Word]
    ) -> dict[int, np.ndarray]:
        """{word index: p(digit) (10,)} of one question; Unreadable, Silent or _Closed."""
        request = question(known.name, known.read_out, url, prompt, words, known.room)
        status, body = await self._send(client, request)
        if status in REFUSED:
            reason = reason_of(body, self.line.key)
            raise Unreadable(f"the server refuses the question (status {status}{reason and ': '}{reason})")
        self._check_key(status)
        if status == 404:
            raise _Closed(
                f"The scorer at {self.address} has no model {known.name[:80]!r}, or no chat completions: set "
                "STUDIO_SCORER_MODEL to a name that it lists at /v1/models."
            )
        if status != 200:
            raise _Closed(
                f"The scorer at {self.address} answers with status {status}: set STUDIO_SCORER to the address of an "
                "OpenAI-compatible server."
            )
        if known.read_out == "logprobs":
            return {words[0].index: digit_distribution(body)}
        digits = digits_of(body, [word.index for word in words])
        return {index: from_digit(digit) for index, digit in digits.items()}

    async def _send(self, client: httpx.AsyncClient, request: dict[str, Any]) -> tuple[int, bytes]:
        """Status and body of the answer to a request. A refused one is sent again without the arguments that the refusal
        names, each alone, then all together; the first request also without those that OpenAI lacks. The arguments that
        were omitted for the answer are omitted from all further requests."""

        async def ask(left_out: frozenset[str]) -> tuple[int, bytes]:
            return await self.line.send(client, "POST", "chat/completions", without(request, left_out))

        left_out = self._left_out
        tried: set[frozenset[str]] = set()
        answer = await ask(left_out)
        for _ in range(ATTEMPTS):
            status, body = answer
            if status not in UNKNOWN:
                break
            sent = without(request, left_out)
            names = arguments_in(body.decode("utf-8", "replace"), sent)
            extensions = EXTENSIONS & sent.keys() if self._server is None else ()
            ways = [frozenset(way) for way in (*([name] for name in names), names, {*names, *extensions})]
            way = next((way for way in ways if way and way not in tried), None)
            if way is None:
                break
            tried.add(way)
            again = await ask(left_out | way)
            if again != answer:  # the same refusal means that this was not the reason
                left_out, answer = left_out | way, again
        if answer[0] == 200:
            self._left_out |= left_out
        return answer

    def _check_key(self, status: int) -> None:
        if status in (401, 403):
            raise _Closed(f"The scorer at {self.address} wants another key: set STUDIO_SCORER_KEY.")

    def _known(self) -> _Server:
        with self._lock:
            if self._server is None:
                try:
                    self._server = _in_thread(self._probe())
                except (Silent, _Closed) as error:
                    why = self._no_answer(str(error)) if isinstance(error, Silent) else str(error)
                    raise Unanswered(why, [], True) from None
            return self._server

    async def _probe(self) -> _Server:
        """The model's name and revision, and the first read-out by which an answer can be read."""
        async with self.line.open() as client:
            listed = await self._listed(client)
            name = self.model or next(iter(listed), "")
            if not name:
                raise _Closed(
                    f"The scorer at {self.address} lists no models: set STUDIO_SCORER_MODEL to the model's name there."
                )
            url, words = data_url(Image.new("RGB", (64, 64), "grey")), scored(units(TRIAL))
            failures: dict[str, Unreadable] = {}
            ways = [(read_out, 0) for read_out in self.read_outs]
            for read_out, room in ways:
                known = _Server(name, listed.get(name, ""), read_out, room)
                asked = words[:1] if read_out == "logprobs" else words
                try:
                    await self._answer(client, known, url, TRIAL, asked)
                except Unreadable as reason:
                    failures[read_out] = reason
                    if isinstance(reason, CutShort) and not room:
                        ways.append((read_out, THOUGHT))
                else:
                    return known
        reasons = "; ".join(f"{read_out}: {reason}" for read_out, reason in failures.items())
        raise _Closed(
            f"The scorer at {self.address} gives no digits that can be read ({reasons}): serve an "
            "instruction-tuned image-text model, with logprobs or structured outputs."
        )

    async def _listed(self, client: httpx.AsyncClient) -> dict[str, str]:
        """{id: revision} of the server's models in its order; empty where it lists none."""
        try:
            status, body = await self.line.send(client, "GET", "models")
            self._check_key(status)
            models = json.loads(body)["data"] if status == 200 else []
            rows = [(model["id"], model.get("root") or model["id"]) for model in models]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}
        return {id: root if _plain(root) else "" for id, root in rows if _plain(id)}

    def _no_answer(self, why: str, images: int = 0) -> str:
        whom = f" for {images} images" if images else ""
        return (
            f"The scorer at {self.address} does not answer{whom} ({why}): see that the server runs and that "
            "STUDIO_SCORER is its address, and score again. What was scored is kept."
        )


def _plain(text: object) -> bool:
    """Whether a server's name for something can be stored and shown."""
    return isinstance(text, str) and text.isprintable() and 0 < len(text.strip()) <= 200


def _in_thread(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine, run in another thread: the caller may have an event loop already (a notebook)."""
    with ThreadPoolExecutor(1, "endpoint") as pool:
        return pool.submit(asyncio.run, work).result()
