"""A simulated Space: its environment, a repository that cannot be written, HOME elsewhere, started by `python app.py`.

What is not simulated: Hugging Face's own sign-in page. Who has signed in is what Gradio's cookie says, and a test signs
one with the client secret that it gave to the Space.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.store import Store
from studio.pages.quality.gold import NOT_YOURS
from tests.browser.conftest import ROOT, STARTING, run_app, serving, start_app, stop_app
from tests.visitors import OAUTH, SPACE, Visitor

PAIR = ["a red circle above a blue square", "7", 1, 4, 4, "projected", None, None, "", False]
APP = f"exec {shlex.quote(sys.executable)} app.py"


def read_only(folder: Path, command: str) -> list[str]:
    """A command for which a folder is read-only. A mount of its own binds root as well, whom no mode of a file binds."""
    at = shlex.quote(str(folder))
    script = f"mount --bind {at} {at} && mount -o remount,bind,ro {at} && cd {at} && {command}"
    if shutil.which("unshare") and shutil.which("mount"):
        probe = script.replace(command, "! touch there-is-no-such-file 2>/dev/null")
        for flags in (["-m"], ["-U", "-r", "-m"]):
            tried = ["unshare", *flags, "sh", "-c"]
            if subprocess.run([*tried, probe], capture_output=True, check=False).returncode == 0:
                return [*tried, script]
    if os.geteuid() == 0:
        pytest.skip("root may write whatever the mode of a file is, and nothing can be mounted here")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    return ["sh", "-c", f"cd {at} && {command}"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of what is pushed, with nothing that was made beside it."""
    ignored = shutil.ignore_patterns("__pycache__", ".*", "*.pyi", "tests")
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("space") / "app", ignore=ignored)


@pytest.fixture(scope="module")
def space(repository, tmp_path_factory):
    """A public Space on which only accounts may correct, which has compared one pair."""
    account = tmp_path_factory.mktemp("account")

    def begin(env, log):
        del env["STUDIO_HOME"]
        return run_app(env, log, read_only(repository, APP))

    env = {**SPACE, **OAUTH, "HOME": str(account), "PYTHONDONTWRITEBYTECODE": "1", "STUDIO_ANNOTATE": "login",
           "STUDIO_EXAMPLES": "none"}  # fmt: skip
    app = start_app(account / ".noise-projection-studio", env, begin=begin)
    try:
        stranger = Visitor(app)
        event, answer = stranger.call("compare", PAIR)
        assert event == "complete", answer
        yield stranger
    finally:
        stop_app(app)


def test_it_starts_as_it_is_and_what_strangers_make_lies_in_the_account_and_is_bounded(space, repository):
    pair = [("none",), ("projected",)]
    assert space.rows("SELECT method FROM samples ORDER BY seq") == pair
    assert space.rows("SELECT count(*) > 0 FROM scores WHERE source = 'vlm'") == [(1,)]
    for place, value, says in ((3, 51, "50 at most"), (1, "1-9", "8")):
        event, answer = space.call(
            "compare", [value if i == place else given for i, given in enumerate(PAIR)]
        )
        assert event == "error" and says in answer["error"]
    assert space.rows("SELECT method FROM samples ORDER BY seq") == pair
    assert (space.home / "studio.db").is_file() and list((space.home / "images").rglob("*.png"))
    copied = {path.relative_to(repository) for path in repository.rglob("*")}
    assert all((ROOT / path).exists() for path in copied) and not (repository / ".studio").exists()
    assert "lost at its next restart" in space.part("studio-keeping")["props"]["value"]
    assert str(space.home) not in json.dumps(space.config)
    assert space.part("login")
    assert "login" not in str(space.http.get("/login/callback").headers.get("set-cookie"))


def test_only_who_signed_in_may_correct_and_goes_by_the_account_and_only_the_owner_trains(space):
    answer = json.loads(space.correct())["data"]
    (ack,) = [part["ack"] for part in answer if isinstance(part, dict) and part.get("ack")]
    assert "Sign in" in ack["error"] and ack["retry"]  # the page keeps the key until then
    for forger in (space.as_account("ann", secret=""), space.as_account("ann", secret="another")):
        assert "Sign in" in forger.correct()
    assert space.writers() == []
    bea, runs = space.as_account("bea"), space.rows("SELECT count(*) FROM runs")
    bea.correct()
    assert space.writers() == ["bea"]
    for part in ("start", "resume", "start-experiment"):
        for visitor in (space, bea):
            assert "Only the owner of this Space" in visitor.act(space.event(part, "click")).text, part
    assert space.rows("SELECT count(*) FROM runs") == runs


def test_gold_is_seen_by_its_owner_only_wherever_labels_are_shown(space):
    store = Store(space.home / "studio.db")
    (sample,) = space.rows("SELECT id FROM samples ORDER BY seq LIMIT 1")[0]
    for index, word in ((1, "red"), (2, "circle")):
        store.gold.set(sample, index, 0, "ann", word=word)
    store.scores.set(sample, 2, 6, "bea", word="circle")
    looks = [  # the event, its data, its values but who asks, what only the owner is told
        ("gold-here", "click", None, [sample], "gold 0"),
        ("library-images", "pick", {"key": sample}, [], "circle = 0"),
        ("audit-newer", "click", None, [1], sample),
    ]
    ann, others = space.as_account("ann"), [space, space.as_account("bea")]
    for part, kind, data, given, said in looks:
        event = space.event(part, kind)
        assert said in ann.act(event, data, given).text, part
        for other in others:
            answer = other.act(event, data, given).text
            assert '"data"' in answer and said not in answer, part
    quality, make = space.event("quality-again", "click"), space.event("export-make", "click")
    while "as others" not in ann.act(quality).text:  # the figures are worked out behind the page
        time.sleep(0.1)
    assert NOT_YOURS not in ann.act(quality).text
    assert "Only the owner" not in ann.act(make, values=["jsonl"]).text
    for other in others:
        assert NOT_YOURS in other.act(quality).text
        assert "Only the owner of this Space" in other.act(make, values=["jsonl"]).text


def test_a_read_only_demo_without_sign_in_writes_nothing_of_its_visitors(tmp_path):
    env = {**SPACE, "STUDIO_ANNOTATE": "nobody", "STUDIO_MAX_CELLS": "1", "STUDIO_EXAMPLES": "none"}
    with serving(tmp_path / "home", tmp_path / "models", **env) as running:
        demo = Visitor(running)
        event, answer = demo.call("compare", PAIR)
        assert event == "error" and "1 at most" in answer["error"]
        answers = [demo.act(event).text for event in demo.events if event["backend_fn"]]
        assert "Traceback" not in str(answers)
        for table in ("samples", "scores", "submissions", "remarks", "people", "leases", "audit"):
            assert demo.rows(f"SELECT count(*) FROM {table}") == [(0,)], table
        assert demo.rows("SELECT count(*) FROM runs WHERE id NOT LIKE 'shipped%'") == [(0,)]


def test_where_nothing_can_be_written_it_says_so_in_a_sentence(repository, tmp_path):
    env = {
        **SPACE,
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "STUDIO_HOME": str(repository / "kept"),
    }
    command = read_only(repository, APP)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=STARTING, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "STUDIO_HOME" in done.stderr and "nothing can be written" in done.stderr
