"""A dataset folder for ``datasets.load_dataset``, which can be pushed to a hub: images with their words; out and in again.

    README.md                   the dataset card: splits, columns, polarity, licence, and how the labels were made
    train/metadata.parquet      a row per image; file_name is relative to the folder of the split
    train/images/ID.png         the image, byte for byte as it was scored
    validation/ heldout/        likewise

(Parquet, as it has types: a JSON column that is null in one split would get another type there.)
A row has the sample's columns and ``words``: a list of {index, word, score, distribution, expected, source, people}.
Lost: the events behind the labels, who gave them (no name of a person leaves the store), hidden states, runs. An image whose
file is missing, or is no longer the one that was scored, is left out, and the card counts it.

The folder, or a zip of it, comes in as one person's scores, by the rules of ``table.import_csv``; its images are not read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from data.exchange.parquet import read_rows
from data.exchange.staging import Place, Row, import_rows
from data.store import Store, checks
from data.store.database import new_id, rows
from data.store.labels import expected
from data.store.schema import SPLITS
from data.store.scores import PEOPLE, Units

METADATA = "metadata.parquet"
LARGEST = 1 << 28  # bytes of a split's metadata in a zip
LIST = 1 << 22  # bytes of a zip's list of files, about 40,000 images
MOST_SPLITS = 16
KEPT = (
    "id prompt prompt_set split seed method strength projector_run backbone backbone_revision width height steps "
    "guidance sampler negative weighted loras noise_sha256"
).split()
GROUP = 1000  # images of a row group
TYPES = {"seed": "int64", "strength": "float32", "width": "int32", "height": "int32", "steps": "int32",
         "guidance": "float32"}  # fmt: skip


# -- export


def export_folder(
    store: Store,
    path: str | Path,
    home: str | Path,
    licence: str = "",
    title: str = "Word scores of generated images",
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the folder, which must be new or empty, whole or not at all; returns {samples, words, left_out, splits}.

    home: the folder that image paths are relative to. licence: an SPDX-like id for the card, '' for none yet.
    on_progress: called with (samples done, all samples).
    """
    target = Path(path).expanduser().absolute()
    if licence and not re.fullmatch(LICENCE, licence):
        raise ValueError(f"The licence {checks.shown(licence)} is no id of one; write for example cc-by-4.0.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target.name} is there already; give the name of a new or empty folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{new_id()[:8]}.partial")
    try:
        partial.mkdir()
        counts = _write(store, partial, Path(home), licence, title, on_progress)
        if target.exists():
            target.rmdir()
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return counts


def _write(
    store: Store,
    folder: Path,
    home: Path,
    licence: str,
    title: str,
    on_progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = store.labels.current(include_calibrated=True)
    words: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for label in labels:
        word = {name: label[name] for name in ("word", "score", "distribution", "source")}
        people = len(label["events"]) if label["source"] in PEOPLE else 0
        word |= {"index": label["word_index"], "expected": round(expected(label), 4), "people": people}
        words[label["sample"]].append(word)
    with store.database.reading() as db:
        samples = rows(db, f"SELECT {', '.join(KEPT)}, image_path, image_sha256 FROM samples ORDER BY seq")
    splits: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    left_out = 0
    for done, sample in enumerate(samples, 1):
        if on_progress:
            on_progress(done, len(samples))
        labelled = words[sample["id"]]
        name = _copy(sample, home, folder) if labelled else None
        left_out += bool(labelled and name is None)
        if name is not None:
            kept = {column: sample[column] for column in KEPT}
            splits[sample["split"]].append({"file_name": name, **kept, "words": labelled})
    if not any(splits.values()):
        raise ValueError("There is no labelled image whose file is there: make and score some images first.")
    word_type = [("index", pa.int32()), ("word", pa.string()), ("score", pa.int8()), ("distribution", pa.list_(pa.float32())),
                 ("expected", pa.float32()), ("source", pa.string()), ("people", pa.int32())]  # fmt: skip
    kept_types = [(name, pa.type_for_alias(TYPES.get(name, "string"))) for name in KEPT]
    schema = pa.schema([("file_name", pa.string()), *kept_types, ("words", pa.list_(pa.struct(word_type)))])
    counts = {}
    sources: Counter[str] = Counter()
    for split, images in splits.items():
        if images:
            table = pa.Table.from_pylist(images, schema)
            pq.write_table(table, folder / split / METADATA, row_group_size=GROUP)
            of_split = [word["source"] for image in images for word in image["words"]]
            counts[split] = {"images": len(images), "words": len(of_split)}
            sources.update(of_split)
    figures = {
        "splits": counts,
        "sources": dict(sources.most_common()),
        "prompts": len({s["prompt"] for s in samples if words[s["id"]]}),
        "backbones": sorted({s["backbone"] for s in samples if words[s["id"]]}),
        "scorers": sorted({x["scorer"] for x in labels if x["source"] == "vlm" and x["scorer"]}),
        "left_out": left_out,
    }
    (folder / "README.md").write_text(card(title, licence, figures), encoding="utf-8")
    written = sum(split["images"] for split in counts.values())
    return {"samples": written, "words": sources.total(), "left_out": left_out, "splits": counts}


def _copy(sample: Mapping[str, Any], home: Path, folder: Path) -> str | None:
    """Copy the image into the folder; returns its file_name, or None where it is not the image that was scored."""
    if sample["image_path"] is None:
        return None
    try:
        content = (home / sample["image_path"]).read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != sample["image_sha256"]:
        return None
    stem = sample["id"].lstrip(".")  # a hidden file would not be loaded
    ending = Path(sample["image_path"]).suffix.lower()
    images = folder / sample["split"] / "images"
    images.mkdir(parents=True, exist_ok=True)
    if (images / f"{stem}{ending}").exists():
        stem = f"{stem}-{new_id()[:8]}"
    (images / f"{stem}{ending}").write_bytes(content)
    return f"images/{stem}{ending}"


# -- the dataset card


LICENCE = r"[a-z0-9][a-z0-9.-]{0,39}"
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
SOURCES = {
    "human": "people, who corrected the score of a word on seeing the image; of several people the lower median "
    "counts, and a gold score where one is kept",
    "confirmed": "people who saw the score that stood there and were done with the image without changing it",
    "simulated": "the simulated annotator, a detector on pixels that knows the shapes world",
    "calibrated": "the VLM, calibrated on people's corrections",
    "vlm": "the vision-language model, as a distribution over the ten scores",
}
COLUMNS = {
    "image": "the image, byte for byte as it was scored",
    "id": "the sample's id in the studio that made it",
    "prompt": "the text that the image was made from",
    "prompt_set, split": "where the prompt comes from; `heldout` prompts were never trained on",
    "seed, backbone, backbone_revision, width, height, steps, guidance, sampler": "what makes the image again",
    "negative, weighted, loras": "the negative prompt; the prompt with weights in the WebUI's syntax, where it or the negative prompt had any; the LoRA "
    "files, as JSON",
    "method, strength, projector_run": "`none`, or how the initial noise was changed, how far, and by which model",
    "noise_sha256": "of the initial noise",
    "words": "a list, an entry a word that has a label",
    "words.index, words.word": "the word's place among all words of the prompt, and the word; after the words may come "
    "“nothing else”, 9 where the image shows nothing that the prompt does not ask for",
    "words.score": "a whole number from 0 to 9, or null where only a distribution is known",
    "words.distribution": "ten probabilities of the scores 0 to 9, or null",
    "words.expected": "one number for either, 0 to 9; the distribution's mean where there is one",
    "words.source, words.people": "who said so (below), and by how many people",
}


def card(title: str, licence: str, figures: Mapping[str, Any]) -> str:
    """The dataset card: README.md of the folder, with YAML for the hub and prose for people.

    figures: splits {name: {images, words}}, sources, prompts, backbones, scorers, left_out, all counted from what was written.
    """
    images = sum(split["images"] for split in figures["splits"].values())
    size = next((name for most, name in SIZES if images < most), "n>1M")
    front = ["---", f"pretty_name: {json.dumps(title)}", f"license: {licence or 'other'}"]
    if not licence:
        front += ["license_name: to-be-chosen"]
    front += ["task_categories:", "- text-to-image", "- image-classification", "tags:", "- human-feedback",
              "- text-to-image-alignment", "- word-scores", "size_categories:", f"- {size}", "configs:",
              "- config_name: default", "  data_files:"]  # fmt: skip
    for split in figures["splits"]:
        front += [f"  - split: {split}", f'    path: "{split}/**"']
    table = ["| split | images | labelled words |", "|---|---:|---:|"]
    table += [f"| {name} | {of['images']} | {of['words']} |" for name, of in figures["splits"].items()]
    if left_out := figures["left_out"]:
        table += ["", f"{left_out} labelled images are left out: their files were gone or changed."]
    sources = [f"- `{name}`, {count} words: {SOURCES[name]}." for name, count in figures["sources"].items()]
    columns = ["| column | meaning |", "|---|---|"]
    columns += [f"| `{name.replace(', ', '`, `')}` | {meaning} |" for name, meaning in COLUMNS.items()]
    rights = "**No licence has been chosen yet: whoever publishes this must set `license` above.**"
    if licence:
        rights = f"`{licence}`, chosen by whoever published this."
    parts = [
        "\n".join([*front, "---"]),
        f"# {title}",
        (
            f"{images} images made from {figures['prompts']} prompts, each with a score from 0 to 9 for the words of its prompt. Made "
            "and labelled with Noise Projection Studio."
        ),
        '```python\nfrom datasets import load_dataset\n\ndata = load_dataset("path/to/this/folder")\n```',
        "## Scores",
        (
            '**9 = the image fully shows the word, 0 = not at all; higher is better.** Words without meaning (such as "a", "of") '
            "carry no score."
        ),
        "## Splits",
        "\n".join(table),
        "## How the labels were made",
        (
            "Each word has the label of the first of these that has spoken: people, people who confirmed what they saw, the simulated "
            "annotator, the calibrated scorer, the VLM. In this dataset:"
        ),
        "\n".join(sources),
        f"Vision-language models: {_codes(figures['scorers'])}. Image models: {_codes(figures['backbones'])}.",
        "People may have seen the VLM's score before they gave theirs. No name of a person is part of this dataset.",
        "## Columns",
        "\n".join(columns),
        "## Licence",
        f"{rights} The image model's own licence holds for what may be done with the images.",
    ]
    return "\n\n".join(parts) + "\n"


def _codes(names: Iterable[str]) -> str:
    """Names as code, without backticks and line ends; of a folder only its last part, as the rest describes a machine."""
    plain = [" ".join(name.replace("`", "'").split()) for name in names]
    shown = [n.rstrip("/").rsplit("/", 1)[-1] if n.startswith(("/", "~", ".")) else n for n in plain]
    return ", ".join(f"`{name}`" for name in dict.fromkeys(shown)) or "none"


# -- import


def import_folder(
    store: Store, path: str | Path, who: str, dry_run: bool = False, *, units: Units
) -> dict[str, Any]:
    """Import a dataset folder, or a zip of one, as ``import_parquet`` does; rows are counted across its splits by name."""
    return import_rows(store, path, who, dry_run, units, "from a dataset", _scores)


def _scores(path: Path, place: Place) -> Iterator[Row]:
    rows = chain.from_iterable(read_rows(source, ("id", "words")) for source in _metadata(path))
    for place.number, row in enumerate(rows, 1):
        for word in row["words"] or []:
            if not isinstance(word, dict) or not {"index", "score"} <= set(word):
                raise ValueError("words must be a list of {index, word, score, ...}.")
            sample = checks.text("id", row["id"])
            yield sample, word["index"], word.get("word"), row.get("prompt"), word["score"]


def _metadata(path: Path) -> Iterator[Path | BinaryIO]:
    """The metadata of each split, from a folder or a zip of it."""
    if path.is_dir():
        files = sorted(path.glob(f"*/{METADATA}"))
        if not files:
            raise ValueError(
                f"no split with a {METADATA} is in the folder; name the folder that was exported."
            )
        yield from files
        return
    _check_list(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if m.filename.endswith(f"/{METADATA}")]
            if not members:
                raise ValueError(f"no split with a {METADATA} is in the zip; give the zip that was exported.")
            if len(members) > MOST_SPLITS:
                raise ValueError(f"the zip has {len(members)} splits, and {MOST_SPLITS} at most are read.")
            for member in sorted(members, key=lambda m: m.filename):
                with tempfile.TemporaryFile() as file:
                    _unpack(archive, member, file)
                    yield file
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"not a zip that can be read ({error}).") from None


def _check_list(path: Path) -> None:
    """ValueError where the list of files at the end of a zip is too large to be read at once."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 65_600))
        tail = file.read()
    at = tail.rfind(b"PK\5\6")
    size = int.from_bytes(tail[at + 12 : at + 16], "little")
    if at < 0 or len(tail) < at + 22:
        raise ValueError("not a zip that can be read (its end is not one's).")
    if size > LIST or tail[max(0, at - 20) : at].startswith(b"PK\6\7"):
        raise ValueError(
            f"the zip's list of files is larger than {LIST >> 20} MB; unpack it, and import the folder with python -m studio."
        )


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: BinaryIO) -> None:
    """Unpack a member of a zip into a file, a piece at a time."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is packed in another way than the zip that was exported.")
    if member.file_size > LARGEST:
        raise ValueError(f"{member.filename} is larger than {LARGEST >> 20} MB; import the folder in parts.")
    with archive.open(member) as packed:
        while piece := packed.read(1 << 18):
            file.write(piece)
