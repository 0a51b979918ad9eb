"""A simulated Space: its environment, a repository that cannot be written, HOME elsewhere, started by `python app.py`.

What is not simulated: Hugging Face's own sign-in page. Who has signed in is what Gradio's cookie says, and a test signs
one with the client secret that it gave to the Space, as Gradio does once Hugging Face has said who it is.
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from base64 import b64encode
from pathlib import Path

import httpx
import pytest

from data.store import Store
from studio.pages.quality.gold import NOT_YOURS
from tests.browser.conftest import STARTING, App, free_port, stop_app
from tests.security.conftest import Client

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a secret that only this Space has"
SPACE = {
    "SYSTEM": "spaces", "SPACE_ID": "ann/studio", "SPACE_HOST": "ann-studio.hf.space", "SPACE_AUTHOR_NAME": "ann",
    "SPACE_REPO_NAME": "studio", "SPACE_TITLE": "Noise Projection Studio", "GRADIO_ALLOW_FLAGGING": "never",
}  # fmt: skip
OAUTH = {
    "OAUTH_CLIENT_ID": "client", "OAUTH_CLIENT_SECRET": SECRET, "OAUTH_SCOPES": "openid profile",
    "OPENID_PROVIDER_URL": "https://huggingface.co",
}  # fmt: skip
PAIR = ["a red circle above a blue square", "7", 1, 4, 4, "projected"]


def read_only(folder: Path, command: str) -> list[str]:
    """A command for which a folder is read-only. A mount of its own binds root as well, whom no mode of a file binds."""
    at = shlex.quote(str(folder))
    script = f"mount --bind {at} {at} && mount -o remount,bind,ro {at} && cd {at} && {command}"
    if shutil.which("unshare") and shutil.which("mount"):
        for flags in (["-m"], ["-U", "-r", "-m"]):
            tried = ["unshare", *flags, "sh", "-c"]
            probe = script.replace(command, "! touch there-is-no-such-file 2>/dev/null")
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
    copy = tmp_path_factory.mktemp("space") / "app"
    kept = shutil.ignore_patterns("__pycache__", ".*", "*.pyi", "tests")
    shutil.copytree(ROOT, copy, ignore=kept)
    return copy


@pytest.fixture(scope="module")
def start(repository, tmp_path_factory):
    """A function that starts the Space with these variables more: a client of it. It ends with the module."""
    began = []

    def run(**more):
        account, port = tmp_path_factory.mktemp("account"), free_port()
        env = {name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS") if name in os.environ}
        env |= {**SPACE, "HOME": str(account), "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1",
                "STUDIO_EXAMPLES": "none",  # so that what visitors make can be counted
                "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), **more}  # fmt: skip
        log = account.parent / f"{account.name}.log"
        command = f"exec {shlex.quote(sys.executable)} app.py"
        with log.open("wb") as output:
            process = subprocess.Popen(read_only(repository, command), env=env, stdout=output, stderr=output)
        url, since = f"http://127.0.0.1:{port}/", time.monotonic()
        while process.poll() is None and time.monotonic() - since < STARTING:
            try:
                httpx.get(url, timeout=10, trust_env=False)
                break
            except httpx.HTTPError:
                time.sleep(0.2)
        else:
            process.kill()
            raise RuntimeError(f"The Space did not answer:\n{log.read_text(errors='replace')[-3000:]}")
        home = account / ".noise-projection-studio"
        began.append(App(url, home, log, process, time.monotonic() - since))
        return Visitor(began[-1])

    yield run
    for app in began:
        stop_app(app)


class Visitor(Client):
    """Who comes by: a stranger, or somebody who signed in."""

    def __init__(self, running):
        super().__init__(running)
        self.config = self.http.get("/config").json()
        (self.recall,) = [e for e in self.events() if '["who", "sample", "pairs"]' in str(e["js"])]

    def as_account(self, name, secret=SECRET):
        """The same Space with a cookie that says that this account signed in."""
        import itsdangerous

        info = {"name": name, "preferred_username": name, "profile": "", "picture": ""}
        session = {"oauth_info": {"userinfo": info, "expires_at": time.time() + 3600}}
        signer = itsdangerous.TimestampSigner(hashlib.sha256(f"{secret}-v4".encode()).hexdigest())
        other = Visitor(self.running)
        cookie = signer.sign(b64encode(json.dumps(session).encode())).decode()
        other.http.headers["Cookie"] = f"session={cookie}"
        return other

    def event(self, elem_id, kind):
        """The event of a part of the page."""
        part = next(c["id"] for c in self.config["components"] if c["props"].get("elem_id") == elem_id)
        return next(
            e for e in self.config["dependencies"] if [part, kind] in e["targets"] and e["backend_fn"]
        )

    def act(self, event, event_data=None, values=()):
        """What the server answers to an event of the page of one who keeps what the server gave; values: of its inputs
        but that one, in order, None where there are no more."""
        kept, others = self.private(self.recall, [None, None, None]).json()["data"][0], iter(values)
        given = [kept if one == self.recall["inputs"][0] else next(others, None) for one in event["inputs"]]
        return self.private(event, given, event_data).text

    def correct(self, kind="set"):
        (sample,) = self.rows("SELECT id FROM samples ORDER BY seq LIMIT 1")[0]
        operation = {"revision": 1, "kind": kind, "word": 1, "score": 5}
        packet = {"client": os.urandom(8).hex(), "sample": sample, "operations": [operation]}
        return self.act(self.event("annotate-words", "edit"), packet)

    def writers(self):
        return [who for (who,) in self.rows("SELECT who FROM scores WHERE source = 'human'")]

    def says(self, elem_id):
        return next(
            c["props"].get("value") or ""
            for c in self.config["components"]
            if c["props"].get("elem_id") == elem_id
        )

    def kinds(self):
        return {c["type"] for c in self.config["components"]} | {
            c["props"].get("elem_id") for c in self.config["components"]
        }


@pytest.fixture(scope="module")
def space(start):
    """A public Space on which only accounts may correct, which has compared one pair."""
    stranger = start(**OAUTH, STUDIO_ANNOTATE="login")
    event, found = stranger.call("compare", PAIR)
    assert event == "complete", found
    return stranger


def test_it_starts_as_it_is_and_a_stranger_makes_a_pair(space, repository):
    assert space.http.get("/").status_code == 200
    assert space.rows("SELECT method FROM samples ORDER BY seq") == [("none",), ("projected",)]
    assert space.rows("SELECT count(*) > 0 FROM scores WHERE source = 'vlm'") == [(1,)]
    assert space.running.process.poll() is None


def test_the_repository_is_as_it_was_and_what_is_made_lies_in_the_account(space, repository):
    theirs = {p.relative_to(repository) for p in repository.rglob("*")}
    assert all((ROOT / path).exists() for path in theirs) and not (repository / ".studio").exists()
    assert (space.home / "studio.db").is_file() and list((space.home / "images").rglob("*.png"))


def test_the_page_says_that_nothing_lasts_here_and_what_to_do(space):
    assert "lost at its next restart" in space.says("studio-keeping")
    assert str(space.home) not in json.dumps(space.config)


def test_only_who_signed_in_may_correct_and_goes_by_the_account(space):
    answer = json.loads(space.correct())["data"]
    (ack,) = [part["ack"] for part in answer if isinstance(part, dict) and part.get("ack")]
    assert "Sign in" in ack["error"] and ack["retry"]  # the page keeps the key until then
    assert space.writers() == []
    for forger in (space.as_account("ann", secret=""), space.as_account("ann", secret="another")):
        assert "Sign in" in forger.correct() and space.writers() == []
    space.as_account("bea").correct()
    assert space.writers() == ["bea"]


def test_the_button_to_sign_in_is_there_and_leads_to_where_it_was_told(space):
    assert "login" in space.kinds()
    assert "login" not in str(space.http.get("/login/callback").headers.get("set-cookie"))


def test_only_its_owner_may_train_promote_and_stop(space):
    runs = space.rows("SELECT count(*) FROM runs")
    for part in ("start", "promote", "rollback", "stop-run", "resume", "start-experiment"):
        event = space.event(part, "click")
        for visitor in (space, space.as_account("bea")):
            assert "Only the owner of this Space" in visitor.act(event), part
        if part in ("promote", "stop-run", "rollback"):
            assert "Only the owner" not in space.as_account("ann").act(event), part
    assert space.rows("SELECT count(*) FROM runs") == runs


def test_a_grid_is_stopped_and_gone_on_with_by_who_started_it_and_by_the_owner_only(space):
    bea, ann, cyd = (space.as_account(name) for name in ("bea", "ann", "cyd"))
    config = {"prompt": "a red circle", "seeds": [1], "variants": [], "width": None, "height": None}
    store = Store(space.home / "studio.db")
    store.grids.update(store.grids.add({**config, "backbone": "another"}, "bea", "kept"), "stopped")
    for kind in ("halt", "go_on"):
        event, refusal = space.event("seed-grid", kind), "only who started it"
        for other in (space, cyd):
            assert refusal in other.act(event, {"grid": "kept"}), kind
        for may in (bea, ann):
            answer = may.act(event, {"grid": "kept"})
            assert refusal not in answer and ("nothing to stop" in answer or "another backbone" in answer), (
                answer
            )
    refused = space.call("stop_grid", ["kept", "x"])
    assert refused[0] == "error" and "sign_in" in refused[1]["error"]


def test_gold_is_seen_by_its_owner_only_wherever_labels_are_shown(space):
    store = Store(space.home / "studio.db")
    (sample,) = space.rows("SELECT id FROM samples ORDER BY seq LIMIT 1")[0]
    for index, word in ((1, "red"), (2, "circle")):
        store.gold.set(sample, index, 0, "ann", word=word)
    store.scores.set(sample, 2, 6, "bea", word="circle")
    looks = [  # (the event, its data, its values but who asks, what only the owner is told)
        ("gold-here", "click", None, [sample], "gold 0"),
        ("library-images", "pick", {"key": sample}, [], "circle = 0"),
        ("audit-newer", "click", None, [1], sample),
    ]
    ann, others = space.as_account("ann"), [space, space.as_account("bea")]
    for part, kind, data, given, told in looks:
        event = space.event(part, kind)
        assert told in ann.act(event, data, given), part
        for other in others:
            answer = other.act(event, data, given)
            assert '"data"' in answer and told not in answer, part
    quality = space.event("quality-again", "click")
    while "as others" not in ann.act(quality):  # the figures are worked out behind the page
        time.sleep(0.2)
    assert NOT_YOURS not in ann.act(quality)
    assert all(NOT_YOURS in other.act(quality) for other in others)
    found = space.call("search", [sample, "newest", *[None] * 8, 1, None, "", None, None])
    assert found[0] == "complete" and sample in str(found) and "gold" not in str(found)
    make = space.event("export-make", "click")
    for other in others:
        assert "Only the owner of this Space" in other.act(make, values=["jsonl"])
    assert "Only the owner" not in ann.act(make, values=["jsonl"])


@pytest.mark.parametrize(("place", "value", "says"), [(3, 51, "50 at most"), (1, "1-9", "8")])
def test_a_stranger_is_bounded(space, place, value, says):
    before = space.rows("SELECT count(*) FROM samples")
    event, found = space.call("compare", [value if i == place else given for i, given in enumerate(PAIR)])
    assert event == "error" and says in found["error"]
    assert space.rows("SELECT count(*) FROM samples") == before


def test_a_read_only_demo_without_sign_in_writes_nothing_of_its_visitors(start):
    demo = start(STUDIO_ANNOTATE="nobody", STUDIO_MAX_CELLS="1")
    assert "login" not in demo.kinds()
    event, found = demo.call("compare", PAIR)
    assert event == "error" and "1 at most" in found["error"]
    answers = [demo.act(event) for event in demo.events() if event["backend_fn"]]
    assert "Traceback" not in str(answers)
    for table in ("samples", "scores", "submissions", "remarks", "people", "runs", "leases", "audit"):
        assert demo.rows(f"SELECT count(*) FROM {table} WHERE {'1' if table != 'runs' else 'kind = 0'}") == [
            (0,)
        ], table


def test_where_nothing_can_be_written_it_says_so_in_a_sentence(repository, tmp_path):
    env = {
        **SPACE,
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "STUDIO_HOME": str(repository / "kept"),
    }
    command = read_only(repository, f"exec {shlex.quote(sys.executable)} app.py")
    found = subprocess.run(command, env=env, capture_output=True, text=True, timeout=STARTING, check=False)
    assert found.returncode == 1 and "Traceback" not in found.stderr
    assert "STUDIO_HOME" in found.stderr and "nothing can be written" in found.stderr
