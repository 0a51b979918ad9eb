"""What a PNG says of how it was made: written as the WebUI of AUTOMATIC1111 writes it, read from both, hostile or not."""

import io
import json
import zlib

import pytest
from PIL import Image, PngImagePlugin

from studio.images import png_text
from studio.images.png_text import chunk, from_text, read_png, with_text

ROW = {
    "prompt": "a red circle, above: a blue square", "seed": 7, "steps": 20, "guidance": 4.0, "width": 128, "height": 64,
    "method": "projected", "strength": 0.5, "projector_run": "shipped-projector-abc", "backbone": "/srv/ann/models/sd",
    "backbone_revision": "r1", "sampler": "EulerAncestralDiscreteScheduler", "noise_sha256": "0" * 64,
}  # fmt: skip
WEBUI = (
    "masterpiece, (a cat:1.2)\non a mat\nNegative prompt: ugly, bad\nhands\n"
    "Steps: 25, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 3943213078, Size: 512x768, "
    'Model hash: 6ce0161689, Model: v1-5, Lora hashes: "a: 1, b: 2", Version: v1.10.1'
)


def picture(**texts):
    file, info = io.BytesIO(), PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name.replace("_", "-"), text)
    Image.new("RGB", (8, 8), (200, 30, 30)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def test_the_text_is_what_the_webui_writes():
    assert png_text.parameters_text(ROW) == (
        "a red circle, above: a blue square\nSteps: 20, Sampler: Euler a, CFG scale: 4, Seed: 7, Size: 128x64, Model: sd, "
        "Method: projected, Projection strength: 0.5, Run: shipped-projector-abc"
    )
    plain = png_text.parameters_text({**ROW, "method": "none", "projector_run": None})
    assert plain.endswith("Model: sd, Method: none")


def test_a_value_with_a_comma_is_quoted_as_the_webui_quotes_it():
    text = png_text.parameters_text({**ROW, "backbone": 'org/the "best", of: all'})
    assert r'Model: "org/the \"best\", of: all"' in text
    assert png_text.pairs(text.split("\n")[1])["Model"] == 'org/the "best", of: all'


def test_pillow_finds_the_texts_and_the_pixels_are_the_same():
    before = picture(studio="{}")
    after = with_text(before, ROW)
    with Image.open(io.BytesIO(after)) as image:
        assert set(image.text) == {"parameters", "noise-projection-studio"}
        assert image.text["parameters"] == png_text.parameters_text(ROW)
        assert image.tobytes() == Image.open(io.BytesIO(before)).tobytes()
    assert with_text(after, ROW) == after


def test_a_picture_of_ours_gives_all_of_it_back():
    found = read_png(with_text(picture(), ROW))
    assert found == {
        "prompt": ROW["prompt"], "seed": 7, "steps": 20, "guidance": 4.0, "width": 128, "height": 64, "method": "projected",
        "strength": 0.5, "run": "shipped-projector-abc", "source": "studio", "note": "",
    }  # fmt: skip


def test_a_picture_of_ours_whose_json_was_stripped_still_gives_it_back():
    found = from_text(png_text.parameters_text(ROW))
    assert (found["prompt"], found["method"], found["strength"], found["run"]) == (
        ROW["prompt"], "projected", 0.5, "shipped-projector-abc",
    )  # fmt: skip


def test_a_prompt_in_any_script_comes_back():
    row = {**ROW, "prompt": "红色的圆 🔴 & <b>“ß”</b>"}
    content = with_text(picture(), row)
    assert Image.open(io.BytesIO(content)).text["parameters"].startswith(row["prompt"])
    assert read_png(content)["prompt"] == row["prompt"]
    assert from_text(png_text.parameters_text(row))["prompt"] == row["prompt"]


def test_nothing_says_where_on_the_disk_the_model_lies():
    assert b"ann" not in with_text(picture(), ROW)
    assert png_text.model_name(r"C:\models\sd") == "sd"
    assert png_text.model_name("stabilityai/sdxl") == "stabilityai/sdxl"


def test_a_picture_of_the_webui_is_read():
    found = read_png(picture(parameters=WEBUI))
    assert found["prompt"] == "masterpiece, (a cat:1.2) on a mat"
    assert (found["seed"], found["steps"], found["guidance"]) == (3943213078, 25, 7.5)
    assert (found["width"], found["height"], found["method"], found["strength"]) == (512, 768, "none", 0.0)
    assert found["source"] == "webui" and "negative prompt" in found["note"]


def test_what_cannot_be_used_here_is_left_out_and_told():
    found = from_text("a cat\nSteps: 150, Sampler: Euler, CFG scale: 7, Seed: -1, Size: 500x300, Model: x")
    assert (found["steps"], found["seed"], found["width"], found["guidance"]) == (None, None, None, 7.0)
    for name in ("steps", "seed", "width", "height"):
        assert f"Its {name}" in found["note"]


SETTINGS = "Steps: 25, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 512x768"
CUT = "Steps: 25, Sampler: Euler a, Note: {}, CFG scale: 7, Seed: 42, Size: 512x768"
AROUND = {
    "a template after": f"a red ball\n{SETTINGS}\nTemplate: a {{red|blue}} ball",
    "both templates after": f"a red ball\n{SETTINGS}\nTemplate: a {{red|blue}},\nbig ball\nNegative Template: {{a|b}}",
    "a template before": f"a red ball\nTemplate: a {{red|blue}} ball, Seed: 7\n{SETTINGS}",
    "a template between": f"a red ball\nNegative prompt: ugly\nTemplate: a ball\n{SETTINGS}\nNegative Template: x",
    "an extension after": f"a red ball\n{SETTINGS}\nADetailer model: face.pt, ADetailer prompt: x, ADetailer version: 1",
    "an extension before": f"a red ball\nADetailer model: face.pt, ADetailer steps: 9, ADetailer seed: 1\n{SETTINGS}",
    "an empty line": f"a red ball\n\nNegative prompt: ugly\n{SETTINGS}\n\nTemplate: x",
    "one pair after": f"a red ball\n{SETTINGS}\nTime taken: 2.1 sec.",
}


@pytest.mark.parametrize("negative", ["", "\nNegative prompt: ugly, bad: 1,\nhands"], ids=["", "negative"])
@pytest.mark.parametrize("name", AROUND)
def test_what_extensions_write_around_the_settings_is_left_out_with_a_note(name, negative):
    text = (
        AROUND[name]
        if "Negative prompt" in AROUND[name]
        else AROUND[name].replace("ball\n", f"ball{negative}\n", 1)
    )
    found = from_text(text)
    assert (found["prompt"], found["seed"], found["steps"], found["guidance"]) == ("a red ball", 42, 25, 7.0)
    assert (found["width"], found["height"]) == (512, 768)
    assert "an extension added" in found["note"]
    assert ("negative prompt" in found["note"]) == ("Negative prompt" in text)


@pytest.mark.parametrize("negative", ["", "\nNegative prompt: ugly"], ids=["", "negative"])
@pytest.mark.parametrize(
    "settings",
    [
        CUT.format('"one\ntwo"'),
        CUT.format('"one: a, b\nSteps: 1, Seed: 1, Size: 8x8\nthree"'),
        CUT.format(r'"one\ntwo, \"three\""'),
        CUT.format("one\ntwo"),
        CUT.format("one\r\ntwo, three"),
        SETTINGS.replace(", ", ",\n"),
        SETTINGS.replace("CFG", "\nCFG"),
        SETTINGS + ', Note: "one\ntwo"',
        SETTINGS + ', Note: "one\n\ntwo"\nTemplate: "x\ny"',
        SETTINGS + ", Note: one\ntwo",
    ],
)
def test_a_line_break_in_a_value_of_the_settings_ends_neither_them_nor_the_prompt(settings, negative):
    found = from_text(
        f"a red ball,\n(big:1.2), (round:1.1), (x:2)\n{settings}".replace("\nSteps", f"{negative}\nSteps", 1)
    )
    assert found["prompt"] == "a red ball, (big:1.2), (round:1.1), (x:2)"
    assert (found["seed"], found["steps"], found["guidance"]) == (42, 25, 7.0)
    assert (found["width"], found["height"]) == (512, 768)


def test_lines_of_a_prompt_that_look_a_little_like_settings_stay_the_prompt():
    text = 'Subject: a cat\nTemplate for a sign: "open\ndaily"\nStyle: oil, mood: dark'
    assert (
        from_text(text)["prompt"] == 'Subject: a cat Template for a sign: "open daily" Style: oil, mood: dark'
    )
    assert from_text(f"{text}\n{SETTINGS}")["prompt"] == from_text(text)["prompt"]
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
        {
            "sui_models": [{"name": "x"}],
            "sui_extra_data": {},
            "sui_image_params": {**SWARM, "negativeprompt": "ugly"},
        },
        SWARM,
        FOOOCUS,
        {**FOOOCUS, "negative_prompt": "ugly"},
    ],
)
def test_settings_in_json_are_read_where_their_keys_are_known(told):
    for indent in (None, 2):
        found = read_png(picture(parameters=json.dumps(told, indent=indent)))
        assert (found["prompt"], found["seed"], found["steps"], found["guidance"]) == (
            "a red ball",
            42,
            25,
            7.0,
        )
        assert (found["width"], found["height"], found["source"]) == (512, 768, "json")
        assert ("negative prompt" in found["note"]) == ("ugly" in str(told))


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 5}}}),
        json.dumps({"sui_image_params": {"seed": 5}}),
        "\ufeff" + json.dumps({"sui_image_params": {"seed": 5}}),
        json.dumps({"prompt": {"text": "a ball"}}),
        json.dumps([{"prompt": "a ball"}]),
        json.dumps({"sui_image_params": SWARM})[:-9],
        '{"a": ' * 50_000,
        "{}",
    ],
)
def test_json_of_another_tool_is_never_the_prompt(text):
    with pytest.raises(
        ValueError, match="a tool whose settings are not known here: type its prompt and seed in"
    ):
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
        ("a ball", "ascii"),
    ],
)
def test_text_in_utf_8_is_read_where_latin_1_is_asked_for(prompt, coding, kind):
    body = f"{prompt}\n{SETTINGS}".encode(coding)
    content = spliced(
        chunk(kind, b"parameters\0" + (body if kind == b"tEXt" else b"\0" + zlib.compress(body)))
    )
    found = read_png(content)
    assert (found["prompt"], found["seed"], found["note"]) == (prompt, 42, "")


@pytest.mark.parametrize("prompt", ["Ã© is no é", "un café rouge", "赤い"])
def test_what_is_written_is_read_as_it_was_and_by_pillow_too(prompt):
    content = with_text(picture(), {**ROW, "prompt": prompt})
    assert Image.open(io.BytesIO(content)).text["parameters"].startswith(prompt)
    assert from_text(png_text.png_texts(content)["parameters"])["prompt"] == prompt


def test_a_text_without_a_line_of_parameters_is_a_prompt():
    found = from_text("a cat, in: the sun")
    assert (found["prompt"], found["seed"]) == ("a cat, in: the sun", None)


def test_the_studios_own_image_files_are_read():
    told = {"prompt": "a cat", "seed": 3, "method": "projected", "strength": 1.0, "projector_run": "abc"}
    found = read_png(picture(studio=json.dumps(told)))
    assert (found["seed"], found["run"], found["strength"], found["source"]) == (3, "abc", 1.0, "studio")


def test_compressed_texts_are_read():
    for kind, body in [
        (b"zTXt", b"parameters\0\0" + zlib.compress(WEBUI.encode("latin-1"))),
        (b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(WEBUI.encode())),
    ]:
        assert read_png(spliced(chunk(kind, body)))["seed"] == 3943213078


def spliced(extra, after=33):
    """A PNG with more bytes after its header."""
    plain = picture()
    return plain[:after] + extra + plain[after:]


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


def test_hostile_values_of_ours_are_left_out():
    told = {"prompt": "a cat", "seed": "7; rm", "steps": 1e99, "guidance": "nan", "width": [], "height": {"a": 1},
            "method": "__import__", "strength": True, "run": "../../etc", "version": 99}  # fmt: skip
    found = read_png(picture(noise_projection_studio=json.dumps(told)))
    assert {name: found[name] for name in ("seed", "steps", "guidance", "width", "height")} == dict.fromkeys(
        ("seed", "steps", "guidance", "width", "height")
    )
    assert (found["method"], found["strength"], found["run"]) == ("none", 0.0, "")


def test_a_file_is_read_by_its_path_and_one_that_is_gone_is_told(tmp_path):
    (tmp_path / "one.png").write_bytes(with_text(picture(), ROW))
    assert read_png(tmp_path / "one.png")["seed"] == 7
    with pytest.raises(ValueError, match="cannot be read"):
        read_png(str(tmp_path / "none.png"))
