"""Helpers of all tabs: errors as toasts, the visitor's name and rights, images and files, loading of the models."""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.context import LocalContext
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from data.store.database import StoreError
from studio.access import identity, limits
from studio.access.guard import SHOWN
from studio.errors import sentence
from studio.studio import Studio

# No part of the page shows the progress of an event. The empty list matters: else Gradio (6.31) looks up, at every event,
# each part that an event has ever changed, which took a third of the time until the page is there.
SILENT: dict[str, Any] = {"show_progress": "hidden", "show_progress_on": []}
# For keys and for what fires by itself. Outside the queue Gradio (6.31) answers sooner and shows neither gr.Error nor gr.Info.
QUICK: dict[str, Any] = {"queue": False, **SILENT, "api_visibility": "private"}
# For what a person asks for, who is to be told where it did not work.
ASKED: dict[str, Any] = {**QUICK, "queue": True, "concurrency_limit": None}


# What a handler gives: {component: value}. A component that is not in it stays as it is.
Update = dict[Any, Any]


def shows_errors(work: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose exceptions become a sentence in a toast; never a traceback."""
    if not inspect.isgeneratorfunction(work):
        return _toasts()(work)

    @functools.wraps(work)
    def steps(*given: Any, **named: Any) -> Any:
        with _toasts():
            yield from work(*given, **named)

    return steps


@contextlib.contextmanager
def _toasts() -> Iterator[None]:
    try:
        yield
    except gr.Error:
        raise
    except Exception as exception:  # noqa: BLE001
        # a toast is HTML: what a sentence quotes would be taken for markup, and cut off
        says = escape(sentence(exception))
        raise gr.Error(says, title="That did not work", duration=12, print_exception=False) from None


def html(value: str = "", live: bool = False, **more: Any) -> gr.HTML:
    """A piece of HTML of our own (``components.notices``) without Gradio's margins; what changes in a ``live`` one is
    read out by a screen reader."""
    return gr.HTML(value, apply_default_css=False, elem_classes=["bare", "live"] if live else "bare", **more)


def image(elem_id: str, label: str | None = None, **more: Any) -> gr.Image:
    """A stored image to be looked at; as PNG, since Gradio makes WebP of it otherwise."""
    look: dict[str, Any] = {"buttons": ["fullscreen"], **more}
    return gr.Image(
        label=label, show_label=label is not None, format="png", interactive=False, elem_id=elem_id,
        elem_classes="picture", **look,
    )  # fmt: skip


def heading(text: str) -> gr.HTML:
    """The heading of a tab's page, for screen readers: others see the tab itself."""
    return gr.HTML(f"<h2>{escape(text)}</h2>", apply_default_css=False, elem_classes=["bare", "tab-heading"])


def person(kept: Any, profile: Any = None) -> str:
    """The name to write under; a kept name that cannot be used (it came over HTTP) counts as none."""
    try:
        return identity.who(kept, profile)
    except ValueError:
        return identity.who(None, profile)


def writer(studio: Studio, kept: Any, profile: Any = None) -> str:
    """The name to write under, where this browser may write; ValueError with a sentence where it may not."""
    why_not = limits.may_write(studio.settings, profile)
    if why_not:
        raise limits.NotYet(why_not) if why_not == limits.SIGN_IN else ValueError(why_not)
    return proven(studio, kept, profile)


def proven(studio: Studio, kept: Any, profile: Any = None) -> str:
    """The name that this browser may go by, which is its own from then on; ValueError where it is another's."""
    if identity.oauth_enabled() and profile is not None:
        return identity.account(profile)
    if _account_needed(kept):
        raise ValueError("Here a name is an account's: sign in, or reload the page to stay anonymous.")
    person = identity.read_kept(kept)
    why_not = limits.may_go_by(studio.settings, person.name if person else "", with_token())
    if why_not:
        raise limits.NotYet(why_not)
    return studio.people.write_as(kept)


def known(studio: Studio, kept: Any, profile: Any = None) -> str | None:
    """The name that ``proven`` would give, or None; claims no name for this browser, as it may only be looking."""
    if identity.oauth_enabled() and profile is not None:
        return identity.account(profile)
    return None if _account_needed(kept) else studio.people.known_as(kept)


def holds(studio: Studio, kept: Any, profile: Any = None) -> bool:
    """Whether the queue leases images to this visitor: not to one who can only look, nor under a name that is not
    theirs to write under. Claims no name, as ``known``."""
    return not limits.may_write(studio.settings, profile) and known(studio, kept, profile) is not None


def _account_needed(kept: Any) -> bool:
    person = identity.read_kept(kept)
    return identity.oauth_enabled() and person is not None and not identity.is_anonymous(person.name)


def with_token() -> bool:
    """Whether this request has shown the studio's token, as `studio.access.guard.Guard` noted."""
    request = LocalContext.request.get(None)
    scope = getattr(getattr(request, "request", None) or request, "scope", {})
    return scope.get(SHOWN, False)


def admin(studio: Studio, kept: Any, profile: Any = None) -> str:
    """The name of an administrator (``limits.RIGHTS``); ValueError with a sentence for others."""
    name = "" if identity.on_space() else proven(studio, kept, profile)
    why_not = limits.may_manage(studio.settings, name, profile, token=with_token())
    if why_not:
        raise ValueError(why_not)
    return name or identity.account(profile)


def manages(studio: Studio, kept: Any, profile: Any = None) -> bool:
    """Whether this visitor is an administrator. The name of one is this browser's from then on, as by writing; nobody
    else's is."""
    if not limits.ruled(studio.settings):
        return True
    name = "" if identity.on_space() else known(studio, kept, profile) or ""
    if limits.may_manage(studio.settings, name, profile, token=with_token()):
        return False
    try:
        return bool(admin(studio, kept, profile))
    except (ValueError, StoreError):
        return False


def tender(studio: Studio, grid: str, kept: Any, profile: Any = None) -> str:
    """The name of one who may stop and resume this grid; ValueError with a sentence for others."""
    made_by, name = studio.store.grids.get(grid)["who"], known(studio, kept, profile) or ""
    why_not = limits.may_tend(studio.settings, made_by, name, profile, token=with_token())
    if why_not:
        raise ValueError(why_not)
    return proven(studio, kept, profile)


def forget(request: gr.Request | None, secret: Any) -> None:
    """Take a secret out of what Gradio (6.31) keeps of a session: the inputs of each event, which a deep link writes
    to disk."""
    app = getattr(getattr(request, "request", None), "app", None)
    session = request.session_hash if request is not None else None
    if app is None or not session or session not in app.state_holder:
        return
    for config in app.state_holder[session].config_values.values():
        properties = config.get("props", {}) if config else {}
        if properties.get("value") == secret:
            properties["value"] = ""


def picture(path: str | None) -> np.ndarray | None:
    """A stored image (H, W, 3) uint8, or None where it is gone."""
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError:
        return None


@contextlib.contextmanager
def room() -> Iterator[Path]:
    """A temporary folder for a file until there is a copy of it for visitors (``download``). It lies in the folder
    that is swept, so that what a killed process leaves is deleted too."""
    folder = get_upload_folder()
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="made-", ignore_cleanup_errors=True) as made:
        yield Path(made)


def download(path: str | Path) -> str:
    """A copy of a file that visitors can download, deleted within the hour (``uploads.sweep``); the same file always has
    the same copy."""
    return save_file_to_cache(path, get_upload_folder())


def served(path: str | None) -> str | None:
    """A copy of a stored image that the page may read, always the same one; None where the image is gone. It is the
    file itself, with its text, and is not written twice."""
    if path is None:
        return None
    try:
        return download(path)
    except OSError:
        return None


def enlarged(small: np.ndarray | None, size: int = 256) -> np.ndarray | None:
    """A preview (h, w, 3) uint8, of a few pixels, scaled up."""
    if small is None:
        return None
    return np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC))


class Loading:
    """The models, loaded in a thread of their own, so that the page answers at once."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.stage = "Starting."
        self.problem = ""

    def start(self, after: float = 0.0) -> Loading:
        """Begin after so many seconds."""
        thread = threading.Timer(after, self.run)
        thread.name, thread.daemon = "loading", True
        thread.start()
        return self

    def run(self) -> None:
        try:
            self.studio.load(lambda stage: setattr(self, "stage", stage))
            # what is loaded stays: to look through its 600,000 objects for garbage keeps all visitors waiting for .3 s and more
            gc.collect()
            gc.freeze()
        except Exception as error:  # noqa: BLE001 - the page says what it was
            self.problem = sentence(error)

    @property
    def over(self) -> bool:
        return self.studio.ready or bool(self.problem)
