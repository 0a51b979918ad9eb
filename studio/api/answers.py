"""What endpoints take and answer: who asks, files that a client sent or can fetch, and samples as plain values."""

import mimetypes
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from studio.access import identity
from studio.access.limits import MAX_UPLOAD
from studio.doors import ADMINISTRATORS, GOLD, OWNERS, WRITERS
from studio.pages import shared
from studio.studio import SampleView, Studio

FILES, FIGURES = "files", "figures"  # lines that endpoints wait in, beside those of the page
Variant = Annotated[int, "one of the grid's variants, by its place"]
Viewer = Annotated[str, "from sign_in; where there are administrators, gold is in the answers of theirs only"]
WordIndex = Annotated[int, "the word's index in the prompt"]
WHO = "Who is writing? Ask the endpoint sign_in once, keep what it answers as who, and give that with each call."
NO_FILE = "There is no file: send one, in Python with handle_file of gradio_client."


class FileMark(TypedDict):
    """By which Gradio knows a file among other values."""

    _type: Literal["gradio.FileData"]


class GivenFile(TypedDict):
    """A file that a client sends, as Gradio describes it; an agent gives its address."""

    path: str
    meta: FileMark


def keyed(who: Any, profile: Any = None) -> Any:
    """``who``, where it is a key or its owner has signed in; without a key there would be another name at each call."""
    if identity.read_kept(who) is None and not (identity.oauth_enabled() and profile is not None):
        raise ValueError(WHO)
    return who


def caller(may: str, studio: Studio, asked: Mapping[str, Any]) -> str:
    """The name of one who may use an endpoint, by what it was asked; ValueError with a sentence for others."""
    who, profile = asked["who"], asked["profile"]
    if may == GOLD and shared.manages(studio, who, profile):
        return ""
    if may in (GOLD, ADMINISTRATORS):
        return shared.admin(studio, who, profile)
    keyed(who, profile)
    if may == OWNERS:
        return shared.tender(studio, asked["grid"], who, profile)
    return shared.writer(studio, who, profile) if may == WRITERS else shared.proven(studio, who, profile)


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


def columns(rows: Iterable[Mapping[str, Any]], names: str) -> list[dict[str, Any]]:
    """These columns of each row."""
    return [{name: row[name] for name in names.split()} for row in rows]


def stated(**filters: Any) -> dict[str, Any]:
    """The filters that are set."""
    return {name: value for name, value in filters.items() if value is not None}


def plain(view: SampleView) -> dict[str, Any]:
    """A sample and its words; ``image`` is a file, or None where it is gone."""
    sample = asdict(view)
    del sample["image_path"]
    return sample | {"image": picture(view) if view.image_path else None}
