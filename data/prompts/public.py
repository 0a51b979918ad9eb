"""Readers of public prompt sets, each in its own format, from a folder of the user's.

    geneval:FOLDER                 all of GenEval
    geneval/counting:FOLDER        the prompts of one of its parts
    t2i-compbench/color_val:FOLDER one file of T2I-CompBench

None of these sets is included in the project: `SETS` says where each can be downloaded, and under which licence. The folder is a
clone of that repository, or the folder inside it that has the file. A part is a label that the set itself gives its prompts:
a tag (GenEval), a category or challenge (PartiPrompts), a source (DSG, TIFA), a file, kind or split (T2I-CompBench).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.prompts import MOST, lines, read, usable

Entries = Iterator[tuple[str, object, tuple[str, ...]]]
"""The place in a file (for errors), what should be a prompt, and the parts that it belongs to."""


@dataclass(frozen=True)
class PublicSet:
    """A public set.

    files: groups of file names, of which the first with any existing files is read; source: the GitHub repository and folder.
    """

    title: str
    files: tuple[tuple[str, ...], ...]
    reader: Callable[[Path], Entries]
    source: str
    licence: str

    def how(self) -> str:
        """Where to download it, for an error message."""
        return f"{self.title} is to be had from the GitHub repository {self.source} (licence: {self.licence})"


def read_set(text: str | Path) -> list[str]:
    """The distinct prompts of NAME:FOLDER or NAME/PART:FOLDER in the order of its files, or of a plain file with one prompt per
    line. ValueError says what is wrong, in which line, and what to do."""
    known = _parse(text)
    return list(read_public(*known)) if known else read(text)


def set_name(text: str | Path) -> str:
    """The name of a prompt set in the store: the set and its part, or the file's name."""
    known = _parse(text)
    if not known:
        return Path(text).name[:80]
    name, _, part = known
    return f"{name}/{part}"[:80] if part else name


def located(text: str) -> str:
    """The same set or file with an absolute path."""
    known = _parse(text)
    if not known:
        return str(Path(text).expanduser().absolute())
    name, folder, part = known
    return f"{name}{part and '/'}{part}:{Path(folder).expanduser().absolute()}"


def read_public(name: str, folder: str | Path, part: str = "") -> dict[str, tuple[str, ...]]:
    """The distinct prompts of a set, or of one part of it, in file order, each with the parts that it belongs to."""
    if name not in SETS:
        raise ValueError(f"There is no prompt set {ascii(name)[:60]}; known are {', '.join(SETS)}.")
    chosen, folder = SETS[name], Path(folder).expanduser()
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}: {chosen.how()}; clone it and name its folder.")
    groups = ([path for name in group for path in sorted(folder.glob(name))] for group in chosen.files)
    files = next((group for group in groups if group), None)
    if files is None:
        listed = " or ".join(dict.fromkeys(group[0].rpartition("/")[2] for group in chosen.files))
        raise ValueError(
            f"The folder {folder} holds no {listed}: {chosen.how()}; name the folder of its prompts."
        )
    prompts: dict[str, tuple[str, ...]] = {}
    parts: dict[str, None] = {}
    for path in files:
        for where, value, labels in chosen.reader(path):
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"{where}: no prompt where {chosen.title} has one; {_again(chosen)}.")
            labels = tuple(_folded(label) for label in labels if label)
            parts.update(dict.fromkeys(labels))
            if not part or _folded(part) in labels:
                prompt = usable(where, value.strip())
                prompts[prompt] = tuple(dict.fromkeys((*prompts.get(prompt, ()), *labels)))
            if len(prompts) > MOST:
                raise ValueError(f"{where}: more than {MOST} prompts; name a part of the set.")
    if not prompts:
        if not part:
            raise ValueError(f"{files[0].name} holds no prompt; {_again(chosen)}.")
        known = f"it has {', '.join(parts) or 'none'}"
        raise ValueError(f"{chosen.title} has no part {ascii(part)[:60]}: {known}.")
    return prompts


def _parse(text: str | Path) -> tuple[str, str, str] | None:
    """(name, folder, part) of NAME[/PART]:FOLDER; None for a plain file, such as C:\\mine.txt. ValueError for an unknown set."""
    match = re.fullmatch(r"([\w-]{2,})(?:/([^:\\]+))?:(.+)", str(text), re.DOTALL)
    if not match or Path(text).is_file():
        return None
    name, part, folder = match[1].lower(), match[2] or "", match[3]
    if name not in SETS:
        raise ValueError(
            f"There is no file {str(text)[:80]!r} and no prompt set {name[:60]!r}; known sets are {', '.join(SETS)}, "
            "written as NAME:FOLDER."
        )
    return name, folder, part


def _folded(label: str) -> str:
    """A part's name as written on a command line: "Produce & Plants" becomes produce-plants."""
    return re.sub(r"[^\w]+", "-", label.lower()).strip("-")


def _again(chosen: PublicSet) -> str:
    return f"download the file again: {chosen.how()}"


def _geneval(path: Path) -> Entries:
    """evaluation_metadata.jsonl: one object per line with prompt and tag; generation_prompts.txt: prompts only."""
    return _jsonl(path, "tag") if path.suffix == ".jsonl" else _plain(path)


def _compbench(path: Path) -> Entries:
    """Files like color_val.txt: one prompt per line; the file's name is kind and split."""
    kind, _, half = path.stem.rpartition("_")
    return _plain(path, path.stem, kind, half)


def _dpg(path: Path) -> Entries:
    """One prompt per file, on one or more lines; or all of them in a JSON Lines file."""
    if path.suffix == ".jsonl":
        yield from _jsonl(path)
    else:
        yield path.name, " ".join(line.strip() for _, line in lines(path)).strip(), ()


def _parti(path: Path) -> Entries:
    """PartiPrompts.tsv: Prompt, Category, Challenge, Note, without quoting (a quotation mark is part of a prompt)."""
    names = ("Prompt", "Category", "Challenge")
    for where, prompt, *parts in _table(path, names, "partiprompts", delimiter="\t", quoting=csv.QUOTE_NONE):
        yield where, prompt, tuple(parts)


def _dsg(path: Path) -> Entries:
    """dsg-1k-anns.csv: a row for each proposition, its prompt in `text`; item_id is the source and a number."""
    for where, id, prompt in _table(path, ("item_id", "text"), "dsg"):
        yield where, prompt, (id.rpartition("_")[0],)


def _table(path: Path, names: tuple[str, ...], of: str, **dialect: Any) -> Iterator[list[str]]:
    """The place of each row of a table with a header, and its values in the named columns."""
    reader = csv.reader((line + "\n" for _, line in lines(path)), strict=True, **dialect)
    try:
        header = next(reader, [])
        if missing := [name for name in names if name not in header]:
            raise ValueError(
                f"{path.name}, line 1: there is no column {' and no '.join(missing)}; download the file again."
            )
        for row in reader:
            if row and len(row) != len(header):
                raise csv.Error(f"{len(row)} columns instead of {len(header)}")
            if row:
                yield [f"{path.name}, line {reader.line_num}", *(row[header.index(name)] for name in names)]
    except csv.Error as error:
        raise ValueError(
            f"{path.name}, line {reader.line_num}: not CSV ({error}); {_again(SETS[of])}."
        ) from None


def _tifa(path: Path) -> Entries:
    """tifa_v1.0_text_inputs.json: a list of objects with id (the source and a number) and caption."""
    try:
        items = json.loads("\n".join(line for _, line in lines(path)))
    except (json.JSONDecodeError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"{path.name}{line}: not JSON; {_again(SETS['tifa'])}.") from None
    if not isinstance(items, list):
        raise ValueError(f"{path.name}: not a list of prompts; {_again(SETS['tifa'])}.")
    for number, item in enumerate(items, 1):
        item = item if isinstance(item, dict) else {}
        source = str(item.get("id", "")).rpartition("_")[0]
        yield f"{path.name}, entry {number}", item.get("caption"), (source,)


def _jsonl(path: Path, label: str = "") -> Entries:
    """One JSON object per line with its prompt, and a part in the field `label`."""
    for number, line in lines(path):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            raise ValueError(f"{path.name}, line {number}: not JSON; download the file again.") from None
        item = item if isinstance(item, dict) else {}
        yield f"{path.name}, line {number}", item.get("prompt"), (str(item.get(label, "")),)


def _plain(path: Path, *labels: str) -> Entries:
    """One prompt per line; unlike in a user's file, a line that starts with # is a prompt."""
    return ((f"{path.name}, line {n}", line, labels) for n, line in lines(path) if line.strip())


_COMPBENCH = tuple(
    f"{kind}_{half}.txt"
    for kind in "color shape texture spatial non_spatial complex numeracy 3d_spatial".split()
    for half in ("train", "val")
)


def _at(files: tuple[str, ...], *places: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(f"{place}/{file}" if place else file for file in files) for place in places)


SETS = {
    "geneval": PublicSet(
        "GenEval",
        _at(("evaluation_metadata.jsonl",), "", "prompts") + _at(("generation_prompts.txt",), "", "prompts"),
        _geneval, "djghosh13/geneval, folder prompts", "MIT",
    ),
    "t2i-compbench": PublicSet(
        "T2I-CompBench", _at(_COMPBENCH, "", "examples/dataset"),
        _compbench, "Karine-Huang/T2I-CompBench, folder examples/dataset", "MIT",
    ),
    "partiprompts": PublicSet(
        "PartiPrompts", _at(("PartiPrompts.tsv",), ""), _parti, "google-research/parti", "Apache-2.0",
    ),
    "dsg": PublicSet(
        "DSG-1k", _at(("dsg-1k-anns.csv",), "", "dsg/data"), _dsg, "j-min/DSG, folder dsg/data", "Apache-2.0",
    ),
    "tifa": PublicSet(
        "TIFA v1.0", _at(("tifa_v1.0_text_inputs.json",), "", "tifa_v1.0"), _tifa,
        "Yushi-Hu/tifa, folder tifa_v1.0", "Apache-2.0",
    ),
    "dpg": PublicSet(
        "DPG-Bench", _at(("dpg_prompts.jsonl",), "") + _at(("*.txt",), "dpg_bench/prompts", ""), _dpg,
        "TencentQQGYLab/ELLA, folder dpg_bench/prompts", "Apache-2.0",
    ),
}  # fmt: skip
