"""Export, import, back-up, restore and push of the whole store, each noted in the audit log.

The page and the command line both call this; each format is a module of `data.exchange`. A file
is read a line at a time, whatever its size; the page limits the size of uploads.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.store import Store
from data.store.checks import shown
from data.store.database import BACKUPS
from studio.training.results import REPOSITORY

if TYPE_CHECKING:
    from studio.studio import Studio

# name: (label, ending, what is in it and what it loses)
OUT: dict[str, tuple[str, str, str]] = {
    "jsonl": ("JSONL, everything", ".jsonl", ("All samples, scores, remarks, gold scores, votes and runs; nothing is lost. "
              "Comes back in byte for byte.")),
    "csv": ("CSV table", ".csv", ("A row a word with its current label, 9 = fully shown; formulas are neutralised. "
            "No history.")),
    "parquet": ("Parquet table", ".parquet", "The same table with types, for data frames. No history."),
    "dataset": ("Dataset folder (zip)", ".zip", ("Images, words and a dataset card, as `datasets.load_dataset` loads it. "
                "No history, no names of people.")),
    "dpo": ("DPO pairs, from labels", ".jsonl", ("The better and the worse image of a prompt: chosen = higher mean "
            "label. No ties.")),
    "votes": ("DPO pairs, from votes", ".jsonl", ("What people chose in blind votes: chosen = the better image. No ties, "
              "no names.")),
    "richhf": ("RichHF words", ".jsonl", ("1 = aligned, 0 = misaligned: a label of 4.5 or more is 1. All between the two "
               "is lost, and “nothing else”, which has no place in it.")),
    "rapidata": ("Rapidata word scores", ".jsonl", ("Higher = worse: 0 = fully shown, 9 = not at all. No history, no "
                 "“nothing else”, which has no place in it.")),
}  # fmt: skip
IN: dict[str, tuple[str, str]] = {
    "jsonl": ("JSONL, everything", "Who said what comes from the file. 9 = fully shown."),
    "csv": (
        "CSV table of scores",
        "Columns sample, word_index, score; 9 = fully shown. They become your scores.",
    ),
    "parquet": (
        "Parquet table",
        "Columns sample, word_index, score; 9 = fully shown. Whole scores become yours.",
    ),
    "dataset": (
        "Dataset (zip)",
        "The zip that was exported, or the folder; 9 = fully shown. Whole scores become yours.",
    ),
    "dpo": (
        "DPO pairs",
        "chosen = the better image. Each line becomes your vote between two images of the store.",
    ),
    "richhf": ("RichHF words", "1 = aligned, 0 = misaligned; they become your scores 9 and 0."),
    "rapidata": ("Rapidata word scores", "Higher = worse: 9 minus the value, rounded, becomes your score."),
}


@dataclass(frozen=True)
class Imported:
    """The result of an import or a dry run: a sentence, counts by name, and changes {line, sample, word_index, word,
    before, after} or, of pairs, {line, prompt, chosen_sample, rejected_sample, before, after}."""

    text: str
    counts: dict[str, int]
    changes: list[dict[str, Any]] = field(default_factory=list)
    more: int = 0  # changes that are not listed


def export_file(
    studio: Studio,
    kind: str,
    path: str | Path,
    who: str,
    *,
    features: bool = True,
    licence: str = "",
    name: str = "",
) -> dict[str, Any]:
    """Write the labels in one of the formats of `OUT` (a dataset as a folder); the counts. name: for the log, if it is not
    the path's own."""
    from data.exchange import folder, pairs, parquet, table, words
    from data.exchange.jsonl import export_labels

    write: dict[str, Callable[[Store], dict[str, Any]]] = {
        "jsonl": lambda store: export_labels(store, path, features=features),
        "dataset": lambda store: folder.export_folder(store, path, studio.settings.home, licence),
        "richhf": lambda store: words.export_words(store, path, words.RICHHF),
        "rapidata": lambda store: words.export_words(store, path, words.RAPIDATA),
        "csv": lambda store: table.export_csv(store, path),
        "parquet": lambda store: parquet.export_parquet(store, path),
        "dpo": lambda store: pairs.export_dpo(store, path),
        "votes": lambda store: pairs.export_votes(store, path),
    }
    _check_format(kind, OUT)
    with studio.store.to_export() as store:
        counts = write[kind](store)
    studio.store.audit.note(who, "export", (name or Path(path).name)[:200], {"format": kind, **counts})
    return counts


def export_zip(studio: Studio, path: Path, who: str, licence: str = "") -> dict[str, Any]:
    """Write the dataset folder as one zip file; the counts."""
    from data.exchange.jsonl import whole_file

    folder = path.with_name(f"{path.stem}.folder")
    try:
        counts = export_file(studio, "dataset", folder, who, licence=licence, name=path.name)
        with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for one in sorted(folder.rglob("*")):
                if one.is_file():
                    archive.write(one, one.relative_to(folder).as_posix())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return counts


def export_into(
    studio: Studio, kind: Any, folder: Path, who: str, *, features: bool = True, licence: str = ""
) -> tuple[Path, dict[str, Any]]:
    """One file in one of the formats of `OUT`, a dataset as a zip, into this folder; the file and the counts."""
    _check_format(kind, OUT)
    path = folder / f"labels-{kind}{OUT[kind][1]}"
    if kind == "dataset":
        return path, export_zip(studio, path, who, licence)
    return path, export_file(studio, kind, path, who, features=features)


def import_file(
    studio: Studio,
    kind: str,
    path: str | Path,
    who: str,
    *,
    dry_run: bool = False,
    images: str | Path | None = None,
    name: str = "",
) -> Imported:
    """Import a file in one of the formats of `IN`, all of it or nothing; with dry_run nothing is kept. who: whose scores
    and votes those of every format but jsonl become. name: of the file, if it is not the path's own.

    A large file goes into the store in pieces (`data.store.imports`): if something stops it, StoreError says how far it
    is, and the rest is imported when the studio next starts, or before the next import."""
    from core.words import units_of
    from data.exchange import folder, pairs, parquet, table, words
    from data.exchange.jsonl import import_labels

    store, units = studio.store, units_of
    read: dict[str, Callable[[], dict[str, Any]]] = {
        "jsonl": lambda: import_labels(store, path, images, dry_run, units=units),
        "richhf": lambda: words.import_words(store, path, words.RICHHF, who, dry_run, units=units),
        "rapidata": lambda: words.import_words(store, path, words.RAPIDATA, who, dry_run, units=units),
        "dpo": lambda: pairs.import_dpo(store, path, who, dry_run),
        "csv": lambda: table.import_csv(store, path, who, dry_run, units=units),
        "parquet": lambda: parquet.import_parquet(store, path, who, dry_run, units=units),
        "dataset": lambda: folder.import_folder(store, path, who, dry_run, units=units),
    }
    _check_format(kind, IN)
    counts = read[kind]()
    changes = counts.pop("changes")
    listed = ("words_new", "words_changed") if kind == "jsonl" else ("new", "changed")
    total = sum(counts[name] for name in listed)
    if not dry_run:
        store.audit.note(who, "import", (name or Path(path).name)[:200], {"format": kind, **counts})
    return Imported(_summary(kind, counts, dry_run), counts, changes, total - len(changes))


def _check_format(kind: Any, formats: Mapping[str, Any]) -> None:
    if not isinstance(kind, str) or kind not in formats:
        raise ValueError(f"The format {shown(kind)} is not known: choose one of {', '.join(formats)}.")


def _summary(kind: str, counts: Mapping[str, int], dry_run: bool) -> str:
    verb = "Would be taken over" if dry_run else "Taken over"
    if kind == "jsonl":
        more = "".join(f", {counts[n]} {n}" for n in ("remarks", "gold", "preferences") if counts[n])
        text = "{}: {samples} samples, {events} scores, {runs} runs{}".format(verb, more, **counts)
        return text + ". {words_new} words {} a first label, {words_changed} another one.".format(
            "would get" if dry_run else "got", **counts
        )
    what = "votes" if kind == "dpo" else "words"
    text = "{}: {new} new and {changed} changed {}; {same} say the same already.".format(verb, what, **counts)
    if left := counts.get("not_scored"):
        text += f" {left} marks of what is no scored word were left out."
    return text


# ---- backup -------------------------------------------------------------------------------------------------------


def backups(studio: Studio) -> Path:
    """The folder of the backups that the page makes."""
    return studio.settings.home / BACKUPS


def backup(studio: Studio, path: str | Path, who: str) -> Path:
    """Copy the database as it is now, compactly, while others write; never overwrites a file."""
    target = Path(path).expanduser().absolute()
    if target.is_dir():
        raise ValueError(f"{target.name} is a folder; give the name of a file to write.")
    studio.store.database.vacuum_into(target)
    studio.store.audit.note(who, "backup", target.name[:200], {"bytes": target.stat().st_size})
    return target


def new_backup(studio: Studio, who: str) -> Path:
    """Make a backup in the studio's own folder, named by its time."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    folder = backups(studio)
    taken = {one.name for one in folder.glob("studio-*.db")}
    names = (f"studio-{stamp}{f'-{n}' if n else ''}.db" for n in range(1000))
    return backup(studio, folder / next(name for name in names if name not in taken), who)


def kept_backups(studio: Studio) -> list[dict[str, Any]]:
    """The page's backups, the newest first: {name, bytes, created}."""
    files = [(file, file.stat()) for file in backups(studio).glob("*.db")]
    return [
        {
            "name": file.name,
            "bytes": stat.st_size,
            "created": time.strftime("%Y-%m-%d %H:%M", time.gmtime(stat.st_mtime)),
        }
        for file, stat in sorted(files, key=lambda pair: pair[1].st_mtime, reverse=True)
    ]


def backup_named(studio: Studio, name: Any) -> Path:
    """One of the page's backups by its name, as it came over HTTP."""
    if not isinstance(name, str) or name not in {one["name"] for one in kept_backups(studio)}:
        raise ValueError("There is no such backup: choose one that is listed.")
    return backups(studio) / name


def restore(studio: Studio, path: str | Path, who: str) -> dict[str, Any]:
    """Put a backup in the database's place, and keep what it replaced beside it; refused while a run or a grid is on."""
    dead = [*studio.runs.sweep(), *studio.grids.sweep()]
    if not studio.store.database.damage:
        dead = []  # they are marked, and may have been resumed since
    result = studio.store.restoring.restore(path, dead)
    studio.store.audit.note(who, "restore", Path(path).name[:200], result)
    return result


def restored(result: Mapping[str, Any]) -> str:
    """The result of `restore`, or of `check_backup`, in a sentence."""
    counts = "{samples} images, {scores} scores, {runs} runs".format(**result)
    if "replaced" not in result:
        return f"It can be restored: {counts}."
    return f"Restored: {counts}. What was there is kept in {result['replaced']}."


def log(studio: Studio, limit: int, offset: int = 0, *, gold: bool = True) -> list[dict[str, Any]]:
    """The lines of the audit log, the newest first. gold: whether lines on gold say of what and how much."""
    lines = studio.store.audit.entries(limit, offset)
    return [
        line if gold or line["action"] != "gold" else {**line, "subject": "", "detail": {}} for line in lines
    ]


# ---- push ---------------------------------------------------------------------------------------------------------


def push(
    studio: Studio,
    repository: Any,
    token: Any,
    who: str,
    *,
    private: bool = True,
    licence: str = "",
    api: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Push the dataset folder to a dataset repository of the Hub with the user's token, which is stored nowhere: {url,
    samples, words, left_out, splits}. A missing repository is made, private unless said otherwise; a public one is not
    written to unless private is False. api: in place of `huggingface_hub.HfApi`."""
    name, secret = check_repository(repository), check_token(token)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "dataset"
        counts = export_file(studio, "dataset", folder, who, licence=licence)
        upload(
            folder, name, secret, "dataset", private=private, api=api,
            commit_message=f"{counts['samples']} images, {counts['words']} labelled words",
            delete_patterns=["train/**", "validation/**", "heldout/**"],
        )  # fmt: skip
    studio.store.audit.note(who, "push", name, {"private": private, **counts})
    return {"url": f"https://huggingface.co/datasets/{name}", **counts}


def check_repository(repository: Any) -> str:
    """Validate the name of a repository of the Hub, owner/name."""
    name = repository.strip() if isinstance(repository, str) else ""
    if not REPOSITORY.fullmatch(name) or ".." in name or "--" in name:
        raise ValueError(f"The repository {shown(repository)} is no name of one: write owner/name.")
    return name


def check_token(token: Any) -> str:
    """Validate a token of the Hub."""
    secret = token.strip() if isinstance(token, str) else ""
    if not secret:
        raise ValueError("There is no token: make one with the right to write on the Hub, or set HF_TOKEN.")
    if not (secret.isascii() and secret.isprintable() and " " not in secret and len(secret) <= 500):
        raise ValueError("The token has characters that no token has: copy it again.")
    return secret


def upload(
    folder: Path,
    name: str,
    token: str,
    kind: str,
    *,
    private: bool,
    api: Callable[..., Any] | None = None,
    **options: Any,
) -> None:
    """Upload a folder to a repository of the Hub of a kind (dataset or model), which is made where there is none, with the
    options of `HfApi.upload_folder`; ValueError without the token where that fails, or where the repository is public and
    private is asked for. api: in place of `huggingface_hub.HfApi`."""
    from huggingface_hub import HfApi

    try:
        hub = (api or HfApi)(token=token)
        hub.create_repo(name, repo_type=kind, private=private, exist_ok=True)
        if private and not hub.repo_info(name, repo_type=kind).private:
            raise ValueError(
                f"The repository {name} is public: choose another one, or allow what everybody can read."
            )
        hub.upload_folder(repo_id=name, repo_type=kind, folder_path=str(folder), **options)
    except ValueError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it holds, the token must not be shown
        raise ValueError(_refusal(name, error)) from None


def _refusal(name: str, error: Exception) -> str:
    """The Hub's answer in a sentence, without what was sent to it."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"The Hub does not let this token write to {name}: make one with the right to write, and check the owner."
    if status == 404:
        return f"The Hub knows no {name}, and could not make it: check the owner's name."
    if status:
        return f"The Hub answered with status {status}: try again later. Nothing here was changed."
    return f"The Hub could not be reached ({type(error).__name__}): check the connection, and try again."
