"""Who may write under which name: the part of `Studio` that knows the browsers' keys.

A name belongs to the browser that first writes under it. The browser holds a key, the store its digest. An anonymous id
follows from the key by a secret of this server (a file in STUDIO_HOME), so that only the server can make one, and
nothing need be kept of a visitor who never writes.
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
        """What a browser keeps from now on: what it sent where that is good, else a key and an anonymous id. A name that
        it kept before there were keys gets a key, and is its own where nobody was first."""
        found = read_kept(kept)
        if found is None:
            key = new_key()
            try:
                found = Kept(key, check_name(kept))
            except ValueError:
                found = Kept(key, self.anonymous_of(key))
        if (oauth_enabled() and not is_anonymous(found.name)) or not self._known(found):
            found = Kept(found.key, self.anonymous_of(found.key))
        return str(found)

    def renamed(self, name: Any, kept: Any) -> str:
        """What this browser keeps when it goes by another name; an empty one: its anonymous id again. ValueError where
        the name is another browser's."""
        before = read_kept(kept)
        key = before.key if before else new_key()
        if not isinstance(name, str) or not name.strip():
            return str(Kept(key, self.anonymous_of(key)))
        found = Kept(key, check_name(name))
        if not self._known(found):
            raise ValueError(_refusal(found))
        return str(found)

    def adopted(self, brought: Any) -> str:
        """What this browser keeps once it was brought what another one keeps; ValueError where that is not right."""
        found = read_kept(brought)
        if found is None:
            raise ValueError(NO_KEY)
        holds = self.store.people.holds(found.name, found.digest)
        if not (holds or (is_anonymous(found.name) and self._may(found, holds))):
            raise ValueError(
                f"That is not the key of {found.name!r}: copy it again from the browser that has the name, once something "
                "was written under it."
            )
        return str(found)

    def write_as(self, kept: Any) -> str:
        """The name to write under, which is this key's from now on; ValueError where it is somebody else's. Nothing at
        all (a script that never opened the page) is an anonymous id of its own each time."""
        if kept is None or (isinstance(kept, str) and not kept.strip()):
            kept = self.issue(None)
        found = read_kept(kept)
        if found is None:
            raise ValueError(UNKNOWN)
        holds = self.store.people.holds(found.name, found.digest)
        if not self._may(found, holds):
            raise ValueError(_refusal(found))
        if (
            holds is None
            and not self.store.database.damage
            and not self.store.people.claim(found.name, found.digest)
        ):
            raise ValueError(_refusal(found))  # another browser was first, this very moment
        return found.name

    def known_as(self, kept: Any) -> str | None:
        """The name that `write_as` would give, where it is this key's or could become it; else None. Takes no name."""
        found = read_kept(kept)
        return found.name if found and self._known(found) else None

    def _known(self, found: Kept) -> bool:
        return self._may(found, self.store.people.holds(found.name, found.digest))

    def _may(self, found: Kept, holds: bool | None) -> bool:
        """Whether the name is this key's, or could become it."""
        if holds is not None:
            return holds
        if not is_anonymous(found.name):
            return True
        return hmac.compare_digest(found.name, self.anonymous_of(found.key)) or self.store.people.wrote(
            found.name
        )

    def anonymous_of(self, key: str) -> str:
        """The anonymous id of the browser with this key."""
        return f"anonymous-{hmac.new(self._secret(), key.encode(), hashlib.sha256).hexdigest()[:12]}"

    def _secret(self) -> bytes:
        """Made once, whoever of several processes is first."""
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


def _refusal(found: Kept) -> str:
    return STRANGE if is_anonymous(found.name) else TAKEN.format(name=found.name)
