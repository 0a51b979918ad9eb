"""The four READMEs are tested like code: front matter, commands, tables of figures and links."""

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
from diffusers import (
    AutoPipelineForText2Image,
    DiffusionPipeline,
    EulerAncestralDiscreteScheduler,
    StableDiffusionXLPipeline,
)
from packaging.requirements import Requirement
from packaging.version import Version

from core.networks.projector import NoiseProjector
from studio import api  # noqa: F401 - to register the endpoints
from studio.cli.application import parse
from studio.cli.commands import choices
from studio.cli.shipping import checked_options
from studio.doors import ADMINISTRATORS, ENDPOINTS, GOLD
from studio.experiments import check_experiment
from studio.settings import SETTINGS, settings_table
from studio.training.configs import EVALUATIONS, FIELDS, check_benchmark, check_config, check_evaluation

ROOT = Path(__file__).resolve().parents[2]
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
SHELLS = {"", "bash", "sh", "shell", "console"}
READMES = ("README.md", "studio/README.md", "data/README.md", "core/README.md")
DECIMAL = r"(?<![\w.-])[-+]?\d*\.\d"


@pytest.fixture(scope="module")
def texts():
    """{file: text}."""
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in READMES}


@pytest.fixture(scope="module")
def readme(texts):
    """All four, one after the other."""
    return "\n".join(texts.values())


@pytest.fixture(scope="module")
def front(texts):
    matter = re.match(r"---\n(.*?)\n---\n", texts["README.md"], re.DOTALL)
    assert matter, "README.md opens with the front matter of a Space, between two lines of ---"
    return yaml.safe_load(matter[1])


def requirement(name):
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return next(r for r in found if r.name == name)


def blocks(readme):
    """(language, content) of every fenced block."""
    return re.findall(r"^```([\w-]*)[^\n]*\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)


def commands(readme):
    """Every shell command of the READMEs, in blocks and in single backticks, split into words."""
    lines = []
    for language, content in blocks(readme):
        if language in SHELLS:
            lines += content.replace("\\\n", " ").splitlines()
    lines += re.findall(
        r"`((?:python|bash|pip) [^`]+)`", re.sub(r"^```.*?^```", "", readme, flags=re.DOTALL | re.MULTILINE)
    )
    found = []
    for line in lines:
        words = shlex.split(line.removeprefix("$ "), comments=True)
        while words:
            at = next((i for i, word in enumerate(words) if word in ("&&", ";", "|", "||")), len(words))
            found.append(words[:at])
            words = words[at + 1 :]
    return [words for words in found if words]


# what checks the settings of a command
SETTING = {
    "train": check_config,
    "evaluate": check_evaluation,
    "benchmark": check_benchmark,
    "experiment": lambda name, chosen: check_experiment({"name": name, **chosen}),
    "pretrain": checked_options,
}


def bare(words):
    """A command without the variables set before it, which must be settings of the studio."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name = words[0].partition("=")[0]
        assert name.startswith(("GRADIO_", "OMP_", "CUDA_", "PYTHON")) or name in {
            row[0] for row in SETTINGS.values()
        }, name
        words = words[1:]
    return words


def check(words):
    """Whether a command could run: its file is there, its arguments and settings are ones that it takes."""
    words = bare(words)
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


def test_the_front_matter_is_that_of_a_gradio_space(front):
    assert front["sdk"] == "gradio" and front["title"] == "Noise Projection Studio"
    assert (ROOT / front["app_file"]).is_file()
    assert Version(str(front["python_version"])) >= Version("3.11") and isinstance(
        front["python_version"], str
    )
    assert front["license"] and front["suggested_hardware"] and isinstance(front["hf_oauth"], bool)
    assert {front["colorFrom"], front["colorTo"]} <= COLOURS and front["emoji"]
    assert len(front.get("short_description", "")) <= 60


def test_the_gradio_of_the_space_is_one_that_the_requirements_allow(front):
    assert requirement("gradio").specifier.contains(str(front["sdk_version"]))


def test_torch_is_in_the_range_of_a_space_and_torchvision_nowhere():
    assert str(requirement("torch").specifier) in ("<=2.13.0,>=2.10", ">=2.10,<=2.13.0")
    for name in ("requirements.txt", "tests/requirements.txt"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
        assert not any("torchvision" in line for line in lines)


def test_the_two_commands_that_begin_are_there(texts):
    found = [bare(words) for words in commands(texts["README.md"])]
    assert ["pip", "install", "-r", "requirements.txt"] in found and ["python", "app.py"] in found
    assert ["bash", "tests/run"] in found


def test_every_command_could_run(readme):
    wrong = []
    for words in commands(readme):
        try:
            check(words)
        except (ValueError, AssertionError) as error:
            wrong.append(f"{shlex.join(words)}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("words", [["train", "reward", "--help"], ["dance"]], ids=" ".join)
def test_help_and_wrong_arguments_are_answered_without_loading_what_is_heavy(words):
    code = f"import sys; from studio.__main__ import main; main({words})\n"
    code += "print({'torch', 'gradio', 'diffusers', 'transformers', 'pandas', 'rich'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "set()"


def test_the_table_of_settings_is_the_one_in_the_code(texts):
    assert settings_table() in texts["studio/README.md"]


def test_below_every_table_of_figures_stands_the_command_that_prints_it(texts):
    tables = [
        (name, content.splitlines()[0], after)
        for name, text in texts.items()
        for content, after in re.findall(r"((?:^\|.*\n)+)\n(.*)", text, re.MULTILINE)
        if re.search(DECIMAL, content) and not content.startswith("| setting |")
    ]
    assert len(tables) >= 10, "the tables of measured figures"
    assert [table for table in tables if not re.search(r"`python [^`]+`", table[2])] == []


def test_every_endpoint_is_listed_and_those_of_administrators_are_marked(texts):

    section = texts["studio/README.md"].partition("\n## From scripts and agents\n")[2].partition("\n## ")[0]
    table = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    listed = re.findall(r"`(\w+)`(\*?)", table)
    known = {door.name for door in ENDPOINTS}
    assert {name for name, _ in listed} == known and len(listed) == len(known)
    assert {name for name, mark in listed if mark} == {
        door.name for door in ENDPOINTS if door.may in (ADMINISTRATORS, GOLD)
    }


def test_all_kinds_of_training_and_evaluation_are_documented(readme):
    for name in (*FIELDS, *EVALUATIONS):
        assert re.search(rf"\b{name}\b", readme), name


def anchors(text):
    """The names by which a link leads to the headings of a Markdown file, as GitHub makes them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", READMES)
def test_what_a_readme_points_to_is_there(texts, name):
    for target in re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", texts[name]):
        path, _, anchor = target.partition("#")
        file = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert re.match(r"https?://", target) or file.exists(), target
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), target


def test_the_pictures_are_shown_and_no_other_is_kept(readme):
    shown = set(re.findall(r"\.readme/([\w.-]+)", readme))
    assert shown == {path.name for path in (ROOT / ".readme").iterdir()}
    assert all(path.stat().st_size < 10_000_000 for path in (ROOT / ".readme").iterdir())


def test_the_python_of_the_readme_compiles_and_imports(readme):
    code = [content for language, content in blocks(readme) if language == "python"]
    assert code, "the two lines that use the projector on any pipeline"
    for content in code:
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
            elif isinstance(node, ast.Import):
                assert all(importlib.import_module(alias.name) for alias in node.names)


def test_the_two_lines_make_an_image_with_the_shipped_pipeline_as_it_is_loaded(readme, monkeypatch, tmp_path):
    """The READMEs' own lines, run as they stand; those of a sampler that draws noise with such a one."""
    monkeypatch.chdir(ROOT)
    code = [content for language, content in blocks(readme) if language == "python"]
    for name, word in (("two", "projector.latents"), ("drawing", "third")):
        (tmp_path / name).write_text(next(content for content in code if word in content))
    names = runpy.run_path(str(tmp_path / "two"))
    pipe = names["pipe"]
    dtypes = {part.dtype for part in pipe.components.values() if isinstance(part, torch.nn.Module)}
    assert dtypes == {torch.float32}
    assert names["image"].size == (128, 128) and np.array(names["image"]).std() > 5
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    image = runpy.run_path(str(tmp_path / "drawing"), names)["image"]
    assert image.size == (128, 128) and np.array(image).std() > 5


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        (AutoPipelineForText2Image, {}),
        (StableDiffusionXLPipeline, {}),
        (DiffusionPipeline, {"torch_dtype": torch.bfloat16}),
    ],
)
def test_the_shipped_pipeline_makes_an_image_however_it_is_loaded(kind, how):
    pipe = kind.from_pretrained(ROOT / "data/models/diffuser", **how)
    pipe.set_progress_bar_config(disable=True)
    projector = NoiseProjector.from_pretrained(ROOT / "data/models/projector")
    latents = projector.latents(pipe, "a red circle", 7)
    made = pipe("a red circle", latents=latents, num_inference_steps=2, output_type="np").images
    assert made.shape == (1, 128, 128, 3)
