"""The webhook: people's new scores, posted as JSON to a server of the operator's (STUDIO_WEBHOOK).

A thread follows the store's events; no request waits for it. A batch is sent until the server answers 2xx, with pauses
that double up to five minutes, and only then the cursor moves on: each event arrives at least once, in order, also across
restarts. The first start begins with new events. An event that arrives twice has the same ids, by which the receiver
recognises it.

With STUDIO_WEBHOOK_SECRET the header X-Studio-Signature is "sha256=" and the HMAC-SHA256 of the body under the secret.
Only the address itself is contacted: no redirect is followed, no proxy taken from the environment, and of an answer 64 KB
are read at most.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from studio.access.hosts import check_webhook
from studio.errors import sentence

if TYPE_CHECKING:
    from data.store import Store
    from studio.studio import Studio

log = logging.getLogger("studio")
NAME = "webhook"
BATCH = 100
LOOK_SECONDS = 2.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
TIMEOUT = 10.0
LONGEST_ANSWER = 1 << 16


class Failed(Exception):
    """Why the server did not take a batch."""


class Follower:
    """Follows one store and posts to one address. problem: a sentence while posting fails; sent: events that were taken
    since the start; last: when, or ''."""

    def __init__(
        self,
        store: Store,
        address: str,
        secret: str = "",
        *,
        look: float = LOOK_SECONDS,
        pause: float = FIRST_PAUSE,
    ) -> None:
        self.store, self.address = store, check_webhook(address)
        self._secret, self.look, self.pause = secret.encode(), look, pause
        self.problem, self.sent, self.last = "", 0, ""
        self._tls = httpx.create_ssl_context()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> Follower:
        self._thread = threading.Thread(target=self.run, name="webhook", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(TIMEOUT + 5)

    def run(self) -> None:
        """Post until it is stopped."""
        failures = 0
        while not self._stop.is_set():
            try:
                more = self.step()
                self.problem, failures = "", 0
            except Exception as error:  # noqa: BLE001 - whatever it is, the labels are kept and sent later
                failures += 1
                wait = min(LONGEST_PAUSE, self.pause * 2 ** min(failures - 1, 20))
                why = str(error) if isinstance(error, Failed) else sentence(error)
                self.problem = f"New labels do not reach the webhook: {why} Tried {failures} times; next in {wait:.0f} s."
                log.warning("%s", self.problem)
                self._stop.wait(wait)
                continue
            if not more:
                self._stop.wait(self.look)

    def step(self) -> bool:
        """Send the next batch, if there is one; whether there may be more. Failed where it was not taken."""
        # a damaged store could not note that they were sent, and they would be sent again and again
        self.store.database.refuse_damaged()
        cursor = self.store.cursors.get(NAME)
        if cursor is None:
            self.store.cursors.move(NAME)
            return False
        events, upto = self.store.cursors.corrections_after(cursor, BATCH)
        if events:
            self._post(events)
            self.sent += len(events)
            self.last = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        if upto > cursor:
            self.store.cursors.move(NAME, upto)
        return upto > cursor

    def _post(self, events: list[dict[str, Any]]) -> None:
        store = events[0]["store"]
        scores = [{name: value for name, value in event.items() if name != "store"} for event in events]
        first, last = scores[0]["seq"], scores[-1]["seq"]
        about = {"event": "scores", "version": 1, "store": store, "first": first, "last": last}
        body = json.dumps({**about, "scores": scores}, ensure_ascii=False, separators=(",", ":")).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "noise-projection-studio",
            "Accept-Encoding": "identity",
            "X-Studio-Delivery": f"{store}-{first}-{last}",
        }
        if self._secret:
            signed = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
            headers["X-Studio-Signature"] = f"sha256={signed}"
        try:
            with httpx.Client(
                timeout=TIMEOUT, verify=self._tls, follow_redirects=False, trust_env=False
            ) as client:
                self._send(client, body, headers)
        except httpx.TimeoutException:
            raise Failed(f"the server did not answer within {TIMEOUT:.0f} s.") from None
        except httpx.HTTPError as error:
            raise Failed(f"the server cannot be reached ({type(error).__name__}).") from None

    def _send(self, client: httpx.Client, body: bytes, headers: dict[str, str]) -> None:
        """Send one request; an endless answer is cut off by its size or by the clock."""
        until = time.monotonic() + TIMEOUT
        with client.stream("POST", self.address, content=body, headers=headers) as answer:
            read = 0
            for part in answer.iter_raw():
                read += len(part)
                if read > LONGEST_ANSWER or time.monotonic() > until:
                    break
            if 300 <= answer.status_code < 400:
                raise Failed(
                    "the server sends elsewhere, and redirects are not followed: set its final address."
                )
            if not 200 <= answer.status_code < 300:
                raise Failed(f"the server answered with status {answer.status_code}.")


_followers: dict[Path, Follower] = {}


def follower_of(studio: Studio) -> Follower | None:
    """A follower by the settings, not yet started; None without a webhook."""
    address = studio.settings.webhook
    secret = os.environ.get("STUDIO_WEBHOOK_SECRET", "").strip()
    return Follower(studio.store, address, secret) if address else None


def start(studio: Studio) -> Follower | None:
    """Follow this studio's store in the background, once."""
    path = studio.store.database.path
    if path not in _followers and (follower := follower_of(studio)):
        _followers[path] = follower.start()
    return _followers.get(path)


def status(studio: Studio) -> dict[str, Any]:
    """{address: without its path and query, on, problem, sent, last, waiting: events past the cursor}."""
    status = {"address": "", "on": False, "problem": "", "sent": 0, "last": "", "waiting": 0}
    if not studio.settings.webhook:
        return status
    url = httpx.URL(studio.settings.webhook)
    status["address"] = f"{url.scheme}://{url.netloc.decode()}"
    if follower := _followers.get(studio.store.database.path):
        status |= {"on": True, "problem": follower.problem, "sent": follower.sent, "last": follower.last}
    cursor = studio.store.cursors.get(NAME)
    if cursor is not None:
        status["waiting"] = len(studio.store.cursors.corrections_after(cursor, 1000)[0])
    return status
