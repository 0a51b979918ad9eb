"""Who is writing (DESIGN section 6).

On a Space with OAuth only the signed-in account counts. Anywhere else the OAuth cookie is signed with a constant
key and proves nothing, so it is not read: there a person goes by a name that the browser keeps, or by an anonymous
id that the browser or the server made. A name is not a password: it says whose corrections are whose, no more.
"""

from __future__ import annotations

import os
import re
import secrets
import unicodedata
from collections.abc import Mapping
from typing import Any

LONGEST = 80
SIMULATED = "detector"  # the simulated annotator's name; nobody else's
RESERVED = {SIMULATED, "vlm", "calibrated", "simulated", "shipped"}
_ANONYMOUS = re.compile(r"anonymous-[0-9a-f]{12}")


def oauth_enabled(env: Mapping[str, str] | None = None) -> bool:
    """Whether signing in means anything here: on a Space that was given an OAuth client."""
    env = os.environ if env is None else env
    return all(env.get(name) for name in ("SPACE_ID", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET"))


def anonymous() -> str:
    """A new anonymous id; the browser keeps it."""
    return f"anonymous-{secrets.token_hex(6)}"


def check_name(name: Any) -> str:
    """The name in one form of its characters; ValueError with a sentence for one that cannot be used."""
    if not isinstance(name, str):
        raise ValueError(f"A name must be text, not {type(name).__name__}.")
    plain = unicodedata.normalize("NFC", name).strip()
    if not plain:
        raise ValueError("The name is empty: write one, or stay anonymous.")
    if len(plain) > LONGEST:
        raise ValueError(f"The name has {len(plain)} characters: use {LONGEST} at most.")
    if not plain.isprintable():
        raise ValueError("The name has a character that cannot be shown: use letters, digits and spaces.")
    if plain.casefold() in RESERVED:
        raise ValueError(f"The name {plain!r} is taken by the studio itself: choose another one.")
    return plain


def who(chosen: Any = None, profile: Any = None, env: Mapping[str, str] | None = None) -> str:
    """The name to write under. chosen: what the browser kept, or None; profile: gradio's OAuthProfile, or None.

    With OAuth, a visitor who has not signed in is anonymous whatever name the browser sends.
    """
    if oauth_enabled(env):
        if profile is not None:
            return check_name(profile.username)
        kept = chosen if isinstance(chosen, str) and _ANONYMOUS.fullmatch(chosen) else None
        return kept or anonymous()
    if chosen is None or (isinstance(chosen, str) and not chosen.strip()):
        return anonymous()
    return check_name(chosen)
