"""Negative prompt, scheduler, LoRA files and weights from what people give to the row of a sample, and back."""

import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from core.diffusion import Diffuser
from core.options import MOST_WEIGHT
from core.words import MAX_PROMPT
from data.prompts import load
from data.store import checks
from data.store.samples import LORA_WEIGHT
from studio.images import options
from studio.images.making import noises_of
from studio.images.options import LoraFile, SamplingOptions, check_options, read_options
from studio.images.png_text import read_png
from studio.pages import sampling
from studio.pages.seeds import form
from studio.studio import check_request
from studio.training.datasets import store_samples
from tests import loras
from tests.studio.gridded import grid_of
from tests.tiny import STEPS, change_settings

PROMPT = "a red circle above a blue square"
TYPED = "a (red:1.4) circle above a blue square"
AGAINST = "a green star"
OTHER = "DPMSolverMultistepScheduler"


@pytest.fixture(scope="module")
def files(loaded, tmp_path_factory):
    """Two LoRA files of the tiny backbone."""
    folder, diffuser = tmp_path_factory.mktemp("loras"), loaded.models.diffuser()
    return [
        loras.write(diffuser, folder / f"{name}.safetensors", seed)
        for seed, name in enumerate(("pose", "style"))
    ]


@pytest.fixture
def with_files(studio, files):
    folder = options.lora_folder(studio.settings)
    folder.mkdir(parents=True)
    for file in files:
        (folder / file.name).write_bytes(file.read_bytes())
    return studio


def compared(studio, *given, prompt=PROMPT, **more):
    """The pairs of a comparison, and what is said of it."""
    prompt, chosen = read_options(studio.settings, prompt, *given)
    last = list(studio.comparison.compare(check_request(prompt, "1", STEPS, options=chosen, **more)))[-1]
    return last.pairs[0], last.message


def pixels(sample):
    return np.asarray(Image.open(sample.image_path)).astype(int)


# ---- what people give


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"negative": "a" * 3000}, "characters"),
        ({"negative": 7}, "must be text"),
        ({"scheduler": "magic"}, "no scheduler 'magic'.*DDIMScheduler"),
        ({"loras": "none"}, "no LoRA 'none' in the folder loras.*It has pose.safetensors, style.safetensors"),
        ({"loras": "../../etc/passwd"}, "no LoRA"),
        ({"loras": "/tmp/style.safetensors"}, "no LoRA"),
        ({"loras": "style:11"}, "weight of the LoRA style.safetensors"),
        ({"loras": "style:x"}, "weight of the LoRA style.safetensors"),
        ({"loras": ["style", "style.safetensors:2"]}, "named twice"),
        ({"loras": [7]}, "is no name"),
        ({"loras": 7}, "are no list"),
    ],
)
def test_bad_options_are_refused_with_a_sentence(with_files, given, says):
    with pytest.raises(ValueError, match=says):
        check_options(with_files.settings, **given)


def test_files_are_chosen_by_name_in_one_order_and_known_by_their_content(with_files, files):
    one = check_options(with_files.settings, loras=" style:0.5, pose ,").loras
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert one == (
        LoraFile("pose.safetensors", 1.0, digests[0]),
        LoraFile("style.safetensors", 0.5, digests[1]),
    )
    assert check_options(with_files.settings, loras=["pose", "style.safetensors:0.50"]).loras == one
    assert options.lora_items(one) == ["pose.safetensors", "style.safetensors:0.5"]
    assert SamplingOptions.of_config(json.loads(json.dumps(SamplingOptions(loras=one).config()))).loras == one


@pytest.mark.parametrize(
    ("item", "read"),
    [
        ("style", ("style", "")),
        (" style : 0.8 ", ("style", "0.8")),
        ("a:b.safetensors", ("a:b.safetensors", "")),
        ("a:b.safetensors:0.5", ("a:b.safetensors", "0.5")),
        ("style:", ("style", "")),
    ],
)
def test_a_name_and_a_weight_are_told_apart_in_one_way_and_a_name_may_have_colons(with_files, item, read):
    assert options.split_item(item) == read
    folder = options.lora_folder(with_files.settings)
    (folder / "a:b.safetensors").write_bytes(b"nothing")
    (lora,) = check_options(with_files.settings, loras=[item]).loras
    (again,) = check_options(with_files.settings, loras=options.lora_items([lora])).loras
    assert (lora.weight, again) == (float(read[1] or 1), lora)
    picture = {"loras": [{"name": lora.name, "weight": lora.weight}]}
    found = read_png(picture_of(picture))
    assert sampling.values_of_picture(found, options.lora_names(with_files.settings))[0][
        2
    ] == options.lora_items([lora])


def picture_of(told):
    """A PNG of the studio that says this of how it was made."""
    file, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text("noise-projection-studio", json.dumps({"prompt": PROMPT, **told}))
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def test_limits_are_the_same_in_every_package():
    assert MAX_PROMPT == checks.PROMPT_LENGTH and MOST_WEIGHT == LORA_WEIGHT == options.WEIGHTS[1]


def test_the_studios_own_options_hold_where_nobody_chooses(studio):
    change_settings(studio, negative=AGAINST, scheduler=OTHER)
    for part in (studio.models, studio.making, studio.collecting, studio.grids, studio.cells):
        part.settings = studio.settings
    (id,) = studio.collecting.collect([PROMPT], 1, steps=STEPS)
    row = studio.store.samples.get(id)
    assert (row["negative"], row["sampler"]) == (AGAINST, OTHER)
    assert check_options(studio.settings, "", "") == SamplingOptions()
    assert studio.models.configured().options.negative == AGAINST


@pytest.mark.parametrize(
    ("prompt", "negative", "expected"),
    [
        (PROMPT, "(ugly:1.3)", ("(ugly:1.3)", PROMPT)),
        (TYPED, "ugly", ("ugly", TYPED)),
        (PROMPT, "ugly", ("ugly", "")),
        (PROMPT, "()", ("", "")),
    ],
)
def test_the_negative_prompt_is_in_the_syntax_of_weights_where_a_row_says_so(
    studio, prompt, negative, expected
):
    plain_prompt, chosen = read_options(studio.settings, prompt, negative, weighted=True)
    assert plain_prompt == PROMPT and (chosen.negative, chosen.weighted) == expected
    assert read_options(studio.settings, prompt, negative)[1].columns() == {
        "negative": negative, "weighted": "", "loras": "[]"
    }  # fmt: skip
    with pytest.raises(ValueError, match="not from 0 to 10"):
        read_options(studio.settings, prompt, "(ugly:11)", weighted=True)


# ---- images and their rows


def test_each_option_changes_the_image_and_is_in_its_row_and_what_was_made_is_not_made_again(with_files):
    studio, seen = with_files, []
    cases = [
        ((), {}),
        ((AGAINST,), {"negative": AGAINST}),
        (("", OTHER), {"sampler": OTHER}),
        (("", "", "style:0.5"), {}),
        (("", "", "style"), {}),
        (("", "", "style,pose"), {}),
        (("", "", "", True), {"weighted": TYPED}),
        (("a (green:1.5) star", "", "", True), {"weighted": TYPED, "negative": "a (green:1.5) star"}),
        (("a green star", "", "", True), {"weighted": TYPED, "negative": AGAINST}),
    ]
    for given, columns in cases:
        pair, message = compared(studio, *given, prompt=TYPED if given[3:] else PROMPT)
        for view in (pair.none, pair.projected):
            row = studio.store.samples.get(view.id)
            expected = {"negative": "", "weighted": "", **columns}
            assert {name: row[name] for name in expected} == expected and row["prompt"] == PROMPT
            names = [lora["name"] for lora in json.loads(row["loras"])]
            assert [f"{n}.safetensors" in names for n in ("style", "pose")] == [
                n in str(given[2:3]) for n in ("style", "pose")
            ]
        assert [w.text for w in pair.none.words][:3] == ["a", "red", "circle"]
        assert ("trained without a negative prompt" in message) == bool(given[:1] and given[0])
        again, _ = compared(studio, *given, prompt=TYPED if given[3:] else PROMPT)
        assert (again.none.id, again.projected.id) == (pair.none.id, pair.projected.id)
        seen.append(pair)
    for which in ("none", "projected"):
        images = [pixels(getattr(pair, which)) for pair in seen]
        assert all(not np.array_equal(a, b) for i, a in enumerate(images) for b in images[:i])
    noises = {studio.store.samples.get(pair.none.id)["noise_sha256"] for pair in seen}
    assert len(noises) == 1
    kept = [studio.store.samples.get(pair.projected.id)["noise_sha256"] for pair in seen]
    assert len({kept[i] for i in (0, 1, 2, 6, 7, 8)}) == 1  # the projector reads the plain text


def test_the_projected_noise_of_images_with_lora_files_is_made_again_by_the_same_files(with_files):
    studio = with_files
    pair, _ = compared(studio, AGAINST, OTHER, "style:0.5")
    row = studio.store.samples.get(pair.projected.id)
    noise = noises_of(studio.models, studio.store, [row])[row["id"]]
    assert hashlib.sha256(noise.contiguous().numpy().tobytes()).hexdigest() == row["noise_sha256"]
    folder = options.lora_folder(studio.settings)
    (folder / "style.safetensors").rename(folder / "renamed.safetensors")
    assert row["id"] in noises_of(studio.models, studio.store, [row])
    (folder / "renamed.safetensors").unlink()
    assert noises_of(studio.models, studio.store, [row]) == {}


def test_an_option_that_the_model_lacks_is_refused_and_nothing_is_stored(with_files):
    studio = with_files
    for given, more, says in (
        ((AGAINST,), {"guidance": 1.0}, "At a guidance of 1 a negative prompt has no effect"),
        (("", "FlowMatchEulerDiscreteScheduler"), {}, "does not serve this model"),
    ):
        with pytest.raises(ValueError, match=says):
            compared(studio, *given, **more)
    broken = options.lora_folder(studio.settings) / "broken.safetensors"
    broken.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="broken.safetensors cannot be put on"):
        compared(studio, "", "", "broken")
    assert studio.store.samples.count() == 0
    assert compared(studio)[0].projected is not None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"scheduler": "FlowMatchEulerDiscreteScheduler"}, "STUDIO_SCHEDULER .*does not serve this model"),
        ({"negative": AGAINST, "guidance": "1"}, ""),  # of use at another guidance, as a grid may have
    ],
)
def test_settings_that_the_model_has_no_use_for_are_named_at_the_start(studio, settings, says):
    change_settings(studio, **settings)
    if not says:
        return studio.load()
    with pytest.raises(ValueError, match=says):
        studio.load()


def test_a_negative_prompt_in_the_settings_of_a_distilled_model_is_a_sentence_at_the_start(
    studio, monkeypatch
):
    monkeypatch.setattr(Diffuser, "guided", False)
    change_settings(studio, negative=AGAINST)
    with pytest.raises(
        ValueError, match="STUDIO_NEGATIVE .'a green star'. cannot be used with this backbone"
    ):
        studio.load()


def test_an_image_is_the_one_that_exists_however_many_others_of_its_seed_are_newer(studio):
    pair, _ = compared(studio)
    row = {
        name: value
        for name, value in studio.store.samples.get(pair.none.id).items()
        if name not in ("seq", "id")
    }
    studio.store.samples.add({**row, "steps": steps} for steps in range(100, 220))
    again, _ = compared(studio)
    assert again.none.id == pair.none.id


def test_a_grid_is_made_under_its_options_and_fills_the_form_again(with_files):
    studio = with_files
    _, chosen = read_options(studio.settings, TYPED, AGAINST, OTHER, "style:0.5", True)
    view = grid_of(studio, "1-2", methods="none,projected,pag,best-noise-of-2", options=chosen)
    assert view.state == "done", view.message
    rows = [studio.store.samples.get(cell.sample.id) for cell in view.cells]
    assert {(r["negative"], r["sampler"], r["weighted"], r["loras"]) for r in rows} == {
        (AGAINST, OTHER, TYPED, options.loras_text(chosen.loras))
    }
    fields = form.of_grid(view, studio.grids.methods())
    assert fields[0] == TYPED and fields[8:] == [AGAINST, OTHER, ["style.safetensors:0.5"], True]
    asked = form.request_of(studio.settings, *fields)
    assert (asked.prompt, asked.options) == (PROMPT, chosen)
    count = studio.store.samples.count()
    assert grid_of(studio, "1-2", methods="none,projected", options=chosen).state == "done"
    assert studio.store.samples.count() == count
    plain = grid_of(studio, "1-2", methods="none")
    assert not {cell.sample.id for cell in plain.cells} & {row["id"] for row in rows}
    options.lora_folder(studio.settings).joinpath("style.safetensors").write_bytes(b"another")
    lost = grid_of(studio, "3", methods="none", options=chosen)
    assert lost.state == "failed" and "put the same file there again" in lost.message


def test_the_methods_lora_and_lora_files_are_refused_together(with_files):
    with pytest.raises(ValueError, match="leave one of them out"):
        grid_of(with_files, methods="lora", options=check_options(with_files.settings, loras="style"))


def test_a_picture_says_what_it_was_made_with_and_fills_the_form(with_files):
    studio = with_files
    pair, _ = compared(studio, AGAINST, OTHER, "style:0.5", True, prompt=TYPED)
    content = studio.grid_files.png(pair.projected.id)
    told = read_png(content)
    assert (told["prompt"], told["weighted"], told["negative"], told["scheduler"]) == (
        TYPED,
        True,
        AGAINST,
        OTHER,
    )
    assert told["loras"] == ["style.safetensors:0.5"] and told["note"] == ""
    fields, note = form.of_picture(told, studio.grids.methods(), options.lora_names(studio.settings))
    asked = form.request_of(studio.settings, *fields)
    assert asked.prompt == PROMPT and asked.options.columns() == {
        name: studio.store.samples.get(pair.projected.id)[name] for name in ("negative", "weighted", "loras")
    }
    folder, made = options.lora_folder(studio.settings), studio.store.samples.get(pair.projected.id)
    told_of = told["hashes"] == {lora.name: lora.sha256 for lora in options.loras_of(made)}
    assert told_of and options.replaced(studio.settings, told["hashes"]) == ""
    (folder / "style.safetensors").write_bytes((folder / "pose.safetensors").read_bytes())
    assert "another file under the name style.safetensors" in options.replaced(
        studio.settings, told["hashes"]
    )
    fields, note = form.of_picture(told, studio.grids.methods(), [])
    assert fields[-2] == [] and "Not there are its LoRA files style.safetensors:0.5." in note


# ---- training


def test_training_mixes_no_negative_prompts_and_leaves_lora_files_and_weights_out(with_files):
    studio, prompts = with_files, load("shapes_train", 2)
    collect, settings = studio.collecting.collect, studio.settings
    for given in ({}, {"negative": AGAINST}, {"loras": "style"}):
        chosen = check_options(settings, **given)
        studio.scoring.score(collect(prompts, 2, steps=STEPS, options=chosen))
    compared(studio, "", "", "", True, prompt=TYPED)
    rows = studio.store.labels.current()
    found = store_samples(studio, rows, 1.0)
    assert found.sampling["negative"] == "" and found.left_out == {
        "made with LoRA files": 4,
        "made with weights in the prompt or the negative prompt": 2,
        "made with the negative prompt 'a green star', others with no negative prompt": 4,
    }
