"""The READMEs of the folders against the code: rooms, the way of a request, the schema, formats, prompt sets, paths."""

import re
from pathlib import Path

import pytest
from sqlite_utils import Database

from data.prompts.public import SETS
from data.store.schema import APPEND_ONLY, migrations
from studio.exchange.transfer import IN, OUT
from studio.experiments import EXPERIMENTS

ROOT = Path(__file__).resolve().parents[2]
READMES = ("README.md", "studio/README.md", "data/README.md", "core/README.md")
DEFINED = r"^\s*(?:async )?(?:def|class|function|const|let) {0}\b|^{0} = "


def text(readme):
    return (ROOT / readme).read_text(encoding="utf-8")


def table(readme, heading):
    """The rows of the first table below a heading, without its head: lists of cells."""
    lines = text(readme).partition(f"\n{heading}\n")[2].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    end = next((i for i, line in enumerate(lines) if i > start and not line.startswith("|")), len(lines))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start + 2 : end]]


def code(cell):
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("readme", ["studio/README.md", "data/README.md"])
def test_the_map_names_every_room_and_no_other(readme):
    folder = ROOT / Path(readme).parent
    named = {name for row in table(readme, "## The map") for name in code(row[0])}
    assert all((folder / name).exists() for name in named), named
    rooms = {f"{path.name}/" for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._"}
    assert {name for name in named if name.endswith("/")} == rooms


def test_the_functions_that_a_request_passes_are_in_the_rooms_that_the_map_gives():
    for _, room, functions, _ in table("studio/README.md", "## How a request travels"):
        files = [path for path in (ROOT / code(room)[0]).rglob("*") if path.suffix in (".py", ".js")]
        source = "\n".join(path.read_text(encoding="utf-8") for path in files)
        for name in code(functions):
            assert re.search(DEFINED.format(name), source, re.MULTILINE), f"{room} has no {name}"


def test_the_schema_has_the_tables_and_views_that_are_described():
    db = Database(memory=True)
    migrations.apply(db)
    described = {code(name)[0]: written for name, _, written in table("data/README.md", "## The schema")}
    assert set(described) == {
        name for name in db.table_names() if not name.startswith(("sqlite_", "_sqlite"))
    }
    assert {name for name, written in described.items() if written == "append-only"} == set(APPEND_ONLY)
    views = re.search(r"^Views: (.*?)\n\n", text("data/README.md"), re.MULTILINE | re.DOTALL)[1]
    assert set(code(views)) == set(db.view_names())


def test_the_formats_are_those_that_go_out_and_come_in():
    rows = [(code(name)[0], goes, comes) for name, goes, comes, *_ in table("data/README.md", "## Formats")]
    assert [name for name, *_ in rows] == list(OUT)
    assert {name for name, _, comes in rows if not comes.startswith("by ")} == set(IN)


def test_the_public_prompt_sets_are_those_that_can_be_read():
    rows = table("data/README.md", "## Prompt sets")
    named = {re.match(r"[\w-]+", code(row[-1])[0])[0]: row for row in rows}
    assert list(named) == list(SETS)
    for name, (title, _, repository, licence, *_) in named.items():
        known = SETS[name]
        assert (title, repository, licence) == (known.title, known.source.partition(",")[0], known.licence)


def test_every_experiment_of_the_paper_has_its_result():
    names = [code(name)[0] for name, *_ in table("core/README.md", "### The paper's experiments")]
    assert sorted(names) == sorted(EXPERIMENTS)


@pytest.mark.parametrize("readme", READMES)
def test_paths_that_a_readme_names_are_there(readme):
    named = re.findall(r"`((?:[a-z]\w*/)*[a-z]\w*(?:/|\.(?:py|md|css|js|sh)))`", text(readme))
    places = (ROOT, ROOT / Path(readme).parent)
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


def test_the_first_readme_is_short():
    assert len(text("README.md").splitlines()) <= 150
