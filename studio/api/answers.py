"""What endpoints take and answer: files that a client sent or can fetch, samples as plain values, and sentences for what
went wrong."""

import functools
import mimetypes
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypedDict

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from studio.access import identity
from studio.access.limits import MAX_UPLOAD
from studio.errors import sentence
from studio.pages import shared
from studio.studio import SampleView, Studio

WHO = "Who is writing? Ask the endpoint sign_in once, keep what it answers as who, and give that with each call."
NO_FILE = "There is no file: send one, in Python with handle_file of gradio_client."


class FileMark(TypedDict):
    """By which Gradio knows a file among other values."""

    _type: Literal["gradio.FileData"]


class GivenFile(TypedDict):
    """A file that a client sends, as Gradio describes it; an agent gives its address."""

    path: str
    meta: FileMark


def plainly(work: Callable[..., Any]) -> Callable[..., Any]:
    """The endpoint, under the name that it has for clients, with every exception turned into a sentence, as text: a
    client is no page."""

    @functools.wraps(work)
    def endpoint(*given: Any, **named: Any) -> Any:
        try:
            return work(*given, **named)
        except Exception as exception:  # noqa: BLE001
            raise gr.Error(sentence(exception), title="That did not work", print_exception=False) from None

    endpoint.__name__ = work.__name__.rstrip("_")  # "import" is no name for a method
    return endpoint


def keyed(who: Any, profile: Any = None) -> Any:
    """``who``, where it is a key or its owner has signed in; without a key there would be another name at each call."""
    if identity.read_kept(who) is None and not (identity.oauth_enabled() and profile is not None):
        raise ValueError(WHO)
    return who


def writer(studio: Studio, who: Any, profile: Any = None) -> str:
    """The name to write under, by the page's own rule."""
    return shared.writer(studio, keyed(who, profile), profile)


def given(file: Any) -> Path:
    """The file that a client sent; ValueError where there is none, or a larger one than may be sent. Gradio has looked at
    where it lies already; it is looked at again, as what is read here is a file of the server."""
    marked = isinstance(file, dict) and file.get("meta") == {"_type": "gradio.FileData"}
    if not marked or not isinstance(file.get("path"), str):
        raise ValueError(NO_FILE)
    path = Path(file["path"]).resolve()
    if not path.is_relative_to(folder().resolve()) or not path.is_file():
        raise ValueError(NO_FILE)
    if path.stat().st_size > MAX_UPLOAD:
        raise ValueError(
            f"The file is larger than {MAX_UPLOAD / 2**20:g} MB: python -m studio takes it, where the store lies."
        )
    return path


def folder() -> Path:
    """Where files lie that clients may fetch; they go within the hour."""
    made = Path(get_upload_folder())
    made.mkdir(parents=True, exist_ok=True)
    return made


def file(path: str | Path) -> dict[str, Any]:
    """A copy of a file for the client: the folder of the studio itself is closed to all."""
    return _sent(shared.download(path), Path(path).name)


def content(body: bytes, name: str) -> dict[str, Any]:
    """A file of this content for the client."""
    return _sent(save_bytes_to_cache(body, name, str(folder())), name)


def _sent(path: str, name: str) -> dict[str, Any]:
    kind = mimetypes.guess_type(path)[0]
    return {"path": path, "orig_name": name, "mime_type": kind, "meta": {"_type": "gradio.FileData"}}


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
