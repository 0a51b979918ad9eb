"""Whatever a file is, an import takes no more memory than it says: it is refused before it is unpacked."""

import base64
import contextlib
import io
import json
import multiprocessing
import re
import struct
import zipfile
from functools import partial

import pytest

from data.exchange.pairs import import_dpo
from data.store import Store
from tests.data.exchanging import fake_units, importers

resource = pytest.importorskip("resource", reason="a system without getrusage")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
MB = 1 << 20


def taken(home, kind, path, told):
    """In a process of its own: what is said of a file, and how many bytes more it takes than a small one of its kind."""
    labels, table, _, columns, folder = importers(fake_units())
    take = {
        "jsonl": labels,
        "csv": partial(table, who="cyd"),
        "parquet": partial(columns, who="cyd"),
        "dataset": partial(folder, who="cyd"),
        "dpo": partial(import_dpo, who="cyd"),
    }[kind]
    store, said = Store(home / "studio.db"), "taken over"
    with contextlib.suppress(ValueError):  # what a first import loads is no more than any import takes
        take(store, home / f"small.{kind}", dry_run=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        take(store, path, dry_run=True)
    except ValueError as error:
        said = str(error)
    told.send((said, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024))


def parquet(table, **options):
    file = io.BytesIO()
    pq.write_table(table, file, **{"compression": "zstd", "use_dictionary": True, **options})
    return file.getvalue()


def words(sample="a", count=1, **columns):
    return {"sample": [sample] * count, "word_index": list(range(count)), "score": [3] * count, **columns}


def repeated(text, count, as_type="string"):
    """A column of one text many times over, without making it here."""
    return pa.DictionaryArray.from_arrays(
        pa.array([0] * count, pa.int32()), pa.array([text], pa.type_for_alias(as_type))
    )


def table(sample, count, **more):
    ones = pa.array([1] * count, pa.int32())
    return pa.table({"sample": sample, "word_index": ones, "score": ones, **more})


def images(lists):
    word = pa.struct([("index", pa.int32()), ("word", pa.string()), ("score", pa.int8())])
    return pa.table({"id": ["a"] * len(lists), "words": pa.array(lists, pa.list_(word))})


def footer(content):
    return b"PAR1" + content + struct.pack("<I", len(content)) + b"PAR1"


def zipped(content, method=zipfile.ZIP_DEFLATED, parts=1):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for n in range(parts):
            archive.writestr(f"train{n}/metadata.parquet", content)
    return file.getvalue()


def crowded():
    """A zip whose list names very many files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("train/metadata.parquet", b"")
    content = file.getvalue()
    at = content.index(b"PK\1\2")
    entry = content[at : content.index(b"PK\5\6")]
    end = content[content.index(b"PK\5\6") :]
    size = struct.pack("<I", len(entry) * 100_000)
    return content[:at] + entry * 100_000 + end[:12] + size + end[16:]


def long_row():
    return b"sample,word_index,score\n" + b'"' + b"x\n" * (30 * MB) + b'",1,3\n'


def hidden_states():
    """Labels of which most of the bytes, 50 MB, are hidden states."""
    time, features = "2026-01-31T12:00:00.000000Z", base64.b64encode(bytes(65536)).decode()
    lines = [{"format": "noise-projection-studio/labels", "version": 4, "features": True}]
    for i in range(12):
        row = {"id": f"s{i}", "prompt": "x " * 50, "n_words": 50, "seed": i, "backbone": "b", "width": 64, "height": 64,
               "steps": 1, "guidance": 1.0, "created": time}  # fmt: skip
        event = {"source": "vlm", "score": 3, "features": features, "word": "x", "created": time}
        events = [{**event, "n": 1 + 50 * i + w, "id": f"e{i}-{w}", "word_index": w} for w in range(50)]
        lines.append({"sample": row, "events": events})
    return "\n".join(map(json.dumps, lines)).encode()


FILES = {
    "hidden states of many words": ("jsonl", hidden_states, "taken over"),
    "a table of many rows": ("parquet", lambda: parquet(pa.table(words(count=1000))), "taken over"),
    "a text that a dictionary repeats": (
        "parquet",
        lambda: parquet(table(repeated("x" * 400_000, 5000), 5000)),
        "sample has a text of 400000 bytes; a prompt has 2000 characters at most",
    ),
    "a large text that a dictionary repeats": (
        "parquet",
        lambda: parquet(table(pa.array(["a"] * 5000), 5000, prompt=repeated("x" * 300_000, 5000, "large_string"))),
        "prompt has a text of 300000 bytes",
    ),
    "a page that is packed well": (
        "parquet",
        lambda: parquet(table(pa.array(["x" * MB] * 120), 120), use_dictionary=False, data_page_size=1 << 30),
        "its pages unpack to more than 32 MB at a time (the column sample)",
    ),
    "texts that begin alike": (
        "parquet",
        lambda: parquet(
            table(pa.array(["x" * 100_000] * 300), 300),
            use_dictionary=False,
            column_encoding={"sample": "DELTA_BYTE_ARRAY"},
        ),
        "the column sample has the encoding 7, whose texts can be of any size unpacked",
    ),
    "very many rows": (
        "parquet",
        lambda: parquet(table(repeated("a", 1_000_001), 1_000_001)),
        "has more than 1,000,000 values; import it in parts",
    ),
    "a footer of very many entries": (
        "parquet",
        lambda: footer(b"\x49\xfc" + b"\x80\x80\x08" + b"\0" * 200_000),
        "its footer or a header has more than 50000 entries",
    ),
    "a footer that is large": ("parquet", lambda: footer(b"\0" * (3 * MB)), "at most are read"),
    "an image of very many words": (
        "dataset",
        lambda: zipped(parquet(images([[{"index": 1, "word": "x", "score": 3}] * 500_000]))),
        "words has 500000 entries in a row; an image has 1000 words at most",
    ),
    "words that a dictionary repeats": (
        "dataset",
        lambda: zipped(
            parquet(images([[{"index": i, "word": "x" * 100_000, "score": 3} for i in range(300)]]))
        ),
        "words.word has a text of 100000 bytes",
    ),
    "a part of a zip that is large": (
        "dataset",
        lambda: zipped(b"\0" * (257 * MB)),
        "train0/metadata.parquet is larger than 256 MB",
    ),
    "a zip of very many parts": ("dataset", lambda: zipped(b"x", parts=17), "the zip has 17 splits"),
    "a zip that names very many files": ("dataset", crowded, "list of files is larger than 4 MB"),
    "a zip that is packed otherwise": (
        "dataset",
        lambda: zipped(b"\0" * 1000, zipfile.ZIP_LZMA),
        "is packed in another way",
    ),
    "a row of very many lines": ("csv", long_row, "line 524[0-9]*: the row, of several lines in quotation marks"),
    "a line of lists": ("jsonl", lambda: b'{"a":[' + b"[]," * 2_700_000 + b"[]]}", "more than 150,000 values"),
    "a line of a text": ("jsonl", lambda: b'{"a":"\xf0\x9f\x98\x80' + b"x" * (8 * MB - 20) + b'"}', "not a file of"),
    "a longer line": ("dpo", lambda: b'{"prompt":"' + b"x" * (9 * MB), "the line is longer than 8388608 bytes"),
}  # fmt: skip
SMALL = {
    "parquet": lambda: parquet(pa.table(words())),
    "dataset": lambda: zipped(parquet(images([[{"index": 1, "word": "x", "score": 3}]]))),
    "csv": lambda: b"sample,word_index,score\na,1,3\n",
    "jsonl": lambda: b'{"format":"noise-projection-studio/labels","version":4}\n',
    "dpo": lambda: b"{}",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_unpacks_to_much_is_refused_before_it_does(store, sample_row, quick_path, name):
    kind, make, says = FILES[name]
    store.samples.add([sample_row(id="a", n_words=1000)])
    store.database.close()
    path = quick_path / f"file.{kind}"
    path.write_bytes(make())
    (quick_path / f"small.{kind}").write_bytes(SMALL[kind]())
    context = multiprocessing.get_context("forkserver")  # which has imported what an import needs
    context.set_forkserver_preload([__name__])
    told, tells = context.Pipe(duplex=False)
    child = context.Process(target=taken, args=(quick_path, kind, path, tells), daemon=True)
    child.start()
    assert told.poll(120), "the import does not come to its end"
    said, more = told.recv()
    child.join()
    assert re.search(says.replace("(", r"\(").replace(")", r"\)"), said), said
    assert more < 100 * MB
