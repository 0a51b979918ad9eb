"""Names of people: which browser writes under which name, by keys that browsers hold.

A name belongs to the browser that first writes under it. The browser holds a key, the store its digest. An anonymous id
is derived from the key by a secret of this server (a file in STUDIO_HOME), so that only the server can make one, and
nothing is stored of a visitor who never writes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Any

from data.store import Store
from data.store.database import new_id
from studio.access.identity import Kept, check_name, is_anonymous, new_key, oauth_enabled, read_kept
from studio.settings import Settings

SECRET = "secret"
TAKEN = (
    "The name {name!r} belongs to another browser: choose another name, or bring the key from the browser that has it. "
    "Where that is lost, who runs the studio can free the name (python -m studio people --release NAME)."
)
STRANGE = "This page's anonymous id is not one that this studio gave out: reload the page to get one."
UNKNOWN = (
    "This page has no key to write with: reload it. A browser that keeps nothing gets a new one each time."
)
NO_KEY = "That is no key of this studio: copy the whole line from the other browser, 32 characters, a colon and the name."


class People:
    """Which browser writes under which name."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store

    def issue(self, kept: Any) -> str:
        """What a browser is to keep: what it sent if that is valid, else a new key and an anonymous id. A bare name, as
        earlier versions kept it, gets a key, and stays unless it belongs to another browser."""
        identity = read_kept(kept)
        if identity is None:
            key = new_key()
            try:
                identity = Kept(key, check_name(kept))
            except ValueError:
                identity = Kept(key, self.anonymous_of(key))
        if (oauth_enabled() and not is_anonymous(identity.name)) or not self._may_use(identity):
            identity = Kept(identity.key, self.anonymous_of(identity.key))
        return str(identity)

    def renamed(self, name: Any, kept: Any) -> str:
        """What this browser is to keep under another name, an empty one meaning its anonymous id; ValueError where the
        name is another browser's."""
        before = read_kept(kept)
        key = before.key if before else new_key()
        if not isinstance(name, str) or not name.strip():
            return str(Kept(key, self.anonymous_of(key)))
        identity = Kept(key, check_name(name))
        if not self._may_use(identity):
            raise ValueError(_refusal(identity))
        return str(identity)

    def adopted(self, brought: Any) -> str:
        """What this browser is to keep when it is given what another one keeps; ValueError for a wrong key."""
        identity = read_kept(brought)
        if identity is None:
            raise ValueError(NO_KEY)
        holds = self.store.people.holds(identity.name, identity.digest)
        if not (holds or (is_anonymous(identity.name) and self._may(identity, holds))):
            raise ValueError(
                f"That is not the key of {identity.name!r}: copy it again from the browser that has the name, once something "
                "was written under it."
            )
        return str(identity)

    def write_as(self, kept: Any) -> str:
        """The name to write under, which belongs to this key from now on; ValueError where it is somebody else's. Without
        a key (a script that never opened the page) it is a new anonymous id each time."""
        if kept is None or (isinstance(kept, str) and not kept.strip()):
            kept = self.issue(None)
        identity = read_kept(kept)
        if identity is None:
            raise ValueError(UNKNOWN)
        people = self.store.people
        holds = people.holds(identity.name, identity.digest)
        allowed = self._may(identity, holds)
        if allowed and holds is None and not self.store.database.damage:
            allowed = people.claim(identity.name, identity.digest)  # not where another browser is first
        if not allowed:
            raise ValueError(_refusal(identity))
        return identity.name

    def known_as(self, kept: Any) -> str | None:
        """The name that `write_as` would give, None where it would refuse. Claims no name."""
        identity = read_kept(kept)
        return identity.name if identity and self._may_use(identity) else None

    def _may_use(self, identity: Kept) -> bool:
        return self._may(identity, self.store.people.holds(identity.name, identity.digest))

    def _may(self, identity: Kept, holds: bool | None) -> bool:
        """Whether the name is this key's, or can become it. holds: whether the key holds it, None for a free name."""
        if holds is not None:
            return holds
        name = identity.name
        own = not is_anonymous(name) or hmac.compare_digest(name, self.anonymous_of(identity.key))
        return own or self.store.people.wrote(name)

    def anonymous_of(self, key: str) -> str:
        """The anonymous id of the browser with this key."""
        return f"anonymous-{hmac.new(self._secret(), key.encode(), hashlib.sha256).hexdigest()[:12]}"

    def _secret(self) -> bytes:
        """The server's secret, made once by the first of several processes."""
        path = Path(self.settings.home) / SECRET
        try:
            return path.read_bytes()
        except FileNotFoundError:
            pass
        fresh = path.with_name(f"{SECRET}.{new_id()[:8]}.tmp")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_hex(32).encode())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            os.replace(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
        return path.read_bytes()


def _refusal(identity: Kept) -> str:
    return STRANGE if is_anonymous(identity.name) else TAKEN.format(name=identity.name)
