"""Who may do what, and where: the table of studio/README.md, walked over HTTP on a machine of one's own, on a network and on a Space."""

import re
from pathlib import Path

import httpx
import pytest

from data.store import Store
from tests.browser.conftest import serving
from tests.security.test_endpoints import ADMINS, ANYBODYS, WRITERS
from tests.visitors import OAUTH, PARAMETERS, SECRET, SPACE, Person, session_of

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
def places(app, network, space, sample_row):
    """{place: (visitor, signed in, administrator)}; in each place there is an image with gold on it."""
    for running in (app.running, network, space):
        store = Store(running.home / "studio.db")
        store.samples.add([sample_row(id="s0")])
        store.gold.set("s0", 1, 7, "ann", word="red")
    bearer = {"Authorization": f"Bearer {token(network)}"}
    bea, ann = ({"Cookie": f"session={session_of(name, SECRET)}"} for name in ("bea", "ann"))
    return {
        "loopback": (Person(app.running), Person(app.running, "bea"), Person(app.running, "ann")),
        "network": (Person(network), Person(network, "bea"), Person(network, "ann", bearer)),
        "Space": (Person(space), Person(space, "bea", bea), Person(space, "ann", ann)),
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
        yield button, not REFUSED.search(person.act(person.event(button, "click")).text)


def tending(person, maker):
    """Stop a grid that somebody made, and go on with it."""
    store = Store(person.home / "studio.db")
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
def test_the_table_of_rights_holds(places, place):
    assert list(table()) == list(ACTS)
    for act, rights in table().items():
        # what a visitor may is everyone's
        for who, person in zip(WHO, places[place][: 1 if rights[place] == "everyone" else 3]):
            wrong = [name for name, answered in ACTS[act](person) if answered != (who in MAY[rights[place]])]
            assert not wrong, f"{act}, {who} of {place}, should be {rights[place]}'s: {wrong}"


def table():
    """That of the README: {act: {place: who may}}."""
    section = (ROOT / "studio/README.md").read_text(encoding="utf-8").partition("## Who may do what\n")[2]
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {act: dict(zip(head[1:], may, strict=True)) for act, *may in rows}


def test_the_token_makes_an_administrator_by_the_consoles_link_and_is_kept_nowhere(network):
    secret, browser = token(network), Person(network)

    def administrates(person):
        return not REFUSED.search(str(person.ask("rollback", kind="projector")))

    assert len(bytes.fromhex(secret)) == 16 and not administrates(browser)
    answer = browser.http.get("/", params={"view": "grid", "token": secret, "x": "a b"})
    assert (answer.status_code, answer.headers["location"]) == (303, "./?view=grid&x=a+b")
    cookie = answer.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/"))
    assert browser.http.get("/endpoints", params={"token": secret}).headers["location"] == "./endpoints"
    assert administrates(browser)
    for wrong in (secret[:-1], secret.upper(), "", "ü"):
        refused = browser.http.get("/", params={"token": wrong})
        assert refused.status_code == 403 and "last start" in refused.text
    kept = b"".join(path.read_bytes() for path in network.home.rglob("*") if path.is_file())
    assert secret.encode() not in kept and network.log.read_text().count(secret) == 1


REBINDING, FOREIGN = {"Host": "evil.example"}, {"Origin": "http://evil.example"}
# headers of requests on loopback, and the status of the answer
LOOPBACK = [
    (403, REBINDING),
    (403, FOREIGN),
    (403, {"Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"}),
    (403, {"Host": "127.0.0.1:{port}@evil.example"}),
    (403, {"Host": "127.0.0.1.evil.example"}),
    (403, {"Host": "192.168.1.5:{port}"}),
    (403, {"Host": "127.0.0.1:{port}", "X-Forwarded-Host": "evil.example"}),
    (403, {"Origin": "null"}),
    (403, {"Origin": "http://localhost:1"}),
    (403, {"Origin": "http://127.0.0.1.evil.example:{port}"}),
    (200, {}),
    (200, {"Host": "LocalHost.:9000"}),
    (200, {"Host": "[::1]:9000", "Origin": "http://[0:0:0:0:0:0:0:1]:9000"}),
    (200, {"Host": "127.0.0.1:{port}", "Origin": "http://LOCALHOST:{port}"}),
]
NETWORK = [  # there every address is the studio's, and no name is
    (200, {"Host": "192.168.1.5:{port}", "Origin": "http://192.168.1.5:{port}"}),
    (200, {"Host": "[fe80::1]:{port}"}),
    (403, {"Host": "192.168.1.5:{port}", "Origin": "http://203.0.113.9:{port}"}),
    (403, {"Host": "192.168.1.5:{port}", "Origin": "http://localhost:{port}"}),
    (403, {"Host": "evil.example", "Origin": "http://evil.example"}),
]


def test_the_studios_own_page_is_answered_and_a_program_that_is_no_page_and_no_foreign_page(app, network):
    for running, rows in ((app.running, LOOPBACK), (network, NETWORK)):
        with httpx.Client(base_url=running.url, trust_env=False) as client:
            for status, headers in rows:
                sent = {
                    name: value.format(port=httpx.URL(running.url).port) for name, value in headers.items()
                }
                answers = [
                    client.get("/config", headers=sent),
                    client.post("/gradio_api/run/status", json={"data": []}, headers=sent),
                ]
                assert [answer.status_code for answer in answers] == [status] * 2, headers


def everything(app):
    """Every way to ask for every act: (method, path, body)."""
    for name in PARAMETERS:
        for way in ("call", "call/v2", "run", "api"):
            yield "POST", f"/gradio_api/{way}/{name}", {"data": []}
    for event in app.events:
        body = {"data": [], "fn_index": event["id"], "session_hash": "foreign"}
        for way in ("run/predict", "queue/join"):
            yield "POST", f"/gradio_api/{way}", body
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


def test_a_foreign_page_gets_403_from_every_endpoint_and_event(app):
    tables = [name for (name,) in app.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]

    def counts():
        return [app.rows(f"SELECT count(*) FROM {name}") for name in tables]

    before, asked = counts(), list(everything(app))
    assert len(asked) > 400
    for headers in (REBINDING, FOREIGN):
        for method, path, body in asked:
            answer = app.http.request(method, path, json=body, headers=headers)
            assert answer.status_code == 403, (method, path)
            assert "STUDIO_HOSTS" in answer.text and "evil.example" in answer.text
            assert "access-control-allow-origin" not in answer.headers
    assert counts() == before
