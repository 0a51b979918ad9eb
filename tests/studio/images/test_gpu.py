"""ZeroGPU by the real package `spaces`: its decorator, forked worker, queues, API client and errors.

Two doubles, as there is neither here: a server answers for ZeroGPU's API, and in place of `spaces.zero.torch`, which moves
weights to the GPU and cannot be imported beside a torch without CUDA, stands what does nothing.
"""

import contextvars
import json
import math
import multiprocessing
import os
import re
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from diffusers import EulerDiscreteScheduler, HeunDiscreteScheduler
from gradio.context import LocalContext
from PIL import Image

from core.guiders import GUIDERS
from core.progress import Stopped
from studio.images import gpu
from studio.images.making import Making
from studio.images.scoring import Scoring
from studio.studio import check_request

spaces = pytest.importorskip("spaces")
LENT = (200, {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "token"})


class Api(BaseHTTPRequestHandler):
    """ZeroGPU's API: notes what it is asked and answers a request for a GPU as the server's `answer` says."""

    def do_POST(self):
        where = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(where.query).items()}
        self.server.asked.append((where.path, asked))
        status, answer = self.server.answer if where.path == "/schedule" else (200, {})
        content = json.dumps(answer).encode()
        self.send_response(status)
        headers = {"content-type": "application/json", "content-length": str(len(content))}
        for name, value in (headers | self.server.headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    api = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    yield api
    api.shutdown()
    for child in multiprocessing.active_children():
        child.kill()


@pytest.fixture
def api(server, monkeypatch, tmp_path):
    """The server on which this process believes to be a ZeroGPU Space."""
    idle = dict.fromkeys(("unpatch", "init", "move", "enter_mode"), lambda *_, **__: None)
    monkeypatch.setitem(sys.modules, "spaces.zero.torch", types.SimpleNamespace(**idle, size=lambda: 0))
    server.asked, server.answer, server.headers = [], LENT, {}
    group = tmp_path / "cgroup"
    group.write_text("0::/space\n")
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    for name, value in {
        "zero_gpu": True,
        "zero_device_api_url": f"http://127.0.0.1:{server.server_port}",
        "zerogpu_proc_self_cgroup_path": str(group),
    }.items():
        monkeypatch.setattr(spaces.config.Config, name, value)
    return server


def durations(api):
    """The seconds that a GPU was asked for, of each request."""
    return [int(asked["durationSeconds"]) for path, asked in api.asked if path == "/schedule"]


class Counter:
    """Counts in the process that has the GPU."""

    models = types.SimpleNamespace(after_fork=lambda: None)

    def seconds(self, count):
        return 10 + count / 2

    def count(self, count, *, say, stop):
        for number in range(count):
            if stop():
                raise Stopped
            say(number)
        if count == 3:
            raise ValueError("Three is too many: count to two.")
        return count, os.getpid()


@pytest.fixture
def count(api):
    counted = gpu.on_gpu(Counter.seconds)(Counter.count)
    return lambda *given, **more: counted(Counter(), *given, **more)


# ---- the decorator


def test_a_method_runs_in_another_process_and_what_it_says_arrives_as_it_is_said(api, count):
    said = []
    value, process = count(5, say=said.append)
    assert (value, said) == (5, [0, 1, 2, 3, 4]) and process != os.getpid()
    assert durations(api) == [13]
    assert [path for path, _ in api.asked] == ["/schedule", "/allow", "/release"]


def test_a_stop_reaches_the_method_and_the_gpu_is_given_back(api, count):
    said = []
    with pytest.raises(Stopped):
        count(10_000_000, say=said.append, stop=lambda: len(said) == 4)
    assert len(said) == 4 and api.asked[-1][0] == "/release"
    with pytest.raises(Stopped):
        count(5, stop=lambda: True)
    assert len(durations(api)) == 1


def test_an_error_of_the_method_is_its_sentence_here(count):
    with pytest.raises(ValueError, match="Three is too many"):
        count(3)


def test_a_process_that_dies_is_a_sentence_that_says_what_to_do(api):
    def die(self, *, say, stop):
        os._exit(1)

    with pytest.raises(ValueError, match="taken back before this was done: ask for fewer images"):
        gpu.on_gpu(lambda self: 5)(die)(Counter())


SHORT = {"left": 4, "wait": 5400}
SOME = {"left": 20, "wait": 5400}


@pytest.mark.parametrize(
    ("answer", "account", "says"),
    [
        ((429, {"left": 60, "wait": -1}), "regular", r"for 11 s, longer than it is lent at once: ask for fewer .* size\.$"),
        ((429, SHORT), "", r"\(11 s were asked for, 4 s are left\): wait for 1:30:00, or sign in to Hugging Face"),
        ((429, SOME), "", "are left.: ask for fewer images, .*, or wait for 1:30:00, or sign in to Hugging Face"),
        ((429, SHORT), "regular", "are left.: wait for 1:30:00, or take Hugging Face PRO, which gives more of it"),
        ((429, SHORT), "pro", r"are left.: wait for 1:30:00\.$"),
        ((429, {"left": 4, "wait": 0}), "", "not use the GPU more often today: try again tomorrow, or sign in"),
        ((429, SHORT), None, "from no visitor's page is used up: do this on the Space's page"),
        ((503, {}), "", "No GPU was free within a minute: try again later"),
        ((503, {}), None, "No GPU was free within a minute: try again later"),
        ((401, {}), "regular", "open for too long .* reload it"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Error while decoding")
def test_a_refusal_of_the_gpu_is_a_sentence_that_says_what_to_do(api, count, answer, account, says):
    """account: the visitor's, "" for none; None: the call has no visitor."""
    api.answer, api.headers = answer, {"x-authenticated": account} if account else {}
    headers = type("Headers", (dict,), {})({} if account is None else {"x-ip-token": "of.a.visitor"})

    def ask():
        LocalContext.request.set(types.SimpleNamespace(headers=headers))
        count(2)

    with pytest.raises(ValueError, match=says):
        contextvars.copy_context().run(ask)


def test_an_error_that_is_not_of_zerogpu_is_left_as_it_is():
    assert gpu.refusal(ValueError("ZeroGPU")) == "" == gpu.refusal(RuntimeError())


def diffuser(parameters, scheduler=None, embedded=False):
    """What the duration depends on of a diffuser."""
    weights = [types.SimpleNamespace(numel=lambda: parameters)]
    network = types.SimpleNamespace(parameters=lambda: weights)
    scheduler = scheduler or EulerDiscreteScheduler()
    return types.SimpleNamespace(denoiser=network, scheduler=scheduler, embedded=embedded)


XL = diffuser(2_600_000_000)
LARGE = (1024, 1024)


def test_the_duration_grows_with_steps_images_pixels_and_the_denoiser():
    flux, pair = diffuser(12_000_000_000), gpu.made_in(XL, 2, 30, LARGE)
    assert 20 < pair < 60
    assert gpu.made_in(XL, 2, 4, LARGE) < gpu.made_in(XL, 1, 30, LARGE) < pair
    assert gpu.made_in(XL, 2, 30, (512, 512)) < pair < gpu.made_in(flux, 2, 30, LARGE)


def test_the_duration_counts_every_prediction_and_the_reading_of_files():
    work = gpu.made_in(XL, 2, 30, LARGE) - gpu.START
    assert gpu.made_in(XL, 2, 30, LARGE, "KDPM2AncestralDiscreteScheduler") - gpu.START == pytest.approx(
        2 * work
    )
    own = diffuser(2_600_000_000, HeunDiscreteScheduler())
    assert gpu.made_in(own, 2, 30, LARGE) - gpu.START == pytest.approx(2 * work)
    assert gpu.made_in(own, 2, 30, LARGE, "DDIMScheduler") - gpu.START == pytest.approx(work)
    third = gpu.made_in(XL, 2, 30, LARGE, third=True) - gpu.START
    assert third - 30 * gpu.CALL == pytest.approx(1.5 * (work - 30 * gpu.CALL))
    one = gpu.made_in(diffuser(2_600_000_000, embedded=True), 2, 30, LARGE) - gpu.START
    assert one - 30 * gpu.CALL == pytest.approx(0.5 * (work - 30 * gpu.CALL))
    assert gpu.made_in(XL, 2, 30, LARGE, loras=2) - gpu.START == pytest.approx(work + 2 * gpu.READ)


def test_the_kinds_of_guidance_with_a_third_pass():
    assert {name for name, kind in GUIDERS.items() if kind.third} == {"pag", "slg", "seg"}


@pytest.mark.parametrize("network", [XL, diffuser(12_000_000_000), diffuser(200_000_000_000)])
def test_the_images_that_fit_are_as_many_as_are_made_while_a_gpu_is_lent_to_everybody(network):
    fit = gpu.made_in(network, 32, 30, LARGE).images
    assert gpu.made_in(network, fit, 30, LARGE) <= gpu.LENT < gpu.made_in(network, fit + 1, 30, LARGE)


@pytest.mark.parametrize(
    ("size", "says"), [(LARGE, r"10 such images fit into 80 s\."), ((9000, 9000), "Not even one")]
)
def test_a_request_for_too_long_says_how_many_images_fit(size, says):
    error = types.SimpleNamespace(
        title="ZeroGPU illegal duration", message="The requested GPU duration (240s) is"
    )
    asked = gpu.made_in(XL, 32, 30, size)
    sentence = gpu.refusal(error, lambda: asked)
    needed = (
        f"This needs the GPU for {math.ceil(asked)} s, longer than it is lent at once: ask for fewer images"
    )
    assert sentence.startswith(needed)
    assert gpu.refusal(error).startswith("This needs the GPU for 240 s")
    assert re.search(says, sentence)


# ---- the studio


@pytest.fixture
def lent(api, monkeypatch):
    """The studio's methods, decorated as on a ZeroGPU Space, where that is done when they are imported."""
    for owner, name in ((Making, "_make_apart"), (Scoring, "_read_apart")):
        method = getattr(owner, name).__wrapped__
        monkeypatch.setattr(owner, name, gpu.on_gpu(owner._seconds)(method))
    return api


def pixels(view):
    return np.asarray(Image.open(view.image_path))


def test_a_comparison_shows_its_steps_and_its_images_are_those_that_are_made_elsewhere(
    studio, lent, monkeypatch
):
    request = check_request("a red circle", "1, 2", 3, 4.0)
    updates = list(studio.comparison.compare(request))
    assert [u.stage for u in updates] == ["encode", *["denoise"] * 4, "decode", "score", "done"]
    steps = [u for u in updates if u.stage == "denoise"]
    assert [u.step for u in steps] == [0, 1, 2, 3] and all(len(u.previews) == 2 for u in steps[1:])
    assert all(small.shape == (8, 8, 3) for u in steps[1:] for pair in u.previews for small in pair)
    making, reading = durations(lent)
    assert 15 < making < 20 and reading == 19  # of four images
    monkeypatch.delenv("SPACES_ZERO_GPU")
    here = studio.making._make_here
    made = []
    monkeypatch.setattr(studio.making, "_make_here", lambda *given: made.append(1) or here(*given))
    pairs = list(studio.comparison.compare(request))[-1].pairs
    assert made
    for one, other in zip(updates[-1].pairs, pairs, strict=True):
        assert np.array_equal(pixels(one.none), pixels(other.none))
        assert np.array_equal(pixels(one.projected), pixels(other.projected))


def test_a_comparison_can_be_stopped_and_the_next_one_is_made(studio, lent):
    stop, seen = threading.Event(), []
    for update in studio.comparison.compare(check_request("a red circle", "1", 100, 4.0), stop):
        seen.append(update)
        if update.step:
            stop.set()
    assert seen[-1].stage == "stopped" and seen[-2].step < 100
    assert lent.asked[-1][0] == "/release"
    after = list(studio.comparison.compare(check_request("a red circle", "1", 1, 4.0)))
    assert after[-1].stage == "done"


def test_a_comparison_that_the_gpu_is_not_lent_for_is_a_sentence(studio, lent):
    lent.answer = (429, {"left": 60, "wait": -1})
    with pytest.raises(ValueError, match="fewer steps or a smaller size"):
        list(studio.comparison.compare(check_request("a red circle", "1", 1, 4.0)))
    assert not studio.store.samples.count()
