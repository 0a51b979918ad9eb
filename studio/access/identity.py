"""Identities of visitors: accounts, names and anonymous ids.

On a Space with OAuth only the signed-in account counts. Anywhere else the OAuth cookie is signed with a constant key and
proves nothing, so it is ignored: there a person goes by a name, which belongs to the browser that first wrote under it. A
browser keeps its key and the name as one text, ``KEY:NAME``; ``studio.annotation.people`` decides whether the key may
write under the name. This module knows neither store nor page.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradio import OAuthProfile

LONGEST = 80
SIMULATED = "detector"  # the simulated annotator's name
RESERVED = {SIMULATED, "vlm", "calibrated", "confirmed", "simulated", "shipped"}
ANONYMOUS = re.compile(r"anonymous-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_KEPT = re.compile(r"([0-9a-f]{32}):(.+)", re.DOTALL)


@dataclass(frozen=True)
class Kept:
    """What a browser keeps: a key of 128 bits and a name."""

    key: str
    name: str

    def __str__(self) -> str:
        return f"{self.key}:{self.name}"

    @property
    def digest(self) -> str:
        """The digest of the key, which the store keeps."""
        return hashlib.sha256(bytes.fromhex(self.key)).hexdigest()


def read_kept(value: Any) -> Kept | None:
    """A `Kept` from what a browser sent, None for anything else."""
    match = _KEPT.fullmatch(value.strip()) if isinstance(value, str) and len(value) < 500 else None
    if match is None:
        return None
    try:
        return Kept(match[1], check_name(match[2]))
    except ValueError:
        return None


def new_key() -> str:
    return secrets.token_hex(16)


def on_space(env: Mapping[str, str] | None = None) -> bool:
    """Whether this runs as a Hugging Face Space."""
    return bool((os.environ if env is None else env).get("SPACE_ID"))


def oauth_enabled(env: Mapping[str, str] | None = None) -> bool:
    """Whether this is a Space with an OAuth client, so that signing in proves an account. Without SYSTEM=spaces Gradio
    would sign everybody in as the account of this machine."""
    env = os.environ if env is None else env
    client = all(env.get(name) for name in ("SPACE_ID", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET"))
    return client and env.get("SYSTEM") == "spaces"


def login_offered(env: Mapping[str, str] | None = None) -> bool:
    """Whether a sign-in button would work: Gradio fails where a variable or a package for it is missing."""
    env = os.environ if env is None else env
    variables = all(env.get(name) for name in ("OAUTH_SCOPES", "OPENID_PROVIDER_URL"))
    return oauth_enabled(env) and variables and all(find_spec(name) for name in ("authlib", "itsdangerous"))


def anonymous() -> str:
    """A new anonymous id, for a visitor who only looks."""
    return f"anonymous-{secrets.token_hex(6)}"


def is_anonymous(name: str) -> bool:
    return ANONYMOUS.fullmatch(name) is not None


def check_name(name: Any) -> str:
    """The name, normalised; ValueError with a sentence for an unusable one."""
    if not isinstance(name, str):
        raise ValueError(f"A name must be text, not {type(name).__name__}.")
    plain = unicodedata.normalize("NFC", name).strip()
    if not plain:
        raise ValueError("The name is empty: write one, or stay anonymous.")
    if len(plain) > LONGEST:
        raise ValueError(f"The name has {len(plain)} characters: use {LONGEST} at most.")
    if not plain.isprintable():
        raise ValueError("The name has a character that cannot be shown: use letters, digits and spaces.")
    if unicodedata.normalize("NFKC", plain).casefold() in RESERVED:
        raise ValueError(f"The name {plain!r} is taken by the studio itself: choose another one.")
    return plain


def account(profile: OAuthProfile) -> str:
    """The name of a signed-in account; ValueError for one that looks like an anonymous id."""
    name = check_name(profile.username)
    if is_anonymous(name):
        raise ValueError(f"The account {name!r} looks like an anonymous id: sign in with another one.")
    return name


def who(chosen: Any = None, profile: OAuthProfile | None = None, env: Mapping[str, str] | None = None) -> str:
    """The name to read under, which proves nothing. chosen: what the browser keeps, or a plain name; profile: gradio's
    OAuthProfile, or None. With OAuth, a visitor who has not signed in is anonymous whatever name the browser sends."""
    kept = read_kept(chosen)
    name = kept.name if kept else chosen
    if oauth_enabled(env):
        if profile is not None:
            return account(profile)
        return name if isinstance(name, str) and is_anonymous(name) else anonymous()
    if name is None or (isinstance(name, str) and not name.strip()):
        return anonymous()
    return check_name(name)
