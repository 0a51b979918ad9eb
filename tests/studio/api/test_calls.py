"""The named endpoints called as functions, without a server: grids, votes, quality, gold, runs, and what a push keeps."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import huggingface_hub
import pytest
from PIL import Image

from studio.access.limits import MAX_UPLOAD
from studio.api import endpoints
from studio.api.answers import given
from studio.grids.axes import Variant
from studio.images.options import SamplingOptions
from studio.images.png_text import read_png
from tests.studio.exchange.test_transfer import TOKEN, FakeHub

PROMPT = "a red circle"


@pytest.fixture
def call(studio, monkeypatch, tmp_path):
    """A function that calls an endpoint as a client would be answered; its files go to a folder of the test."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    found = endpoints(studio, None)
    return lambda name, *values, **named: found[name](*values, **named)


@pytest.fixture
def sign_in(call):
    """A function that gives the key of a name, the same one each time."""
    return functools.cache(lambda name: call("sign_in", name)["who"])


def sent(body: bytes, name: str = "given.bin") -> dict:
    """A file as it is once a client has uploaded it."""
    folder = Path(gr.utils.get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(body)
    return {"path": str(folder / name), "meta": {"_type": "gradio.FileData"}}


@pytest.fixture
def grid(studio, sample_row):
    """A grid of 3 seeds x 2 variants, whose images say how they were made."""
    ids = []
    for seed, method in itertools.product((1, 2, 3), ("none", "projected")):
        path = studio.settings.home / "images" / f"{seed}-{method}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (40 * seed, 100 * (method == "none"), 0)).save(path, "PNG")
        row = sample_row(
            prompt=PROMPT, n_words=3, seed=seed, method=method, strength=float(method != "none"),
            image_path=f"images/{path.name}", image_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )  # fmt: skip
        ids += studio.store.samples.add([row])
    variants = [vars(Variant("none")), vars(Variant("projected", "projected", "", 1.0))]
    config = {
        "prompt": PROMPT, "seeds": [1, 2, 3], "variants": variants, "width": None, "height": None,
        "backbone": studio.settings.backbone,
    }  # fmt: skip
    id = studio.store.grids.add(config, "ann")
    studio.store.grids.set_cells(id, dict(enumerate(ids)))
    studio.store.grids.update(id, "done")
    for place, sample in enumerate(ids):
        studio.store.scores.set(sample, 1, 3 + place, "cyd", word="red")
    return id


def test_a_grid_is_started_and_gone_on_with_as_on_the_page_within_a_visitors_bounds(
    studio, call, grid, sign_in, monkeypatch
):
    studio.settings = dataclasses.replace(studio.settings, annotate="nobody")
    monkeypatch.setattr(studio.grids, "start", lambda request, who: f"{who} {request.total}")
    assert call("start_grid", PROMPT, sign_in("ann"), "1-2") == "ann 4"
    with pytest.raises(gr.Error, match="sign_in"):
        call("start_grid", PROMPT, "ann")
    monkeypatch.setattr(studio.grids, "start", lambda request, who: f"{request.prompt} {request.options}")
    started = call("start_grid", "a (red:1.3) circle", sign_in("ann"), negative="a star", weighted=True)
    assert started == f"{PROMPT} {SamplingOptions(negative='a star', weighted='a (red:1.3) circle')}"
    gone_on = []
    monkeypatch.setattr(studio.grids, "resume", lambda *given: gone_on.append(given))
    assert call("resume_grid", grid, sign_in("ann")) == grid and gone_on == [(grid, "ann")]
    studio.settings = dataclasses.replace(studio.settings, max_cells="4")
    with pytest.raises(gr.Error, match="4 at most"):
        call("resume_grid", grid, sign_in("ann"))


def test_grids_are_listed_compared_and_packed(call, grid):
    (listed,) = call("grids")
    assert (listed["id"], listed["prompt"], listed["done"], listed["total"]) == (grid, PROMPT, 6, 6)
    forth, back = call("grid", grid)["change"], call("grid", grid, 1, 0)["change"]
    assert (forth["gain"]["estimate"], forth["wins"]) == (-back["gain"]["estimate"], back["losses"]) == (1, 3)
    with zipfile.ZipFile(call("grid_zip", grid)["path"]) as packed:
        assert len(packed.namelist()) == 7
        assert json.loads(packed.read("manifest.json"))["prompt"] == PROMPT
    assert {"method": "none", "name": "none"} in call("grid_methods")


def test_blind_votes_are_asked_without_a_word_of_what_is_what_and_counted(studio, call, grid, sign_in):
    who, voted = sign_in("ann"), []
    asked = call("next_vote", grid, who)
    while asked["vote"]:
        told = json.dumps({name: asked[name] for name in ("vote", "prompt", "left_over")})
        assert not any(id in told for id in ("projected", *studio.store.grids.cells(grid).values()))
        sides = {side: Path(asked[side]["path"]) for side in ("left", "right")}
        for path in sides.values():
            with Image.open(path) as image:
                assert not image.info and "projected" not in str(path)
        with Image.open(sides["left"]) as image:
            choice = "right" if image.getpixel((0, 0))[1] else "left"  # never the one without projector
        voted.append(asked["vote"])
        again = call("cast_vote", grid, asked["vote"], choice, who)
        assert call("cast_vote", grid, asked["vote"], choice, who) == again  # sent twice, counted once
        asked = again
    assert len(set(voted)) == 3 and asked["left"] is None
    found = call("votes", grid)
    assert [found[name] for name in ("base", "other", "voters", "names")] == [0, 3, 1, ["none", "projected"]]
    with pytest.raises(gr.Error, match="not asked"):
        call("cast_vote", grid, voted[0], "left", sign_in("bob"))  # ann's question is not bob's
    with pytest.raises(gr.Error, match="choose one of left"):
        call("cast_vote", grid, voted[0], "both", who)


def test_an_image_goes_out_with_its_text_and_is_read_again_and_all_that_was_said_of_it_is_told(
    studio, call, grid, sign_in
):
    sample = studio.store.grids.cells(grid)[1]
    body = Path(call("image", sample, True)["path"]).read_bytes()
    found = call("read_image", sent(body, "one.png"))
    assert found == read_png(body) and (found["prompt"], found["seed"]) == (PROMPT, 1)
    assert (found["method"], found["source"]) == ("projected", "studio")
    assert b"parameters" not in Path(call("image", sample)["path"]).read_bytes()
    call("set_score", sample, 1, 7, sign_in("ann"))
    call("flag", sample, "blurred", sign_in("bob"))
    found = call("sample_history", sample)
    events = {(e["who"], e["what"], e["after"]) for e in found["events"]}
    assert {("ann", "set", 7), ("cyd", "set", 4)} <= events
    assert [(r["kind"], r["who"], r["text"]) for r in found["remarks"]] == [("flag", "bob", "blurred")]
    assert call("choices")["scored_by"] == ["ann", "cyd"]


def test_agreement_and_each_persons_figures_know_of_the_last_score(call, grid, studio, sign_in):
    for place, sample in studio.store.grids.cells(grid).items():
        call("set_score", sample, 1, 9 - place, sign_in("ann"))
    found = call("agreement", 1)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["kinds"][0]["words"], found["pairs"][0]["people"]) == (6, ["ann", "cyd"])
    assert not found["newer"] and [one["word"] for one in found["apart"]] == ["red"]
    assert call("annotator", "ann")["words"] == 6
    with pytest.raises(gr.Error, match="has annotated here"):
        call("annotator", "zoe")


def test_gold_is_set_listed_and_taken_back(studio, call, grid):
    sample = studio.store.grids.cells(grid)[2]
    assert call("set_gold", sample, 1, 6) == {"sample": sample, "word": 1, "gold": 6}
    assert [(one["sample"], one["score"]) for one in call("gold")] == [(sample, 6)]
    assert call("set_gold", sample, 1, None)["gold"] is None and call("gold", sample) == []
    for word, score in ((1, 10), (0, 5), (9, 5), (1, "<b>")):
        with pytest.raises(gr.Error):
            call("set_gold", sample, word, score)
    assert call("gold") == []


def test_a_name_whose_key_is_lost_is_freed(call, grid, studio, sign_in):
    who = sign_in("ann")
    call("set_score", studio.store.grids.cells(grid)[0], 1, 5, who)
    admin = sign_in("bob")
    assert [one["name"] for one in call("people", who=admin)] == ["bob", "ann"]
    assert call("release_name", "ann", who=admin) == {"released": "ann"}
    assert [call("audit")[0][name] for name in ("who", "action", "subject")] == ["bob", "release", "ann"]
    assert call("sign_in", "ann")["who"] != who


def test_a_run_tells_its_family_is_compared_goes_out_and_is_deleted_only_by_one_who_is_sure(
    studio, call, run
):
    found = call("run", run)
    assert (found["state"], found["parents"], found["children"]) == ("done", [], [])
    assert found["samples"] == ["projected:shipped", f"projected:{run}"] and found["bytes"] > 0
    other = studio.store.runs.new("projector", {"seed": 4})
    compared = call("compare_runs", run, other)
    assert compared["runs"] == [run, other] and not compared["comparable"]
    assert {"name": "seed", "values": [3, 4], "differ": True} in compared["settings"]
    assert call("model_card", run).startswith("---\n") and call("curves", run) == []
    with pytest.raises(gr.Error, match="has no report"):
        call("report", run)
    experiment = studio.store.runs.new("experiment", {"name": "tau"})
    studio.store.runs.update(experiment, state="done")
    studio.runs.folder(experiment).mkdir(parents=True)
    for name in ("report.json", "report.html"):
        (studio.runs.folder(experiment) / name).write_text('{"a": 1}')
    assert json.loads(Path(call("report", experiment, "json")["path"]).read_text()) == {"a": 1}
    assert call("report", experiment)["orig_name"] == "report.html"
    with zipfile.ZipFile(call("download_run", run)["path"]) as packed:
        names = packed.namelist()
    assert "README.md" in names and any(name.endswith(".safetensors") for name in names)
    with pytest.raises(gr.Error, match="sure"):
        call("delete_run", run)
    assert studio.runs.folder(run).is_dir()
    assert call("delete_run", run, True)["bytes"] > 0 and not studio.runs.folder(run).exists()
    with pytest.raises(gr.Error, match="was deleted"):
        call("download_run", run)


@pytest.fixture
def run(studio):
    """A projector run that is done, with its checkpoint."""
    id = studio.store.runs.new("projector", {"seed": 3, "used": {"projector": None}})
    folder = studio.runs.folder(id)
    shutil.copytree(studio.settings.projector, folder / "checkpoint")
    studio.store.runs.update(id, state="done", checkpoint=f"runs/{id}/checkpoint", checkpoint_sha256="0" * 64)
    return id


def test_what_can_be_trained_and_measured_is_told_with_its_settings(call, studio, monkeypatch):
    trainings = call("kinds")["trainings"]
    assert sorted(trainings) == ["calibrator", "cycle", "lora", "projector", "reward", "round", "warmup"]
    assert trainings["projector"]["tau"]["bounds"] == [0, 1000]
    begun = []
    monkeypatch.setattr(type(studio.runs), "start", lambda runs, *given: begun.append(given) or "r1")
    assert call("start_experiment", "tau", {"size": "full", "name": "shift"}) == {"run": "r1"}
    assert begun == [("experiment", {"size": "full", "name": "tau"})]
    for name, config in (("tau", "full"), ("other", None)):
        with pytest.raises(gr.Error):
            call("start_experiment", name, config)


def test_only_a_file_that_was_sent_and_is_not_too_large_is_read(studio, call):
    good, meta = sent(b"x"), {"_type": "gradio.FileData"}
    link = sent(b"x", "link")
    Path(link["path"]).unlink()
    Path(link["path"]).symlink_to(studio.settings.home / "studio.db")
    for wrong in (
        None, "/etc/passwd", {"path": "/etc/passwd"}, {"path": "/etc/passwd", "meta": meta}, link,
        {"path": str(studio.settings.home / "studio.db"), "meta": meta}, {**good, "path": None}, {**good, "meta": {}},
        {**good, "path": f"{good['path']}/../../../../../../../../etc/passwd"},
        {**good, "path": str(Path(good["path"]).parent)},
    ):  # fmt: skip
        for name in ("import", "restore_file", "read_image"):
            with pytest.raises(gr.Error, match="There is no file"):
                call(name, wrong)
    with pytest.raises(ValueError, match="larger than 5 MB"):
        given(sent(b"x" * (MAX_UPLOAD + 1), "large"))
    assert given(good).read_bytes() == b"x"


def test_a_push_keeps_the_token_nowhere_not_even_in_the_session(studio, call, grid, monkeypatch, caplog):
    hub = FakeHub()
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    kept = {1: {"props": {"value": TOKEN}}, 2: {"props": {"value": "ann/words"}}, 3: {}, 4: None}
    request = gr.Request(session_hash="abc")
    holder = {"abc": SimpleNamespace(config_values=kept)}
    request.request = SimpleNamespace(app=SimpleNamespace(state_holder=holder))
    found = call("push", "ann/words", TOKEN, licence="mit", request=request)
    assert found["url"].endswith("ann/words") and hub.token == TOKEN
    assert TOKEN not in json.dumps(kept) and kept[2]["props"]["value"] == "ann/words"
    assert TOKEN not in json.dumps(call("audit")) + caplog.text
    assert TOKEN.encode() not in b"".join(
        p.read_bytes() for p in studio.settings.home.rglob("*") if p.is_file()
    )
    for repository, token, says in (("words", TOKEN, "owner/name"), ("ann/words", "", "no token")):
        with pytest.raises(gr.Error, match=says) as refused:
            call("push", repository, token)
        assert TOKEN not in str(refused.value)
