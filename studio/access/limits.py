"""Rights and limits of visitors: who may correct, who may train, and how much may be asked for at once.

On a Space visitors are strangers, so there are limits from the start, except for its owner or STUDIO_ADMINS. Elsewhere the
studio is its user's own: a limit holds only if it was set, and then for everyone. Off a Space the administrators are those
at the machine or, where others can reach it, those who show its token (``studio.access.guard``); of these the names in
STUDIO_ADMINS alone, if there are any.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from studio.access import hosts, identity

if TYPE_CHECKING:
    from gradio import OAuthProfile

    from data.store import Store
    from studio.grids.axes import GridRequest
    from studio.images.views import Request
    from studio.settings import Settings
    from studio.studio import Studio

RIGHTS = "train, promote, import, export, delete and see gold"
MAX_UPLOAD = 5 * 2**20  # bytes of a file that is sent to the page or to an endpoint
READ_ONLY = "This studio is read-only: corrections and votes are switched off here."
SIGN_IN = "Sign in with Hugging Face to correct scores and to vote here."
NO_LOGIN = (
    "Only accounts that signed in may write here (STUDIO_ANNOTATE=login), which needs a Space with hf_oauth."
)


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask for at once. cells: images; side: in pixels; samples: that the store may hold, None for any
    number."""

    cells: int
    steps: int
    side: int
    samples: int | None

    def check_request(self, request: Request, store: Store) -> Request:
        """The request of a comparison, if this visitor may make it, else ValueError."""
        self._check(2 * len(request.seeds), request.steps, request, store)
        return request

    def check_grid(self, request: GridRequest, store: Store) -> GridRequest:
        """The request of a grid, if this visitor may make it, else ValueError."""
        self._check(request.total, max(each.steps or 0 for each in request.variants), request, store)
        return request

    def _check(self, images: int, steps: int, request: Request | GridRequest, store: Store) -> None:
        """ValueError for too many images, steps or pixels, and where the store, with the images that grids are still to
        make, is full for visitors."""
        if images > self.cells:
            raise ValueError(f"That is {images} images: {self.cells} at most may be asked for at once here.")
        if steps > self.steps:
            raise ValueError(f"That is {steps} steps: {self.steps} at most may be asked for here.")
        side = max(request.width or 0, request.height or 0)
        if side > self.side:
            raise ValueError(f"That is {side} pixels: images have {self.side} a side at most here.")
        if self.samples is None:
            return
        waiting = store.grids.cells_waiting()
        if store.samples.count() + waiting >= self.samples:
            queued = f" with the {waiting} that grids in the queue are still to make" if waiting else ""
            raise ValueError(
                f"This studio keeps {self.samples} images, and it is full{queued}: look at those that are there, or run a "
                "studio of your own. Its owner can raise STUDIO_MAX_SAMPLES."
            )


OFF, SPACE = Limits(256, 100, 2048, None), Limits(32, 50, 1024, 20_000)


def limits(
    studio: Studio, profile: OAuthProfile | None = None, env: Mapping[str, str] | None = None
) -> Limits:
    """The limits of this visitor: for an administrator of a Space only the application's own."""
    if identity.oauth_enabled(env) and profile is not None and _named(studio.settings, profile.username, env):
        return OFF
    return visitor(studio.settings, env)


def visitor(settings: Settings, env: Mapping[str, str] | None = None) -> Limits:
    """The limits of any visitor."""
    default = SPACE if identity.on_space(env) else OFF
    names = {"cells": "max_cells", "steps": "max_steps", "side": "max_size", "samples": "max_samples"}
    texts = {limit: getattr(settings, name) for limit, name in names.items()}
    return replace(default, **{limit: int(text) for limit, text in texts.items() if text != "auto"})


class NotYet(ValueError):
    """A refusal that the visitor can lift, by signing in or with the token; what they sent is kept until then."""


def may_write(
    settings: Settings, profile: OAuthProfile | None = None, env: Mapping[str, str] | None = None
) -> str:
    """'' if this visitor may correct and vote, else the sentence that says why not."""
    if settings.annotate == "nobody":
        return READ_ONLY
    if settings.annotate == "everyone" or (identity.oauth_enabled(env) and profile is not None):
        return ""
    return SIGN_IN if identity.login_offered(env) else NO_LOGIN


def token_needed(settings: Settings, env: Mapping[str, str] | None = None) -> bool:
    """Whether administrators off a Space must show the studio's token: others can reach it, or settings ask for it."""
    if identity.on_space(env) or settings.token == "none":
        return False
    return bool(settings.token or settings.admins or settings.hosts) or hosts.on_network(env)


def open_to_all(settings: Settings, env: Mapping[str, str] | None = None) -> str:
    """A warning of the page where people on other machines are administrators without a token, else ''."""
    if settings.token != "none" or not token_needed(replace(settings, token=""), env):
        return ""
    return f"Whoever reaches this studio may {RIGHTS} here, as STUDIO_TOKEN is none."


def may_manage(
    settings: Settings,
    name: str,
    profile: OAuthProfile | None = None,
    env: Mapping[str, str] | None = None,
    token: bool = False,
) -> str:
    """'' if this visitor may do what ``RIGHTS`` says, else the sentence that says why not. name: the visitor's, proven;
    token: whether they have shown the studio's."""
    if identity.on_space(env):
        if identity.oauth_enabled(env) and profile is not None and _named(settings, profile.username, env):
            return ""
        return (
            f"Only the owner of this Space may {RIGHTS} here, once signed in (others by "
            "STUDIO_ADMINS). Duplicate the Space, or run the studio on your own machine: there it is all yours."
        )
    if (token or not token_needed(settings, env)) and (not settings.admins or _named(settings, name, env)):
        return ""
    who = "The names in STUDIO_ADMINS alone" if settings.admins else "Administrators alone"
    return (
        f"{who} may {RIGHTS} here, by this studio's token: open the link that its console printed at the start, or send "
        'the header "Authorization: Bearer TOKEN".'
    )


def ruled(settings: Settings) -> bool:
    """Whether there is anything here that only administrators may do."""
    return identity.on_space() or token_needed(settings)


def for_admins(settings: Settings, env: Mapping[str, str] | None = None) -> str:
    """``may_manage``'s refusal in short, for a disabled control."""
    if not identity.on_space(env):
        who = "the names in STUDIO_ADMINS" if settings.admins else "administrators"
        return f"Only {who} may do this here, by the link that the console printed."
    return "Only the owner of this Space may do this" + (
        ", once signed in (in the tab Annotate)." if identity.login_offered(env) else "."
    )


def may_tend(
    settings: Settings,
    made_by: str,
    name: str,
    profile: OAuthProfile | None = None,
    env: Mapping[str, str] | None = None,
    token: bool = False,
) -> str:
    """'' if this visitor may stop and resume a grid that ``made_by`` started, else the sentence that says why not. name,
    token: as of ``may_manage``."""
    if name == made_by or not may_manage(settings, name, profile, env, token):
        return ""
    return "This grid is another person's: only who started it, or an administrator, may stop or resume it."


def may_go_by(settings: Settings, name: str, token: bool, env: Mapping[str, str] | None = None) -> str:
    """'' if a visitor off a Space may write under this name, else the sentence that says why not: an administrator's name
    needs the token."""
    if token or not settings.admins or identity.on_space(env) or not _named(settings, name, env):
        return ""
    return (
        f"The name {name!r} is an administrator's: open the link that the console printed, or choose another."
    )


def _named(settings: Settings, name: str, env: Mapping[str, str] | None) -> bool:
    """Whether a name is an administrator's."""
    env = os.environ if env is None else env
    text = settings.admins or (env.get("SPACE_AUTHOR_NAME", "") if identity.on_space(env) else "")
    return name.casefold() in {one.strip().casefold() for one in text.split(",") if one.strip()}
