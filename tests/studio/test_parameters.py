"""What a PNG says of how it was made: written as the WebUI of AUTOMATIC1111 writes it, read from both, hostile or not."""

import io
import json
import zlib

import pytest
from PIL import Image, PngImagePlugin

from studio import parameters
from studio.parameters import chunk, from_text, read_png, with_text

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
    assert parameters.parameters_text(ROW) == (
        "a red circle, above: a blue square\nSteps: 20, Sampler: Euler a, CFG scale: 4, Seed: 7, Size: 128x64, Model: sd, "
        "Method: projected, Projection strength: 0.5, Run: shipped-projector-abc"
    )
    plain = parameters.parameters_text({**ROW, "method": "none", "projector_run": None})
    assert plain.endswith("Model: sd, Method: none")


def test_a_value_with_a_comma_is_quoted_as_the_webui_quotes_it():
    text = parameters.parameters_text({**ROW, "backbone": 'org/the "best", of: all'})
    assert r'Model: "org/the \"best\", of: all"' in text
    assert parameters.pairs(text.split("\n")[1])["Model"] == 'org/the "best", of: all'


def test_pillow_finds_the_texts_and_the_pixels_are_the_same():
    before = picture(studio="{}")
    after = with_text(before, ROW)
    with Image.open(io.BytesIO(after)) as image:
        assert set(image.text) == {"parameters", "noise-projection-studio"}
        assert image.text["parameters"] == parameters.parameters_text(ROW)
        assert image.tobytes() == Image.open(io.BytesIO(before)).tobytes()
    assert with_text(after, ROW) == after


def test_a_picture_of_ours_gives_all_of_it_back():
    found = read_png(with_text(picture(), ROW))
    assert found == {
        "prompt": ROW["prompt"], "seed": 7, "steps": 20, "guidance": 4.0, "width": 128, "height": 64, "method": "projected",
        "strength": 0.5, "run": "shipped-projector-abc", "source": "studio", "note": "",
    }  # fmt: skip


def test_a_picture_of_ours_whose_json_was_stripped_still_gives_it_back():
    found = from_text(parameters.parameters_text(ROW))
    assert (found["prompt"], found["method"], found["strength"], found["run"]) == (
        ROW["prompt"], "projected", 0.5, "shipped-projector-abc",
    )  # fmt: skip


def test_a_prompt_in_any_script_comes_back():
    row = {**ROW, "prompt": "红色的圆 🔴 & <b>“ß”</b>"}
    content = with_text(picture(), row)
    assert Image.open(io.BytesIO(content)).text["parameters"].startswith(row["prompt"])
    assert read_png(content)["prompt"] == row["prompt"]
    assert from_text(parameters.parameters_text(row))["prompt"] == row["prompt"]


def test_nothing_says_where_on_the_disk_the_model_lies():
    assert b"ann" not in with_text(picture(), ROW)
    assert parameters.model_name(r"C:\models\sd") == "sd"
    assert parameters.model_name("stabilityai/sdxl") == "stabilityai/sdxl"


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


BOMB = zlib.compress(b"a" * (parameters.MAX_TEXT * 8), 9)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (picture(), "no generation parameters"),
        (picture(workflow="{}"), "ComfyUI"),
        (b"", "no PNG"),
        (b"\xff\xd8\xff\xe0 JFIF", "no PNG"),
        (picture(parameters=WEBUI)[:60], "cut off"),
        (parameters.SIGNATURE, "cut off"),
        (picture(parameters=WEBUI).replace(b"masterpiece", b"masterpiecf"), "damaged"),
        (spliced(chunk(b"zTXt", b"parameters\0\0" + BOMB)), "too large"),
        (spliced(chunk(b"iTXt", b"parameters\0\1\0\0\0" + BOMB)), "too large"),
        (spliced(chunk(b"tEXt", b"parameters\0" + b"a" * (parameters.MAX_TEXT + 1))), "too large"),
        (spliced(chunk(b"zTXt", b"parameters\0\0nothing")), "damaged"),
        (spliced(b"\xff\xff\xff\xffzTXt"), "cut off"),
        (spliced(chunk(b"aaAa", b"") * (parameters.MAX_CHUNKS + 1)), "too many parts"),
        (picture(parameters="\nSteps: 1, Sampler: x, Seed: 3, Size: 8x8"), "have no prompt"),
        (picture(parameters="x" * 5000), "characters"),
        (spliced(chunk(b"tEXt", b"parameters\0a \x01 b")), "control character"),
        (picture(noise_projection_studio="[" * 100_000), "no generation parameters"),
        (picture(noise_projection_studio='{"prompt": 7}'), "no generation parameters"),
        (b"\x00" * (parameters.MAX_FILE + 1), "larger than 64 MB"),
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
