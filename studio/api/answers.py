"""What endpoints answer: samples as plain values, files that a client can fetch, and sentences for what went wrong."""

import functools
import mimetypes
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from studio import identity
from studio.service import SampleView, Studio, sentence
from studio.tabs import shared

WHO = "Who is writing? Ask the endpoint sign_in once, keep what it answers as who, and give that with each call."


def plainly(work: Callable[..., Any]) -> Callable[..., Any]:
    """The endpoint with every exception turned into a sentence, as text: a client is no page."""

    @functools.wraps(work)
    def endpoint(*given: Any, **named: Any) -> Any:
        try:
            return work(*given, **named)
        except Exception as exception:  # noqa: BLE001
            raise gr.Error(sentence(exception), title="That did not work", print_exception=False) from None

    return endpoint


def keyed(who: Any, profile: Any = None) -> Any:
    """What says who is writing, where it has a key; without one there would be a new one at each call."""
    if identity.read_kept(who) is None and not (identity.oauth_enabled() and profile is not None):
        raise ValueError(WHO)
    return who


def writer(studio: Studio, who: Any, profile: Any = None) -> str:
    """The name to write under, by the page's own rule."""
    return shared.writer(studio, keyed(who, profile), profile)


def folder() -> Path:
    """Where files lie that clients may fetch; Gradio removes them after a day."""
    made = Path(get_upload_folder())
    made.mkdir(parents=True, exist_ok=True)
    return made


def file(path: str | Path) -> dict[str, Any]:
    """A copy of a file for the client: the folder of the studio itself is closed to all."""
    copy = save_file_to_cache(path, str(folder()))
    kind = mimetypes.guess_type(copy)[0]
    return {
        "path": copy,
        "orig_name": Path(path).name,
        "mime_type": kind,
        "meta": {"_type": "gradio.FileData"},
    }


def picture(view: SampleView) -> dict[str, Any]:
    """The image of a sample; ValueError where its file is gone."""
    if view.image_path is None:
        raise ValueError(f"The file of the image {view.id} is gone: put it back, or make the image again.")
    return file(view.image_path)


def plain(view: SampleView) -> dict[str, Any]:
    """A sample and its words; ``image`` is a file, or None where it is gone."""
    found = asdict(view)
    found.pop("image_path")
    return found | {"image": picture(view) if view.image_path else None}
