"""What a PNG says of how it was made: written as the WebUI of AUTOMATIC1111 writes it, read from both, hostile or not."""

import io
import json
import zlib

import pytest
from PIL import Image, PngImagePlugin

from core.emphasis import plain
from studio.images import png_text
from studio.images.png_text import chunk, from_text, read_png, with_text

ROW = {
    "prompt": "a red circle, above: a blue square", "seed": 7, "steps": 20, "guidance": 4.0, "width": 128, "height": 64,
    "method": "projected", "strength": 0.5, "projector_run": "shipped-projector-abc", "backbone": "/srv/ann/models/sd",
    "backbone_revision": "r1", "sampler": "EulerAncestralDiscreteScheduler", "noise_sha256": "0" * 64, "negative": "",
    "weighted": "", "loras": "[]",
}  # fmt: skip
WEBUI = (
    "masterpiece, (a cat:1.2)\non a mat\nNegative prompt: ugly, bad\nhands\n"
    "Steps: 25, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 3943213078, Size: 512x768, "
    'Model hash: 6ce0161689, Model: v1-5, Lora hashes: "a: 1, b: 2", Version: v1.10.1'
)
SETTINGS = "Steps: 25, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 512x768"
BALL = {"seed": 42, "steps": 25, "guidance": 7.0, "width": 512, "height": 768}


def picture(**texts):
    file, info = io.BytesIO(), PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name.replace("_", "-"), text)
    Image.new("RGB", (8, 8), (200, 30, 30)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def spliced(extra, after=33):
    """A PNG with more bytes after its header."""
    plain = picture()
    return plain[:after] + extra + plain[after:]


def read(found, *names):
    return {name: found[name] for name in names}


# ---- our own


def test_the_text_is_what_the_webui_writes():
    assert png_text.parameters_text(ROW) == (
        "a red circle, above: a blue square\nSteps: 20, Sampler: Euler a, CFG scale: 4, Seed: 7, Size: 128x64, Model: sd, "
        "Method: projected, Projection strength: 0.5, Run: shipped-projector-abc"
    )
    plain = png_text.parameters_text({**ROW, "method": "none", "projector_run": None})
    assert plain.endswith("Model: sd, Method: none")
    text = png_text.parameters_text({**ROW, "backbone": 'org/the "best", of: all'})
    assert r'Model: "org/the \"best\", of: all"' in text  # quoted as the WebUI quotes it
    assert png_text.pairs(text.split("\n")[1])["Model"] == 'org/the "best", of: all'


def test_a_picture_of_ours_keeps_its_pixels_gives_all_back_and_says_nothing_of_the_disk(tmp_path):
    before = picture(studio="{}")
    after = with_text(before, ROW)
    with Image.open(io.BytesIO(after)) as image:
        assert set(image.text) == {"parameters", "noise-projection-studio"}
        assert image.text["parameters"] == png_text.parameters_text(ROW)
        assert image.tobytes() == Image.open(io.BytesIO(before)).tobytes()
    assert with_text(after, ROW) == after and b"ann" not in after
    assert png_text.model_name(r"C:\models\sd") == "sd"
    assert png_text.model_name("stabilityai/sdxl") == "stabilityai/sdxl"
    told = {name: value for name, value in ROW.items() if name in read_png(after)}
    assert read_png(after) == {
        **told, "run": ROW["projector_run"], "scheduler": ROW["sampler"], "weighted": False, "loras": [], "hashes": {}, "source": "studio",
        "note": "",
    }  # fmt: skip
    stripped = from_text(png_text.parameters_text(ROW))  # of its JSON
    assert read(stripped, "prompt", "method", "strength") == read(ROW, "prompt", "method", "strength")
    assert stripped["run"] == ROW["projector_run"]
    (tmp_path / "one.png").write_bytes(after)
    assert read_png(tmp_path / "one.png")["seed"] == 7
    with pytest.raises(ValueError, match="cannot be read"):
        read_png(str(tmp_path / "none.png"))


WITH = {
    **ROW, "negative": "ugly, bad: hands", "weighted": "a (red:1.3) circle, above: a [blue] square",
    "loras": '[{"name":"style.safetensors","sha256":"0","weight":0.8},{"name":"b.safetensors","sha256":"0","weight":1.0}]',
}  # fmt: skip


def test_negative_prompt_weights_and_lora_files_are_written_as_the_webui_writes_them_and_come_back():
    text = png_text.parameters_text(WITH)
    assert text.split("\n")[:2] == [
        "a (red:1.3) circle, above: a [blue] square <lora:style:0.8> <lora:b:1>", "Negative prompt: ugly, bad: hands",
    ]  # fmt: skip
    for found, loras in (
        (from_text(text), ["style:0.8", "b:1"]),
        (read_png(with_text(picture(), WITH)), ["style.safetensors:0.8", "b.safetensors:1"]),
    ):
        assert (found["prompt"], found["weighted"], found["negative"]) == (
            WITH["weighted"],
            True,
            WITH["negative"],
        )
        assert (found["scheduler"], found["loras"], found["note"]) == (WITH["sampler"], loras, "")


def test_brackets_of_prompts_without_weights_are_escaped_so_that_they_weigh_nothing():
    row = {**ROW, "prompt": r"a (red) circle [new] \\ here", "negative": r"(ugly:1.3), [bad] \ hands"}
    text = png_text.parameters_text(row)
    assert (
        text.startswith(r"a \(red\) circle \[new\]")
        and "\nNegative prompt: \\(ugly:1.3\\), \\[bad\\]" in text
    )
    found = from_text(text)
    assert (found["prompt"], found["negative"], found["weighted"]) == (row["prompt"], row["negative"], False)


@pytest.mark.parametrize(
    ("prompt", "negative"),
    [
        ("a (red:1.3) circle", "ugly, (bad hands:1.4), [blur]"),
        ("a (red:1.3) circle", r"ugly \(bad\) hands"),
        ("a red circle", "ugly, (bad hands:1.4)"),
        (r"a \(red\) circle", "((bad))"),
    ],
)
def test_weights_of_either_prompt_come_from_the_webui_and_go_back_to_it(prompt, negative):
    found = from_text(f"{prompt}\nNegative prompt: {negative}\n{SETTINGS}")
    assert (found["prompt"], found["negative"], found["weighted"]) == (prompt, negative, True)
    row = {**ROW, "prompt": plain(prompt), "weighted": prompt, "negative": negative}
    assert png_text.parameters_text(row).startswith(f"{prompt}\nNegative prompt: {negative}\n")
    for found in (from_text(png_text.parameters_text(row)), read_png(with_text(picture(), row))):
        assert (found["prompt"], found["negative"], found["weighted"]) == (prompt, negative, True)


def test_a_weight_of_the_webui_that_is_out_of_range_leaves_both_prompts_as_they_are_with_a_note():
    found = from_text(f"a (red:1.3) circle\nNegative prompt: (bad:99)\n{SETTINGS}")
    assert (found["prompt"], found["negative"], found["weighted"]) == (
        "a (red:1.3) circle",
        "(bad:99)",
        False,
    )
    assert found["note"] == (
        "Its brackets were taken for text. The weight 99 of 'bad' is not from 0 to 10: change it."
    )
    found = from_text(f"a cat\nNegative prompt: {'(' * 5000}\n{SETTINGS}")
    assert found["negative"] == "" and "Its negative prompt" in found["note"]


@pytest.mark.parametrize("prompt", ["红色的圆 🔴 & <b>“ß”</b>", "Ã© is no é", "un café rouge"])
def test_a_prompt_in_any_script_comes_back_and_pillow_reads_it_too(prompt):
    row = {**ROW, "prompt": prompt}
    content = with_text(picture(), row)
    assert Image.open(io.BytesIO(content)).text["parameters"].startswith(prompt)
    texts = (png_text.parameters_text(row), png_text.png_texts(content)["parameters"])
    assert read_png(content)["prompt"] == prompt and {from_text(text)["prompt"] for text in texts} == {prompt}


def test_the_studios_own_image_files_are_read():
    told = {"prompt": "a cat", "seed": 3, "method": "projected", "strength": 1.0, "projector_run": "abc"}
    found = read_png(picture(studio=json.dumps(told)))
    assert (found["seed"], found["run"], found["strength"], found["source"]) == (3, "abc", 1.0, "studio")


def test_hostile_values_of_ours_are_left_out():
    told = {"prompt": "a cat", "seed": "7; rm", "steps": 1e99, "guidance": "nan", "width": [], "height": {"a": 1},
            "method": "__import__", "strength": True, "run": "../../etc", "version": 99, "negative": ["x"], "sampler": {},
            "loras": [{"name": 7, "weight": "nan"}], "weighted": 3}  # fmt: skip
    found = read_png(picture(noise_projection_studio=json.dumps(told)))
    assert {found[name] for name in BALL} == {None}
    assert (found["method"], found["strength"], found["run"]) == ("none", 0.0, "")
    assert (found["negative"], found["scheduler"], found["loras"], found["weighted"]) == ("", "", [], False)


# ---- of other tools


def test_a_picture_of_the_webui_is_read_compressed_or_not():
    for content in (
        picture(parameters=WEBUI),
        spliced(chunk(b"zTXt", b"parameters\0\0" + zlib.compress(WEBUI.encode("latin-1")))),
        spliced(chunk(b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(WEBUI.encode()))),
    ):
        found = read_png(content)
        assert (found["prompt"], found["weighted"]) == ("masterpiece, (a cat:1.2) on a mat", True)
        assert (found["negative"], found["scheduler"]) == ("ugly, bad hands", "DPMSolverMultistepScheduler")
        assert [found[name] for name in BALL] == [3943213078, 25, 7.5, 512, 768]
        assert (found["method"], found["strength"], found["source"]) == ("none", 0.0, "webui")
        assert found["note"] == "Its schedule type 'Karras' was left out."


def test_what_cannot_be_used_here_is_left_out_and_told():
    found = from_text("a cat\nSteps: 150, Sampler: Euler, CFG scale: 7, Seed: -1, Size: 500x300, Model: x")
    assert (found["steps"], found["seed"], found["width"], found["guidance"]) == (None, None, None, 7.0)
    assert all(f"Its {name}" in found["note"] for name in ("steps", "seed", "width", "height"))
    found = from_text("a cat, in: the sun")  # without a line of parameters it is a prompt
    assert (found["prompt"], found["seed"]) == ("a cat, in: the sun", None)


@pytest.mark.parametrize("negative", ["", "\nNegative prompt: ugly, bad: 1,\nhands"], ids=["", "negative"])
@pytest.mark.parametrize(
    "text",
    [
        f"a red ball\n{SETTINGS}\nTemplate: a {{red|blue}} ball",
        f"a red ball\n{SETTINGS}\nTemplate: a {{red|blue}},\nbig ball\nNegative Template: {{a|b}}",
        f"a red ball\nTemplate: a {{red|blue}} ball, Seed: 7\n{SETTINGS}",
        f"a red ball\nNegative prompt: ugly\nTemplate: a ball\n{SETTINGS}\nNegative Template: x",
        f"a red ball\n{SETTINGS}\nADetailer model: face.pt, ADetailer prompt: x, ADetailer version: 1",
        f"a red ball\nADetailer model: face.pt, ADetailer steps: 9, ADetailer seed: 1\n{SETTINGS}",
        f"a red ball\n\nNegative prompt: ugly\n{SETTINGS}\n\nTemplate: x",
        f"a red ball\n{SETTINGS}\nTime taken: 2.1 sec.",
    ],
)
def test_what_extensions_write_around_the_settings_is_left_out_with_a_note(text, negative):
    text = text if "Negative prompt" in text else text.replace("ball\n", f"ball{negative}\n", 1)
    found = from_text(text)
    assert read(found, "prompt", *BALL) == {"prompt": "a red ball", **BALL}
    assert "an extension added" in found["note"]
    assert bool(found["negative"]) == ("Negative prompt" in text)


CUT = "Steps: 25, Sampler: Euler a, Note: {}, CFG scale: 7, Seed: 42, Size: 512x768"


@pytest.mark.parametrize("negative", ["", "\nNegative prompt: ugly"], ids=["", "negative"])
@pytest.mark.parametrize(
    "settings",
    [
        CUT.format('"one\ntwo"'),
        CUT.format('"one: a, b\nSteps: 1, Seed: 1, Size: 8x8\nthree"'),
        CUT.format(r'"one\ntwo, \"three\""'),
        CUT.format("one\r\ntwo, three"),
        SETTINGS.replace(", ", ",\n"),
        SETTINGS.replace("CFG", "\nCFG"),
        SETTINGS + ', Note: "one\n\ntwo"\nTemplate: "x\ny"',
        SETTINGS + ", Note: one\ntwo",
    ],
)
def test_a_line_break_in_a_value_of_the_settings_ends_neither_them_nor_the_prompt(settings, negative):
    found = from_text(f"a red ball,\n(big:1.2), (round:1.1), (x:2){negative}\n{settings}")
    assert read(found, *BALL) == BALL and found["prompt"] == "a red ball, (big:1.2), (round:1.1), (x:2)"


def test_lines_of_a_prompt_that_look_a_little_like_settings_stay_the_prompt():
    text = 'Subject: a cat\nTemplate for a sign: "open\ndaily"\nStyle: oil, mood: dark'
    prompt = 'Subject: a cat Template for a sign: "open daily" Style: oil, mood: dark'
    assert from_text(text)["prompt"] == from_text(f"{text}\n{SETTINGS}")["prompt"] == prompt
    assert from_text(f"Template: a cat\n{SETTINGS}")["prompt"] == "Template: a cat"


SWARM = {
    "prompt": "a red\nball",
    "seed": 42,
    "steps": 25,
    "cfgscale": 7,
    "width": 512,
    "height": 768,
    "model": "x",
}
FOOOCUS = {
    "Prompt": "a red ball",
    "seed": "42",
    "steps": 25,
    "guidance_scale": 7.0,
    "resolution": "(512, 768)",
}


@pytest.mark.parametrize(
    "told",
    [
        {"sui_image_params": SWARM, "sui_extra_data": {"date": "2024"}},
        {"sui_models": [{"name": "x"}], "sui_image_params": {**SWARM, "negativeprompt": "ugly"}},
        SWARM,
        FOOOCUS,
        {**FOOOCUS, "negative_prompt": "ugly"},
    ],
)
def test_settings_in_json_are_read_where_their_keys_are_known(told):
    for indent in (None, 2):
        found = read_png(picture(parameters=json.dumps(told, indent=indent)))
        assert read(found, "prompt", "source", *BALL) == {"prompt": "a red ball", "source": "json", **BALL}
        assert found["negative"] == ("ugly" if "ugly" in str(told) else "")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 5}}}),
        "\ufeff" + json.dumps({"sui_image_params": {"seed": 5}}),
        json.dumps({"prompt": {"text": "a ball"}}),
        json.dumps([{"prompt": "a ball"}]),
        json.dumps({"sui_image_params": SWARM})[:-9],
        '{"a": ' * 50_000,
        "{}",
    ],
)
def test_json_of_another_tool_is_never_the_prompt(text):
    with pytest.raises(ValueError, match="settings are not known here: type its prompt and seed in"):
        read_png(picture(parameters=text))


@pytest.mark.parametrize(
    "text", ["{red|blue} ball", "[[cat]] on a mat", "[cat:dog:0.5]", '"a cat"', "7", '{"red"} ball']
)
def test_a_prompt_with_brackets_is_no_json(text):
    assert from_text(text)["prompt"] == text


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt"])
@pytest.mark.parametrize(
    ("prompt", "coding"),
    [
        ("un café rouge", "utf-8"),
        ("un café rouge", "latin-1"),
        ("赤いボール", "utf-8"),
        ("naïve “quoted” – ball", "utf-8"),
    ],
)
def test_text_in_utf_8_is_read_where_latin_1_is_asked_for(prompt, coding, kind):
    body = f"{prompt}\n{SETTINGS}".encode(coding)
    content = chunk(kind, b"parameters\0" + (body if kind == b"tEXt" else b"\0" + zlib.compress(body)))
    found = read_png(spliced(content))
    assert (found["prompt"], found["seed"], found["note"]) == (prompt, 42, "")


BOMB = zlib.compress(b"a" * (png_text.MAX_TEXT * 8), 9)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (picture(), "no generation parameters"),
        (picture(workflow="{}"), "ComfyUI"),
        (b"", "no PNG"),
        (b"\xff\xd8\xff\xe0 JFIF", "no PNG"),
        (picture(parameters=WEBUI)[:60], "cut off"),
        (png_text.SIGNATURE, "cut off"),
        (picture(parameters=WEBUI).replace(b"masterpiece", b"masterpiecf"), "damaged"),
        (spliced(chunk(b"zTXt", b"parameters\0\0" + BOMB)), "too large"),
        (spliced(chunk(b"iTXt", b"parameters\0\1\0\0\0" + BOMB)), "too large"),
        (spliced(chunk(b"tEXt", b"parameters\0" + b"a" * (png_text.MAX_TEXT + 1))), "too large"),
        (spliced(chunk(b"zTXt", b"parameters\0\0nothing")), "damaged"),
        (spliced(b"\xff\xff\xff\xffzTXt"), "cut off"),
        (spliced(chunk(b"aaAa", b"") * (png_text.MAX_CHUNKS + 1)), "too many parts"),
        (picture(parameters="\nSteps: 1, Sampler: x, Seed: 3, Size: 8x8"), "have no prompt"),
        (picture(parameters="x" * 5000), "characters"),
        (picture(parameters="(" * 500_000 + ")" * 500_000), "characters"),
        (spliced(chunk(b"tEXt", b"parameters\0a \x01 b")), "control character"),
        (spliced(chunk(b"tEXt", "parameters\0赤いボール".encode("cp932"))), "neither UTF-8 nor Latin-1"),
        (picture(noise_projection_studio="[" * 100_000), "no generation parameters"),
        (picture(noise_projection_studio='{"prompt": 7}'), "no generation parameters"),
        (b"\x00" * (png_text.MAX_FILE + 1), "larger than 64 MB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_picture_is_answered_with_a_sentence(content, why):
    with pytest.raises(ValueError, match=why) as found:
        read_png(content)
    assert len(str(found.value)) < 300
