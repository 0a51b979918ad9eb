"""A folder that `datasets.load_dataset` loads as it lies, and that can be pushed to a hub: images with their words.

    README.md                   the dataset card: its splits, columns, polarity, licence, how the labels came to be
    train/metadata.parquet      a row an image; file_name is relative to the folder of the split
    train/images/ID.png         the image, byte for byte as it was scored
    validation/ heldout/        likewise

(Parquet, as it has types: of JSON lines a column that is null in one split would be another type there.)
A row has the sample's columns and ``words``: a list of {index, word, score, distribution, expected, source, people}, in
which *nothing else*, where it is labelled, is the last.
Lost: the events behind the labels, who gave them (no name of a person leaves the store), hidden states, runs. An image
whose file is gone or is no longer the one that was scored is left out, and the card counts it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data.exchange.card import LICENCE, card
from data.store import Store, checks
from data.store.database import new_id, rows
from data.store.labels import expected
from data.store.schema import SPLITS
from data.store.scores import PEOPLE

KEPT = (
    "id prompt prompt_set split seed method strength projector_run backbone backbone_revision width height steps "
    "guidance sampler noise_sha256"
).split()


BATCH = 1000
TYPES = {"seed": "int64", "strength": "float32", "width": "int32", "height": "int32", "steps": "int32",
         "guidance": "float32"}  # fmt: skip


def schema() -> Any:
    """Of a row, in Arrow's types."""
    import pyarrow as pa

    word = [("index", pa.int32()), ("word", pa.string()), ("score", pa.int8()), ("distribution", pa.list_(pa.float32())),
            ("expected", pa.float32()), ("source", pa.string()), ("people", pa.int32())]  # fmt: skip
    kept = [(name, pa.type_for_alias(TYPES.get(name, "string"))) for name in KEPT]
    return pa.schema([("file_name", pa.string()), *kept, ("words", pa.list_(pa.struct(word)))])


def export_folder(
    store: Store,
    path: str | Path,
    home: str | Path,
    licence: str = "",
    title: str = "Word scores of generated images",
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the folder, which must not exist or be empty, whole or not at all; returns {samples, words, left_out,
    splits}. home: the folder that image paths are relative to. licence: an SPDX-like id for the card, '' to be chosen."""
    target = Path(path).expanduser().absolute()
    if licence and not re.fullmatch(LICENCE, licence):
        raise ValueError(f"The licence {checks.shown(licence)} is no id of one; write for example cc-by-4.0.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target.name} is there already; give the name of a new or empty folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{new_id()[:8]}.partial")
    try:
        partial.mkdir()
        found = _write(store, partial, Path(home), licence, title, on_progress)
        if target.exists():
            target.rmdir()
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return found


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

    words: dict[str, list[dict[str, Any]]] = defaultdict(list)
    labels = store.labels.current(include_calibrated=True)
    sources: Counter[str] = Counter()
    for label in labels:
        words[label["sample"]].append(
            {
                "index": label["word_index"],
                "word": label["word"],
                "score": label["score"],
                "distribution": label["distribution"],
                "expected": round(expected(label), 4),
                "source": label["source"],
                "people": len(label["events"]) if label["source"] in PEOPLE else 0,
            }
        )
    with store.database.reading() as db:
        samples = rows(db, f"SELECT {', '.join(KEPT)}, image_path, image_sha256 FROM samples ORDER BY seq")
    images: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    gone = 0
    files: dict[str, Any] = {}
    pending: dict[str, list[dict[str, Any]]] = defaultdict(list)
    try:
        for done, sample in enumerate(samples, 1):
            if on_progress:
                on_progress(done, len(samples))
            name = _copy(sample, home, folder) if words[sample["id"]] else None
            if name is None:
                gone += bool(words[sample["id"]])
                continue
            split = sample["split"]
            if split not in files:
                files[split] = pq.ParquetWriter(folder / split / "metadata.parquet", schema())
            said = words[sample["id"]]
            pending[split].append({"file_name": name, **{n: sample[n] for n in KEPT}, "words": said})
            if len(pending[split]) >= BATCH:
                files[split].write_table(pa.Table.from_pylist(pending.pop(split), schema()))
            images[split] += 1
            counted[split] += len(said)
            sources.update(word["source"] for word in said)
        for split, left in pending.items():
            files[split].write_table(pa.Table.from_pylist(left, schema()))
    finally:
        for file in files.values():
            file.close()
    if not images:
        raise ValueError("There is no labelled image whose file is there: make and score some images first.")
    splits = {split: {"images": images[split], "words": counted[split]} for split in SPLITS if images[split]}
    figures = {
        "splits": splits,
        "sources": dict(sources.most_common()),
        "prompts": len({s["prompt"] for s in samples if words[s["id"]]}),
        "backbones": sorted({s["backbone"] for s in samples if words[s["id"]]}),
        "scorers": sorted({x["scorer"] for x in labels if x["source"] == "vlm" and x["scorer"]}),
        "left_out": gone,
    }
    (folder / "README.md").write_text(card(title, licence, figures), encoding="utf-8")
    return {
        "samples": sum(images.values()),
        "words": sum(counted.values()),
        "left_out": gone,
        "splits": splits,
    }


def _copy(sample: Mapping[str, Any], home: Path, folder: Path) -> str | None:
    """The image beside its line, as the name that the line gives; None where it is not the one that was scored."""
    if sample["image_path"] is None:
        return None
    try:
        content = (home / sample["image_path"]).read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != sample["image_sha256"]:
        return None
    ending = Path(sample["image_path"]).suffix.lower() or ".png"
    name = f"images/{sample['id'].lstrip('.')}{ending}"  # a name that begins with a dot would not be loaded
    place = folder / sample["split"] / name
    if place.exists():
        name = f"images/{sample['id'].lstrip('.')}-{new_id()[:8]}{ending}"
        place = folder / sample["split"] / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return name
