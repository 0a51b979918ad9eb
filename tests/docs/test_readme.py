"""The four READMEs are tested like code: front matter, commands, maps, tables, figures and links."""

import ast
import importlib
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import DiffusionPipeline, EulerAncestralDiscreteScheduler
from packaging.requirements import Requirement
from packaging.version import Version
from sqlite_utils import Database

from core.guiders import GUIDERS
from core.networks.projector import NoiseProjector
from data.prompts.public import SETS
from data.store.schema import APPEND_ONLY, migrations
from studio import api  # noqa: F401 - to register the endpoints
from studio.cli.application import parse
from studio.cli.commands import choices
from studio.cli.shipping import checked_options
from studio.doors import ADMINISTRATORS, ENDPOINTS, GOLD
from studio.exchange.transfer import IN, OUT
from studio.experiments import EXPERIMENTS, check_experiment
from studio.settings import SETTINGS, settings_table
from studio.training.configs import EVALUATIONS, FIELDS, check_benchmark, check_config, check_evaluation

ROOT = Path(__file__).resolve().parents[2]
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
SHELLS = {"", "bash", "sh", "shell", "console"}
READMES = ("README.md", "studio/README.md", "data/README.md", "core/README.md")
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in READMES}
WHOLE = "\n".join(TEXTS.values())
FENCED = re.compile(r"^```([\w-]*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
PYTHON = [content for language, content in FENCED.findall(WHOLE) if language == "python"]
DECIMAL = r"(?<![\w.-])[-+]?\d*\.\d"
DEFINED = r"^\s*(?:async )?(?:def|class|function|const|let) {0}\b|^{0} = "
# what checks the settings of a command
SETTING = {
    "train": check_config,
    "evaluate": check_evaluation,
    "benchmark": check_benchmark,
    "experiment": lambda name, chosen: check_experiment({"name": name, **chosen}),
    "pretrain": checked_options,
}


def code(cell):
    return re.findall(r"`([^`]+)`", cell)


def table(readme, heading):
    """The rows of the first table below a heading, without its head: lists of cells."""
    lines = TEXTS[readme].partition(f"\n{heading}\n")[2].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    end = next((i for i, line in enumerate(lines) if i > start and not line.startswith("|")), len(lines))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start + 2 : end]]


def commands(readme):
    """Every shell command of a README, in blocks and in single backticks, split into words, without the variables set before
    it, which must be settings of the studio."""
    shells = [content for language, content in FENCED.findall(readme) if language in SHELLS]
    lines = "\n".join(shells).replace("\\\n", " ").splitlines()
    lines += re.findall(r"`((?:python|bash|pip) [^`]+)`", FENCED.sub("", readme))
    settings = {row[0] for row in SETTINGS.values()}
    for line in lines:
        words = shlex.split(line.removeprefix("$ "), comments=True)
        while words:
            at = next((i for i, word in enumerate(words) if word in ("&&", ";", "|", "||")), len(words))
            command, words = words[:at], words[at + 1 :]
            while command and (variable := re.fullmatch(r"([A-Z_]+)=.*", command[0])):
                assert (
                    variable[1].startswith(("GRADIO_", "OMP_", "CUDA_", "PYTHON")) or variable[1] in settings
                ), line
                command = command[1:]
            if command:
                yield command


def check(words):
    """Whether a command could run: its file is there, its arguments and settings are ones that it takes."""
    if words[0] in ("accelerate", "torchrun"):
        words = ["python", *words[words.index("-m") :]]
    if words[:3] == ["python", "-m", "studio"]:
        call = parse(words[3:])
        command, *kind = call.door.words
        if command in SETTING:
            SETTING[command](*kind, choices(call.values["set"]))
    elif words[:2] == ["python", "-m"]:
        ours = (ROOT / words[2].replace(".", "/")).with_suffix(".py").is_file()
        assert ours or words[2] in ("venv", "pip", "pytest"), f"no such module: {words[2]}"
    elif words[0] in ("python", "bash"):
        assert (ROOT / words[1]).is_file(), f"no such file: {words[1]}"


def test_the_front_matter_and_the_requirements_are_those_of_a_gradio_space():
    front = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", TEXTS["README.md"], re.DOTALL)[1])
    assert front["sdk"] == "gradio" and front["title"] == "Noise Projection Studio"
    assert (ROOT / front["app_file"]).is_file()
    assert isinstance(front["python_version"], str) and Version(front["python_version"]) >= Version("3.11")
    assert front["license"] and front["suggested_hardware"] and isinstance(front["hf_oauth"], bool)
    assert {front["colorFrom"], front["colorTo"]} <= COLOURS and front["emoji"]
    assert len(front["short_description"]) <= 60
    files = [(ROOT / name).read_text() for name in ("requirements.txt", "tests/requirements.txt")]
    lines = [line for file in files for line in file.splitlines() if line and not line.startswith("#")]
    needs = {
        need.name: need.specifier for need in map(Requirement, (line.partition(" #")[0] for line in lines))
    }
    assert needs["gradio"].contains(str(front["sdk_version"])) and "torchvision" not in needs
    assert set(str(needs["torch"]).split(",")) == {">=2.10", "<=2.13.0"}  # what a Space has built


def test_every_command_could_run_and_those_that_begin_are_there():
    first = list(commands(TEXTS["README.md"]))
    for begin in ("pip install -r requirements.txt", "python app.py", "bash tests/run"):
        assert begin.split() in first
    wrong = []
    for words in commands(WHOLE):
        try:
            check(words)
        except (ValueError, AssertionError) as error:
            wrong.append(f"{shlex.join(words)}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("words", [["train", "reward", "--help"], ["dance"]], ids=" ".join)
def test_help_and_wrong_arguments_are_answered_without_loading_what_is_heavy(words):
    asked = f"import sys; from studio.__main__ import main; main({words})\n"
    asked += "print({'torch', 'gradio', 'diffusers', 'transformers', 'pandas', 'rich'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


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
    tables = {name for name in db.table_names() if not name.startswith(("sqlite_", "_sqlite"))}
    assert set(described) == tables
    assert {name for name, written in described.items() if written == "append-only"} == set(APPEND_ONLY)
    views = re.search(r"^Views: (.*?)\n\n", TEXTS["data/README.md"], re.MULTILINE | re.DOTALL)[1]
    assert set(code(views)) == set(db.view_names())


def test_settings_formats_prompt_sets_experiments_and_kinds_of_training_are_those_of_the_code():
    assert settings_table() in TEXTS["studio/README.md"]
    rows = [(code(name)[0], comes) for name, _, comes, *_ in table("data/README.md", "## Formats")]
    assert [name for name, _ in rows] == list(OUT)
    assert {name for name, comes in rows if not comes.startswith("by ")} == set(IN)
    sets = {
        re.match(r"[\w-]+", code(command)[0])[0]: (title, repository, licence)
        for title, _, repository, licence, *_, command in table("data/README.md", "## Prompt sets")
    }
    known = {name: (of.title, of.source.partition(",")[0], of.licence) for name, of in SETS.items()}
    assert list(sets) == list(known) and sets == known
    guiders = [(code(name)[0], paper) for name, _, paper, *_ in table("core/README.md", "### Guidance")]
    assert guiders == [(n, f"[{g.paper}](https://arxiv.org/abs/{g.paper})") for n, g in GUIDERS.items()]
    experiments = [code(name)[0] for name, *_ in table("core/README.md", "### The paper's experiments")]
    assert sorted(experiments) == sorted(EXPERIMENTS)
    assert [name for name in (*FIELDS, *EVALUATIONS) if not re.search(rf"\b{name}\b", WHOLE)] == []


def test_every_endpoint_is_listed_and_those_of_administrators_are_marked():
    section = TEXTS["studio/README.md"].partition("\n## From scripts and agents\n")[2].partition("\n## ")[0]
    lines = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    listed = re.findall(r"`(\w+)`(\*?)", lines)
    marks = {door.name: "*" if door.may in (ADMINISTRATORS, GOLD) else "" for door in ENDPOINTS}
    assert len(listed) == len(marks) and dict(listed) == marks


def test_below_every_table_of_figures_stands_the_command_that_prints_it():
    tables = [
        (name, content.splitlines()[0], after)
        for name, text in TEXTS.items()
        for content, after in re.findall(r"((?:^\|.*\n)+)\n(.*)", text, re.MULTILINE)
        if re.search(DECIMAL, content) and not content.startswith("| setting |")
    ]
    assert len(tables) >= 10, "the tables of measured figures"
    assert [row for row in tables if not re.search(r"`python [^`]+`", row[2])] == []


def anchors(text):
    """The names by which a link leads to the headings of a Markdown file, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", READMES)
def test_what_a_readme_points_to_is_there(name):
    folder = (ROOT / name).parent
    for target in re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", TEXTS[name]):
        path, _, anchor = target.partition("#")
        file = (folder / path).resolve() if path else ROOT / name
        assert re.match(r"https?://", target) or file.exists(), target
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), target
    paths = re.findall(r"`((?:[a-z]\w*/)*[a-z]\w*(?:/|\.(?:py|md|css|js|sh)))`", TEXTS[name])
    assert [path for path in paths if not any((place / path).exists() for place in (ROOT, folder))] == []


def test_the_pictures_are_shown_and_no_other_is_kept():
    assert set(re.findall(r"\.readme/([\w.-]+)", WHOLE)) == {
        path.name for path in (ROOT / ".readme").iterdir()
    }


def test_the_python_of_the_readme_compiles_and_imports():
    assert PYTHON, "the two lines that use the projector on any pipeline"
    for node in (node for content in PYTHON for node in ast.walk(ast.parse(content))):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
        elif isinstance(node, ast.Import):
            assert all(importlib.import_module(alias.name) for alias in node.names)


def test_the_two_lines_make_an_image_with_the_shipped_pipeline_as_it_is_loaded(monkeypatch, tmp_path):
    """The READMEs' own lines, run as they stand; those of a sampler that draws noise with such a one; and in bfloat16."""
    monkeypatch.chdir(ROOT)
    for name, word in (("two", "projector.latents"), ("drawing", "third")):
        (tmp_path / name).write_text(next(content for content in PYTHON if word in content))
    names = runpy.run_path(str(tmp_path / "two"))
    pipe = names["pipe"]
    dtypes = {part.dtype for part in pipe.components.values() if isinstance(part, torch.nn.Module)}
    assert dtypes == {torch.float32}
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    for image in (names["image"], runpy.run_path(str(tmp_path / "drawing"), names)["image"]):
        assert image.size == (128, 128) and np.array(image).std() > 5
    half = DiffusionPipeline.from_pretrained(ROOT / "data/models/diffuser", torch_dtype=torch.bfloat16)
    latents = NoiseProjector.from_pretrained(ROOT / "data/models/projector").latents(half, "a red circle", 7)
    made = half("a red circle", latents=latents, num_inference_steps=2, output_type="np").images
    assert made.shape == (1, 128, 128, 3)
