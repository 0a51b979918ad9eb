"""Generation parameters in PNGs: "parameters" as the WebUI of AUTOMATIC1111 writes and reads it, and JSON of our own.

The text is the prompt, with weights and LoRA files ("<lora:style:0.8>") in the WebUI's syntax, then perhaps "Negative prompt:
...", then a line of "Key: value" pairs with commas; a value that has a comma, a colon or a line break in it is written as a
JSON string. Extensions add lines of their own around that line
("Template: ..."). Other tools put JSON there (SwarmUI, Fooocus), of which the common keys are read. Pictures are not
trusted: nothing here decodes pixels, and the sizes of chunks are limited, also when they are unpacked.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.emphasis import is_weighted, plain
from core.schedulers import SCHEDULERS
from core.words import MAX_PROMPT, check_prompt
from data.store.checks import identifier
from studio.images.methods import parse, projects
from studio.images.options import (
    LONGEST_NAME,
    MOST,
    SUFFIX,
    WEIGHTS,
    check_negative,
    check_scheduler,
    loras_of,
    split_item,
)
from studio.images.views import GUIDANCE, STEPS, check_side, seed_from
from studio.numbers import real, shown, whole

TEXT, OWN, OLD = "parameters", "noise-projection-studio", "studio"  # OLD: in the studio's own image files
SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
MAX_FILE, MAX_TEXT, MAX_CHUNKS = 64 * 2**20, 2**20, 10_000  # bytes, bytes unpacked, chunks
SAMPLERS = {  # as the WebUI names them
    "DDIMScheduler": "DDIM", "PNDMScheduler": "PLMS", "LMSDiscreteScheduler": "LMS", "LCMScheduler": "LCM",
    "HeunDiscreteScheduler": "Heun", "EulerDiscreteScheduler": "Euler", "EulerAncestralDiscreteScheduler": "Euler a",
    "DPMSolverMultistepScheduler": "DPM++ 2M", "DPMSolverSDEScheduler": "DPM++ SDE", "UniPCMultistepScheduler": "UniPC",
    "KDPM2DiscreteScheduler": "DPM2", "KDPM2AncestralDiscreteScheduler": "DPM2 a",
    "FlowMatchEulerDiscreteScheduler": "Euler",
}  # fmt: skip
SETTINGS = set("Steps|Sampler|Schedule type|CFG scale|Seed|Size|Model hash|Model|Version".split("|"))
JSON_KEYS = {  # of other tools, in lower case without punctuation
    "prompt": ("prompt", "positiveprompt"), "negative": ("negativeprompt",), "seed": ("seed",), "steps": ("steps",),
    "guidance": ("cfgscale", "guidancescale", "cfg"), "width": ("width",), "height": ("height",),
    "size": ("resolution", "size"), "scheduler": ("sampler",),
}  # fmt: skip
CLASSES = {name: kind for kind, name in reversed(SAMPLERS.items()) if kind in SCHEDULERS}
BRACKETS = re.compile(r"([()\[\]\\])")
LORA_TAG = re.compile(rf"\s*<lora:([^<>:]{{1,{LONGEST_NAME}}}):?([^<>:]*)[^<>]*>")
OPTIONS = ("negative", "weighted", "loras")  # columns that most samples have nothing in
TITLES = {"negative": "negative prompt", "scheduler": "sampler", "loras": "LoRA"}
NO_TEXT = (
    "This picture carries no generation parameters: take a PNG that this studio or the WebUI of AUTOMATIC1111 wrote, as it "
    "was saved (messengers and websites strip the text)."
)


# ---- writing ------------------------------------------------------------------------------------------------------


def parameters_text(row: Mapping[str, Any]) -> str:
    """The "parameters" of a sample's row, as the WebUI writes them; keys of this studio alone come last."""
    prompt, negative = row["weighted"] or row["prompt"], row["negative"]
    if not row["weighted"]:  # so that the WebUI reads no weights either
        prompt, negative = (BRACKETS.sub(r"\\\1", text) for text in (prompt, negative))
    tags = [f"<lora:{lora.name.removesuffix(SUFFIX)}:{lora.weight:g}>" for lora in loras_of(row)]
    values = {
        "Steps": row["steps"],
        "Sampler": SAMPLERS.get(row["sampler"], row["sampler"] or "unknown"),
        "CFG scale": f"{row['guidance']:g}",
        "Seed": row["seed"],
        "Size": f"{row['width']}x{row['height']}",
        "Model": model_name(row["backbone"]),
        "Method": row["method"],
        "Projection strength": f"{row['strength']:g}" if projects(row["method"]) else None,
        "Run": row["projector_run"],
    }
    line = ", ".join(f"{key}: {quoted(value)}" for key, value in values.items() if value is not None)
    against = [f"Negative prompt: {negative}"] if negative else []
    return "\n".join([" ".join([prompt, *tags]), *against, line])


def own_json(row: Mapping[str, Any]) -> str:
    """The same for this studio, with all that it takes to make the image again."""
    names = "prompt seed steps guidance width height method strength backbone_revision sampler noise_sha256".split()
    values = {name: row[name] for name in [*names, *(n for n in OPTIONS if row[n] not in ("", "[]"))]}
    values |= {"version": 1, "run": row["projector_run"], "backbone": model_name(row["backbone"])}
    return json.dumps(values, sort_keys=True)


def model_name(backbone: str) -> str:
    """A hub id as it is, a folder by its last name alone, as a shared picture should not reveal paths."""
    path = backbone.replace("\\", "/")
    is_folder = path.startswith(("/", "~", ".")) or path[1:3] == ":/" or path.count("/") > 1
    return (path.rstrip("/").rsplit("/", 1)[-1] if is_folder else path) or "unknown"


def quoted(value: Any) -> str:
    """A value in the form that the line of parameters has."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(sign in text for sign in ',:\n"') else text


def with_text(png: bytes, row: Mapping[str, Any]) -> bytes:
    """The PNG with the texts of its sample's row and no others; its pixels are not touched."""
    texts = text_chunk(TEXT, parameters_text(row)) + text_chunk(OWN, own_json(row))
    output = [SIGNATURE]
    for kind, body in chunks(png):
        if kind not in TEXTS:
            output.append(chunk(kind, body))
        if kind == b"IHDR":
            output.append(texts)
    return b"".join(output)


def text_chunk(key: str, text: str) -> bytes:
    """tEXt if Latin-1 has all characters, as the WebUI writes; else, or if its bytes would be read as UTF-8, iTXt."""
    name, plain = key.encode("latin-1"), text.encode("latin-1", "replace")
    if decoded(plain) == text:
        return chunk(b"tEXt", name + b"\0" + plain)
    return chunk(b"iTXt", name + b"\0\0\0\0\0" + text.encode("utf-8"))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# ---- reading ------------------------------------------------------------------------------------------------------


def read_png(source: str | Path | bytes) -> dict[str, Any]:
    """The parameters of a PNG: {prompt, seed, steps, guidance, width, height, method, strength, run, negative, scheduler, loras,
    hashes, weighted, source, note}.

    What is missing or cannot be used here is None (method "none", strength 0, run "", no negative prompt, scheduler and
    LoRAs), and `note` says what was left out. loras: [name:weight]; hashes: the SHA-256 of those files by name, where it is
    known; weighted: the prompt has weights. source: "studio", "webui" or "json". ValueError with a sentence where there is nothing to use.
    """
    texts = png_texts(source)
    for key in (OWN, OLD):
        values = _parsed(texts.get(key, ""))
        if isinstance(values, dict) and isinstance(values.get("prompt"), str):
            weighted, sampler = values.get("weighted"), values.get("sampler")
            typed = weighted if isinstance(weighted, str) and weighted else values["prompt"]
            run, known = (
                values.get("run", values.get("projector_run")),
                isinstance(sampler, str) and sampler in SCHEDULERS,
            )
            changes = {
                "prompt": typed,
                "weighted": typed is weighted,
                "run": run,
                "scheduler": sampler if known else None,
            }
            return _usable({**values, **changes}, "studio", [])
    if TEXT in texts:
        return from_text(texts[TEXT])
    if "workflow" in texts:
        raise ValueError(
            "This picture carries a workflow of ComfyUI and no generation parameters: type its prompt and seed in."
        )
    raise ValueError(NO_TEXT)


def from_text(text: str) -> dict[str, Any]:
    """Like `read_png`, from the text of "parameters" alone."""
    text = text.removeprefix("\ufeff")
    parsed = _parsed(text)
    if isinstance(parsed, (dict, list)) or re.match(r'\s*\{\s*"[^"]*"\s*:', text):
        return _from_json(parsed)
    # a line break in a quoted value does not end its line
    quoted_value = r'(?<=: )"(?:[^"\\]|\\.)*"(?=\s*(,|$))'
    text = re.sub(quoted_value, lambda value: value[0].replace("\n", " "), text, flags=re.MULTILINE)
    lines = [" ".join(line.split()) for line in text.strip().split("\n")]
    start, values = _settings(lines)
    head, after = lines[:start], lines[start + 1 :]
    negative = next((i for i, line in enumerate(head) if line.startswith("Negative prompt:")), start)
    added = next((i for i, line in enumerate(head) if i and _is_added(line)), start)
    width, _, height = values.get("Size", "").partition("x")
    raw = {
        "prompt": _joined(head[: min(negative, added)]),
        "seed": values.get("Seed"),
        "steps": values.get("Steps"),
        "guidance": values.get("CFG scale"),
        "width": width or None,
        "height": height or None,
        "method": values.get("Method"),
        "strength": values.get("Projection strength"),
        "run": values.get("Run"),
        "scheduler": values.get("Sampler"),
        "negative": _joined(head[negative:added]).removeprefix("Negative prompt:").strip(),
    }
    notes: list[str] = []
    if (spacing := values.get("Schedule type", "Automatic")) not in ("Automatic", "Uniform"):
        notes.append(f"Its schedule type {shown(spacing)} was left out.")
    extra = [*head[added:], *(line for line in after if not pairs(line).keys() <= SETTINGS)]
    if extra:
        notes.append(f"Lines that an extension added were left out, such as {shown(extra[0])}.")
    return _usable({**raw, **_webui(raw, notes)}, "webui", notes)


def _joined(lines: Sequence[str]) -> str:
    return " ".join(line for line in lines if line)


def _webui(raw: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """The prompt and the negative prompt of the WebUI, whether they have weights, and its LoRAs; the scheduler by its class.
    What is left out goes to the notes."""
    if len(raw["prompt"]) > MAX_PROMPT:
        return {}  # it is refused in a moment
    tags = LORA_TAG.findall(raw["prompt"])
    texts = {"prompt": LORA_TAG.sub("", raw["prompt"]).strip() if tags else raw["prompt"]}
    negative = raw.get("negative")
    if isinstance(negative, str) and len(negative) <= MAX_PROMPT:
        texts["negative"] = negative
    try:
        weighted = True in [is_weighted(text) for text in texts.values()]
    except ValueError as error:  # of a weight that is too large
        weighted = False
        notes.append(f"Its brackets were taken for text. {error}")
    else:
        texts = texts if weighted else {name: plain(text) for name, text in texts.items()}
    loras = [f"{name}:{weight}" if weight else name for name, weight in tags]
    sampler = raw["scheduler"] if isinstance(raw.get("scheduler"), str) else ""
    return {
        **texts,
        "weighted": weighted,
        "loras": loras,
        "scheduler": CLASSES.get(sampler, sampler),
    }


def _parsed(text: str) -> Any:
    """The JSON of a text, None where it is not valid."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _settings(lines: list[str]) -> tuple[int, dict[str, str]]:
    """The index of the line of settings, past the last line where there is none, and all values from there on.

    It begins with "Steps" or has two keys of the WebUI, and there are three pairs in it and after it: what follows may be
    the rest of a value with a line break. Else it is the last line if that has three pairs, the WebUI's own rule."""

    def is_one(line: str) -> bool:
        found = pairs(line)
        return next(iter(found), "") == "Steps" or len(found.keys() & SETTINGS) > 1

    start = next((i for i in reversed(range(len(lines))) if is_one(lines[i])), len(lines) - 1)
    while start > 0 and is_one(lines[start - 1]):
        start -= 1
    values = pairs(lines[start])
    for line in lines[start + 1 :]:
        for key, value in pairs(line, cut=True).items():
            values.setdefault(key, value)
    return (start, values) if len(values) >= 3 else (len(lines), {})


def _is_added(line: str) -> bool:
    """Whether an extension wrote this line before the settings: a template of the prompt, or three named pairs."""
    keys = list(pairs(line))
    named = len(keys) >= 3 and all(re.fullmatch(r"[A-Z][\w /-]*", key) for key in keys)
    return named or line.startswith(("Template:", "Negative Template:"))


def pairs(line: str, cut: bool = False) -> dict[str, str]:
    """The "Key: value" pairs of a line; the first of equal keys. cut: the line may begin with the rest of a value."""
    found: dict[str, str] = {}
    place = 0
    while place < len(line):
        colon = line.find(":", place)
        key = line[place:colon].strip(" ,")
        if cut and not found:
            key = key.rpartition(",")[2].strip()
        if colon < 0 or "," in key:
            break
        place = colon + 1
        while line[place : place + 1] == " ":
            place += 1
        value = None
        if line[place : place + 1] == '"':
            try:
                value, end = json.JSONDecoder().raw_decode(line, place)
            except (ValueError, RecursionError):
                end = -1
        if not isinstance(value, str):
            end = line.find(",", place)
            end = len(line) if end < 0 else end
            value = line[place:end].strip()
        found.setdefault(key, value)
        place = end + 1
    return found


def _from_json(parsed: Any) -> dict[str, Any]:
    """Like `from_text`, from the JSON of another tool (SwarmUI, Fooocus), of which the first object with a prompt is read."""
    objects = [parsed, *parsed.values()] if isinstance(parsed, dict) else []
    for values in (item for item in objects if isinstance(item, dict)):
        named = {re.sub(r"[^a-z]", "", str(key).lower()): value for key, value in values.items()}
        raw = {
            name: next((named[key] for key in keys if key in named), None) for name, keys in JSON_KEYS.items()
        }
        if isinstance(raw["prompt"], str):
            size = re.fullmatch(r"\D*(\d+)\D+(\d+)\D*", str(raw["size"]))
            if size and raw["width"] is None:
                raw |= {"width": size[1], "height": size[2]}
            raw["prompt"] = " ".join(raw["prompt"].split())
            notes: list[str] = []
            return _usable({**raw, **_webui(raw, notes)}, "json", notes)
    raise ValueError(
        "This picture's parameters are JSON of a tool whose settings are not known here: type its prompt and seed in."
    )


def _usable(raw: Mapping[str, Any], source: str, notes: list[str]) -> dict[str, Any]:
    """The values of a picture that can be used here; the rest in a note."""
    prompt = raw["prompt"]
    if not prompt.strip():
        raise ValueError(
            "This picture's parameters have no prompt: choose another picture, or type a prompt in."
        )
    checks: dict[str, Callable[[Any], Any]] = {
        "seed": seed_from,
        "steps": lambda value: whole("number of steps", value, *STEPS),
        "guidance": lambda value: real("guidance", value, *GUIDANCE),
        "width": lambda value: check_side("width", value),
        "height": lambda value: check_side("height", value),
        "strength": lambda value: real("strength", value, 0, 1),
        "method": _method,
        "run": lambda value: identifier("run", value),
        "negative": check_negative,
        "scheduler": check_scheduler,
        "loras": _loras,
    }
    values: dict[str, Any] = {"prompt": check_prompt(prompt), **dict.fromkeys(checks)}
    for name, check in checks.items():
        value = raw.get(name)
        if value is not None and value != "":
            try:
                values[name] = check(value)
            except ValueError:
                title = TITLES.get(name, name)
                notes.append(f"Its {title} {shown(value)} was left out: it cannot be used here.")
    method, strength = values["method"] or "none", 1.0 if values["strength"] is None else values["strength"]
    values |= {"method": method, "run": values["run"] or "", "strength": strength * projects(method)}
    values |= {
        "negative": values["negative"] or "",
        "scheduler": values["scheduler"] or "",
        "loras": values["loras"] or [],
    }
    values["weighted"] = raw.get("weighted") is True
    values["hashes"] = _hashes(raw.get("loras")) if values["loras"] else {}
    return {**values, "source": source, "note": " ".join(notes)}


def _loras(value: Any) -> list[str]:
    """LoRA files as name:weight, from such texts, or from {name, weight} as a sample's row has them; whether there are such
    files is asked where the picture is used."""
    files = _parsed(value) if isinstance(value, str) else value
    if not isinstance(files, list) or len(files) > MOST:
        raise ValueError("LoRA files are a list.")
    items: dict[str, str] = {}
    for file in files:
        name, weight = (file.get("name"), file.get("weight")) if isinstance(file, dict) else (file, None)
        if not isinstance(name, str) or len(name) > LONGEST_NAME:
            raise ValueError("The name of a LoRA file is a short text.")
        name, behind = split_item(name) if weight is None else (name, "")
        weight = behind or weight
        items[name] = name if weight is None else f"{name}:{real('weight', weight, *WEIGHTS):g}"
    return list(items.values())


def _hashes(value: Any) -> dict[str, str]:
    """The SHA-256 by name of files that `_loras` has checked; the WebUI names none."""
    files = _parsed(value) if isinstance(value, str) else value
    known = [file for file in files if isinstance(file, dict) and isinstance(file.get("sha256"), str)]
    return {file["name"]: file["sha256"] for file in known}


def _method(value: Any) -> str:
    """The name of a known method; ValueError for any other."""
    if not isinstance(value, str):
        raise ValueError("A method is text.")
    parse(value)
    return value


def png_texts(source: str | Path | bytes) -> dict[str, str]:
    """The texts of a PNG by their keys, the first of equal ones; ValueError for another file, or too large a one."""
    texts: dict[str, str] = {}
    for kind, body in chunks(_content(source)):
        if kind in TEXTS:
            key, _, rest = body.partition(b"\0")
            name = key.decode("latin-1")
            if name in (TEXT, OWN, OLD, "workflow") and name not in texts:
                texts[name] = _unpacked(kind, rest)
    return texts


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kind and body of each chunk of a PNG, checked."""
    if not png.startswith(SIGNATURE):
        raise ValueError("This file is no PNG: take the picture as it was saved, not a screenshot or a JPEG.")
    place = len(SIGNATURE)
    for count in range(MAX_CHUNKS + 1):
        if count == MAX_CHUNKS:
            raise ValueError("This PNG has too many parts to be a picture: take another one.")
        if len(png) - place < 12:
            raise ValueError("This PNG is cut off: copy it again.")
        (size,) = struct.unpack_from(">I", png, place)
        kind, body = png[place + 4 : place + 8], png[place + 8 : place + 8 + size]
        if len(png) - place - 12 < size:
            raise ValueError("This PNG is cut off: copy it again.")
        if struct.unpack_from(">I", png, place + 8 + size)[0] != zlib.crc32(kind + body):
            raise ValueError("This PNG is damaged (a checksum is wrong): copy it again.")
        yield kind, body
        place += 12 + size
        if kind == b"IEND":
            return


def _content(source: str | Path | bytes) -> bytes:
    if isinstance(source, bytes):
        content = source
    else:
        try:
            with Path(source).open("rb") as file:
                content = file.read(MAX_FILE + 1)
        except OSError as error:
            raise ValueError(f"The picture cannot be read ({error.strerror}): choose it again.") from None
    if len(content) > MAX_FILE:
        raise ValueError(f"This picture is larger than {MAX_FILE // 2**20} MB: take a smaller one.")
    return content


def _unpacked(kind: bytes, rest: bytes) -> str:
    """The text of a chunk after its key; never more than MAX_TEXT of it."""
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[-1]
    elif packed:
        rest = rest[1:]
    if packed:
        inflate = zlib.decompressobj()
        try:
            rest = inflate.decompress(rest, MAX_TEXT + 1)
        except zlib.error:
            raise ValueError(
                "This PNG is damaged (a text in it cannot be unpacked): copy it again."
            ) from None
    if len(rest) > MAX_TEXT:
        raise ValueError(
            "The text in this picture is too large to be generation parameters: take another one."
        )
    if kind == b"iTXt":
        return rest.decode("utf-8", "replace")
    text = decoded(rest)
    if any("\x7f" < char < "\xa0" for char in text):
        raise ValueError(
            "The text in this picture is neither UTF-8 nor Latin-1: type its prompt and seed in."
        )
    return text


def decoded(raw: bytes) -> str:
    """The text of bytes that are valid UTF-8, which many tools write where the format wants Latin-1, else of Latin-1."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
