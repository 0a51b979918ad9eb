"""A judge of words over real HTTP, which answers chat completions as vLLM does, or as badly as a test wants.

It is a fake because no served model can be had in a test: its digit for a word is a sum over the word's letters.
`with Judge() as judge` serves on 127.0.0.1 at `judge.url` until the block ends.
"""

import json
import math
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import numpy as np

MODEL = "tiny/judge-2B-Instruct"
Reply = tuple[int, bytes, dict[str, str]]


def digit_of(word: str) -> int:
    """The judge's digit for a word."""
    return sum(word.encode()) % 10


def spread_of(word: str) -> np.ndarray:
    """The judge's p(digit) (10,) for a word."""
    logits = -0.7 * np.abs(np.arange(10) - digit_of(word))
    return np.exp(logits) / np.exp(logits).sum()


def completion(content: Any, logprobs: Any = None, **changes: Any) -> dict[str, Any]:
    """A chat completion with one choice, as vLLM writes it."""
    message = {"role": "assistant", "content": content, "tool_calls": []}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": logprobs,
        "finish_reason": "stop",
        "stop_reason": None,
    }
    usage = {"prompt_tokens": 90, "total_tokens": 91, "completion_tokens": 1}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice],
            "usage": usage, **changes}  # fmt: skip


def tokens(likely: dict[str, float], token: str | None = None) -> dict[str, Any]:
    """The logprobs of one answered token, the likeliest of {token: probability} unless it is named."""
    listed = [
        {"token": t, "logprob": math.log(p) if p else -9999.0, "bytes": list(t.encode())}
        for t, p in sorted(likely.items(), key=lambda item: -item[1])
    ]
    first = next((entry for entry in listed if entry["token"] == token), listed[0])
    return {"content": [{**first, "top_logprobs": listed}]}


def one_digit(spread: np.ndarray, mass: float = 0.95) -> dict[str, Any]:
    """The completion of a one-token answer with these probabilities of the digits (10,), others having the rest."""
    likely = {str(k): float(p) * mass for k, p in enumerate(spread)}
    others = {"The": (1 - mass) * 0.6, " ": (1 - mass) * 0.3, "10": (1 - mass) * 0.1}
    said = str(int(np.argmax(spread)))
    return completion(said, tokens({**likely, **others}, said))


class Judge:
    """What it was asked (`asked`: headers and payload), and the most requests that it had in hand at one time (`most`).

    reply: payload -> (status, body, headers), or None to hang up; `good` by default. logprobs: whether it gives any.
    """

    def __init__(self, logprobs: bool = True) -> None:
        self.logprobs, self.reply = logprobs, self.good
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.most = self.now = 0
        model = {"id": MODEL, "object": "model", "owned_by": "vllm", "root": f"{MODEL}-root"}
        self.models: Callable[[], Reply] = lambda: as_reply({"object": "list", "data": [model]})
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """No more connections; those that there are end with the answer they wait for."""
        self.reply = lambda payload: None
        self.server.shutdown()
        self.server.server_close()

    def good(self, payload: dict[str, Any]) -> Reply:
        """A good answer to either kind of question."""
        data = data_of(payload)
        if "words" in data:
            return as_reply(completion(json.dumps({k: digit_of(w) for k, w in data["words"].items()})))
        if self.logprobs:
            return as_reply(one_digit(spread_of(data["word"])))
        return as_reply(completion(str(digit_of(data["word"]))))

    def handler(self) -> type[BaseHTTPRequestHandler]:
        judge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                self.write(judge.models() if self.path == "/v1/models" else (404, b"", {}))

            def do_POST(self) -> None:
                payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path != "/v1/chat/completions":
                    self.write((404, b"", {}))
                    return
                with judge.lock:
                    judge.asked.append((dict(self.headers), payload))
                    judge.now += 1
                    judge.most = max(judge.most, judge.now)
                try:
                    answer = judge.reply(payload)
                finally:
                    with judge.lock:
                        judge.now -= 1
                self.write(answer)

            def write(self, answer: Any) -> None:
                """A reply; None hangs up, bytes are sent as they are, and an iterator of bytes until nobody reads them."""
                self.close_connection = not isinstance(answer, tuple)
                try:
                    if isinstance(answer, tuple):
                        status, body, headers = answer
                        self.send_response(status)
                        for name, value in {"Content-Type": "application/json", **headers}.items():
                            self.send_header(name, value)
                        self.send_header("Content-Length", str(len(body)))
                        self._headers_buffer.append(b"\r\n" + body)
                        self.flush_headers()
                    elif isinstance(answer, bytes):
                        self.wfile.write(answer)
                    elif answer is not None:
                        for part in answer:
                            self.wfile.write(part)
                except OSError:
                    self.close_connection = True

        return Handler


def as_reply(body: Any, status: int = 200, **headers: str) -> Reply:
    """An object, text or bytes as a reply."""
    if not isinstance(body, bytes):
        body = (body if isinstance(body, str) else json.dumps(body)).encode()
    return status, body, headers


def data_of(payload: dict[str, Any]) -> dict[str, Any]:
    """The quoted data of a question."""
    return json.loads(payload["messages"][1]["content"][1]["text"])


def slowly(reply: Callable[[dict[str, Any]], Any], seconds: float) -> Callable[[dict[str, Any]], Any]:
    """The same replies, each after so many seconds."""

    def later(payload: dict[str, Any]) -> Any:
        time.sleep(seconds)
        return reply(payload)

    return later
