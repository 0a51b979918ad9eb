"""Who may do what, and where: the table of studio/README.md, walked over HTTP on a machine of one's own, on a network and on a Space."""

import inspect
import re
from pathlib import Path

import httpx
import pytest

from data.store import Store
from studio.api import endpoints
from tests.browser.conftest import serving
from tests.reliability.test_space import OAUTH, SPACE, Visitor
from tests.security.test_endpoints import ADMINS, ANYBODYS, WRITERS

ROOT = Path(__file__).resolve().parents[2]
REFUSED = re.compile(
    r"Only the owner of this Space may|alone may train|only who started it|sign_in|read-only"
)
# what is sent where the values of test_endpoints would start work or be stopped before the endpoint
HARMLESS = {
    "start_training": {"config": {"nothing": 1}},
    "start_experiment": {"name": "tau", "config": {"nothing": 1}},
    "push": {"repository": "no repository", "token": "x"},
    "restore": {"backup": "nothing.db"},
}
WHO = ("visitor", "signed in", "administrator")
MAY = {"everyone": set(WHO), "administrators": {"administrator"}}
PARAMETERS = {
    name: [p for p in inspect.signature(work).parameters.values() if p.name != "profile"]
    for name, work in endpoints(None, None).items()
}


class Person(Visitor):
    """One who comes by with a key of their own. name: that they go by, on a Space their account's."""

    def __init__(self, running, name="", headers=None):
        super().__init__(running)
        self.http.headers.update(headers or {})
        found = self.ask("sign_in", name="" if "Cookie" in self.http.headers else name)[0]
        self.who, self.name = found["who"], name or found["name"]

    def ask(self, endpoint, **given):
        """What an endpoint answers, its values by their names."""
        given |= {} if endpoint == "sign_in" else {"who": self.who}
        defaults = {p.name: None if p.default is p.empty else p.default for p in PARAMETERS[endpoint]}
        return self.call(endpoint, [given.get(name, default) for name, default in defaults.items()])[1]

    def upload(self):
        (path,) = self.http.post("/gradio_api/upload", files={"files": ("labels.jsonl", b"{}\n")}).json()
        return {"path": path, "meta": {"_type": "gradio.FileData"}}


def token(running):
    """What the console printed."""
    return re.search(r"^For administrators: \S+/\?token=(\S+)$", running.log.read_text(), re.MULTILINE)[1]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A studio that is bound to every address of the machine; without models, as nothing here computes."""
    folder = tmp_path_factory.mktemp("network")
    with serving(folder / "home", folder / "models", GRADIO_SERVER_NAME="0.0.0.0") as running:
        yield running


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("space")
    with serving(folder / "home", folder / "models", **SPACE, **OAUTH) as running:
        yield running


@pytest.fixture(scope="module")
def places(app, network, space):
    """{place: (visitor, signed in, administrator)}; in each place there is an image with gold on it."""
    rows = {"prompt": "a red circle", "n_words": 3, "seed": 1, "backbone": "tiny", "width": 128, "height": 128,
            "steps": 20, "guidance": 4.0, "image_path": "images/s0.png", "image_sha256": "0" * 64}  # fmt: skip
    for running in (app.running, network, space):
        store = Store(running.home / "studio.db")
        store.samples.add([rows | {"id": "s0"}])
        store.gold.set("s0", 1, 7, "ann", word="red")
    bearer = {"Authorization": f"Bearer {token(network)}"}
    accounts = [{"Cookie": Visitor(space).as_account(name).http.headers["Cookie"]} for name in ("bea", "ann")]
    return {
        "loopback": (Person(app.running), Person(app.running, "bea"), Person(app.running, "ann")),
        "network": (Person(network), Person(network, "bea"), Person(network, "ann", bearer)),
        "Space": (Person(space), Person(space, "bea", accounts[0]), Person(space, "ann", accounts[1])),
    }


def asking(person, names):
    """Each of these endpoints, with what a stranger sends: (its name, whether it was answered)."""
    for name in names:
        given = HARMLESS.get(name) or {**ADMINS, **WRITERS}.get(name, {})
        answer = person.ask(name, **(given | {"file": person.upload()} if "file" in given else given))
        yield name, not REFUSED.search(str(answer))


def managing(person):
    """What administrators do, by endpoints and by the page's buttons."""
    yield from asking(person, sorted(ADMINS))
    for button in ("promote", "rollback", "stop-run"):
        yield button, not REFUSED.search(person.act(person.event(button, "click")))


def tending(person, maker):
    """Stop a grid that somebody made, and go on with it."""
    store = Store(person.running.home / "studio.db")
    config = {"prompt": "a red circle", "seeds": [1], "variants": [], "width": None, "height": None}
    grid = store.grids.add({**config, "backbone": "another"}, maker)
    store.grids.update(grid, "stopped")
    for name in ("stop_grid", "resume_grid"):
        yield name, not REFUSED.search(str(person.ask(name, grid=grid)))


ACTS = {
    "look, search, compare, make grids, download": lambda person: asking(person, sorted(ANYBODYS)),
    "correct, vote, flag, write notes": lambda person: asking(person, sorted(WRITERS)),
    "stop or resume one's own grid": lambda person: tending(person, person.name),
    "stop or resume another person's grid": lambda person: tending(person, "another"),
    "endpoints marked *, and the same on the page": managing,
    "see gold": lambda person: [("gold", "'gold'" in str(person.ask("sample_history", sample="s0")))],
}


@pytest.mark.parametrize("place", ["loopback", "network", "Space"])
@pytest.mark.parametrize("act", ACTS)
def test_the_table_of_rights_holds(places, act, place):
    assert list(table()) == list(ACTS)
    may = MAY[table()[act][place]]
    for who, person in zip(WHO, places[place], strict=True):
        wrong = [name for name, answered in ACTS[act](person) if answered != (who in may)]
        assert not wrong, f"{who} of {place}: {'may not' if who in may else 'may'} {wrong}"


def table():
    """That of the README: {act: {place: who may}}."""
    section = (ROOT / "studio/README.md").read_text(encoding="utf-8").partition("## Who may do what\n")[2]
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {act: dict(zip(head[1:], may, strict=True)) for act, *may in rows}


def test_the_link_of_the_console_makes_a_browser_an_administrators_and_leaves_no_token_in_the_address(
    network,
):
    secret, browser = token(network), Person(network)
    assert len(bytes.fromhex(secret)) == 16
    assert not dict(managing(browser))["rollback"]
    answer = browser.http.get("/", params={"view": "grid", "token": secret, "x": "a b"})
    assert (answer.status_code, answer.headers["location"]) == (303, "./?view=grid&x=a+b")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
    assert browser.http.get("/endpoints", params={"token": secret}).headers["location"] == "./endpoints"
    assert dict(managing(browser))["rollback"]
    for wrong in (secret[:-1], secret.upper(), "", "ü"):
        refused = browser.http.get("/", params={"token": wrong})
        assert refused.status_code == 403 and "last start" in refused.text
    kept = b"".join(path.read_bytes() for path in network.home.rglob("*") if path.is_file())
    assert secret.encode() not in kept and network.log.read_text().count(secret) == 1


@pytest.mark.parametrize("wrong", ["Bearer {}x", "Bearer", "Basic {}", "{}", "Bearer " + "0" * 32])
def test_a_wrong_token_is_a_visitors(network, wrong):
    other = Person(network, "", {"Authorization": wrong.format(token(network))})
    other.http.cookies.set("studio-token-", token(network))  # of another port
    assert not dict(managing(other))["rollback"]


REBINDING = {"Host": "evil.example"}
FOREIGN = [
    REBINDING,
    {"Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"},
    {"Host": "localhost.evil.example:{port}"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "evil@127.0.0.1:{port}"},
    {"Host": "127.0.0.1:{port}@evil.example"},
    {"Host": "192.168.1.5:{port}"},
    {"Host": ""},
    {"Host": "127.0.0.1:{port}", "X-Forwarded-Host": "evil.example"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost:1"},
    {"Origin": "http://127.0.0.1.evil.example:{port}"},
    {"Origin": "https://evil.example@127.0.0.1:{port}"},
    {"Origin": "file://"},
]
OURS = [
    {},
    {"Host": "localhost"},
    {"Host": "LocalHost.:9000"},
    {"Host": "[::1]:9000", "Origin": "http://[0:0:0:0:0:0:0:1]:9000"},
    {"Host": "127.0.0.1:{port}", "Origin": "http://127.0.0.1:{port}"},
    {"Host": "127.0.0.1:{port}", "Origin": "http://LOCALHOST:{port}"},
    {"Host": "127.0.0.9:1"},
]


def sent_by(headers, running):
    port = httpx.URL(running.url).port
    return {name: value.format(port=port) for name, value in headers.items()}


def everything(app):
    """Every way to ask for every act: (method, path, body)."""
    for name in PARAMETERS:
        for way in ("call", "call/v2", "run", "api"):
            yield "POST", f"/gradio_api/{way}/{name}", {"data": []}
    for event in app.events():
        for way in ("run/predict", "queue/join"):
            yield (
                "POST",
                f"/gradio_api/{way}",
                {"data": [], "fn_index": event["id"], "session_hash": "foreign"},
            )
    for path in ("/", "/config", "/endpoints", "/gradio_api/info", "/gradio_api/queue/data", "/gradio_api/heartbeat/x",
                 "/gradio_api/file=x", "/gradio_api/mcp/sse", "/monitoring", "/theme.css", "/nothing"):  # fmt: skip
        yield "GET", path, None
    for path in (
        "/gradio_api/upload",
        "/gradio_api/mcp/",
        "/gradio_api/cancel",
        "/gradio_api/reset",
        "/login",
    ):
        yield "POST", path, {}
    yield "OPTIONS", "/gradio_api/run/predict", None


@pytest.mark.parametrize("headers", [REBINDING, {"Origin": "http://evil.example"}], ids=str)
def test_a_foreign_page_gets_403_from_every_endpoint_and_event(app, headers):
    dump = "SELECT count(*) FROM {}"
    tables = [name for (name,) in app.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
    before = [app.rows(dump.format(name)) for name in tables]
    asked = list(everything(app))
    assert len(asked) > 400
    for method, path, body in asked:
        answer = app.http.request(method, path, json=body, headers=headers)
        assert answer.status_code == 403, (method, path)
        assert "STUDIO_HOSTS" in answer.text and "evil.example" in answer.text
        assert "access-control-allow-origin" not in answer.headers
    assert [app.rows(dump.format(name)) for name in tables] == before


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_what_is_not_the_studios_own_page_is_refused(app, headers):
    for ask in (("GET", "/config"), ("POST", "/gradio_api/run/status")):
        assert (
            app.http.request(*ask, json={"data": []}, headers=sent_by(headers, app.running)).status_code
            == 403
        )


@pytest.mark.parametrize("headers", OURS, ids=str)
def test_the_studios_own_names_are_answered_and_so_is_a_program_that_is_no_page(app, headers):
    asked = app.http.post("/gradio_api/run/status", json={"data": []}, headers=sent_by(headers, app.running))
    assert asked.status_code == 200 and asked.json()["data"][0]["samples"] >= 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "192.168.1.5:{port}", "Origin": "http://192.168.1.5:{port}"}, 200),
        ({"Host": "[fe80::1]:{port}"}, 200),
        ({"Host": "192.168.1.5:{port}", "Origin": "http://203.0.113.9:{port}"}, 403),
        ({"Host": "192.168.1.5:{port}", "Origin": "http://localhost:{port}"}, 403),
        ({"Host": "evil.example:{port}"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
    ],
    ids=str,
)
def test_on_a_network_every_address_is_the_studios_and_no_name_is(network, headers, status):
    with httpx.Client(base_url=network.url, trust_env=False) as client:
        headers = sent_by(headers, network)
        assert client.post("/gradio_api/run/status", json={"data": []}, headers=headers).status_code == status
