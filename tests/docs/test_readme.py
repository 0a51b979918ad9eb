"""The README is tested like code: its front matter, its commands, its tables and what it points to."""

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
from studio.__main__ import PROGRAM, Parser
from studio.cli.arguments import parser
from studio.cli.commands import choices
from studio.cli.shipping import checked_options
from studio.experiments import check_experiment
from studio.settings import SETTINGS, settings_table
from studio.training.configs import EVALUATIONS, FIELDS, check_benchmark, check_config, check_evaluation

ROOT = Path(__file__).resolve().parents[2]
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
SHELLS = {"", "bash", "sh", "shell", "console"}


@pytest.fixture(scope="module")
def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def front(readme):
    matter = re.match(r"---\n(.*?)\n---\n", readme, re.DOTALL)
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
    """Every shell command of the README, in blocks and in single backticks, split into words."""
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
        given = parser(Parser, PROGRAM).parse_args(words[3:])
        if given.command == "train":
            check_config(given.kind, choices(given.set))
        elif given.command == "evaluate":
            check_evaluation(given.kind, choices(given.set))
        elif given.command == "benchmark":
            check_benchmark(choices(given.set))
        elif given.command == "experiment":
            check_experiment({"name": given.name, **choices(given.set)})
        elif given.command == "pretrain":
            checked_options(given.stage, choices(given.set))
    elif words[:2] == ["python", "-m"]:
        ours = (ROOT / words[2].replace(".", "/")).with_suffix(".py").is_file()
        assert ours or words[2] in ("venv", "pip", "pytest"), f"no such module: {words[2]}"
    elif words[0] in ("python", "bash"):
        assert (ROOT / words[1]).is_file(), f"no such file: {words[1]}"


def command_names():
    """The words that lead to each command, such as ("train", "reward")."""
    names = []
    for action in parser(Parser, PROGRAM)._subparsers._group_actions:
        for name, command in action.choices.items():
            inner = command._subparsers
            below = [n for a in inner._group_actions for n in a.choices] if inner else []
            names += [(name, other) for other in below] or [(name,)]
    return names


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


def test_the_two_commands_that_begin_are_there(readme):
    found = [bare(words) for words in commands(readme)]
    assert ["pip", "install", "-r", "requirements.txt"] in found and ["python", "app.py"] in found
    assert ["bash", "tests/run"] in found


def test_every_command_could_run(readme):
    wrong = []
    for words in commands(readme):
        try:
            check(words)
        except (SystemExit, ValueError, AssertionError) as error:
            wrong.append(f"{shlex.join(words)}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", command_names(), ids=" ".join)
def test_every_command_says_what_it_takes(name, capsys):
    with pytest.raises(SystemExit) as done:
        parser(Parser, PROGRAM).parse_args([*name, "--help"])
    assert done.value.code == 0 and "--json" in capsys.readouterr().out


def test_the_command_line_answers_without_loading_a_model():
    code = "import sys; from studio.__main__ import main\ntry: main(['runs', '--help'])\nexcept SystemExit: pass\n"
    code += "print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "False"


def test_the_table_of_settings_is_the_one_in_the_code(readme):
    assert settings_table() in readme


def test_every_figure_names_the_command_that_gives_it(readme):
    rows, at = [], None
    for line in readme.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if not line.startswith("|"):
            at = None
        elif at is None:
            at = next(
                (i for i, cell in enumerate(cells) if cell.lower() in ("command", "commands", "how")), -1
            )
        elif at >= 0 and not set(line) <= set("|-: "):
            rows.append((cells[0], cells[at]))
    assert len(rows) >= 7, "a table with a column 'command' holds the measured figures"
    for figure, command in rows:
        assert re.search(r"`(python|bash) [^`]+`", command), f"{figure} names no command"


def test_every_endpoint_is_listed_and_those_of_administrators_are_marked(readme):
    from studio.api import endpoints
    from tests.security.test_endpoints import ADMINS

    (section,) = re.findall(r"^## From scripts and agents\n(.*?)^## ", readme, re.DOTALL | re.MULTILINE)
    table = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    listed = re.findall(r"`(\w+)`(\*?)", table)
    known = {work.__name__.rstrip("_") for work, _ in endpoints(None, None)}
    assert {name for name, _ in listed} == known and len(listed) == len(known)
    assert {name for name, mark in listed if mark} == set(ADMINS)


def test_all_kinds_of_training_and_evaluation_are_documented(readme):
    for name in (*FIELDS, *EVALUATIONS):
        assert re.search(rf"\b{name}\b", readme), name


def test_what_the_readme_points_to_is_there(readme):
    targets = re.findall(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)", readme) + re.findall(
        r'(?:src|href)="([^"]+)"', readme
    )
    local = [target.partition("#")[0] for target in targets if not re.match(r"https?://|#|mailto:", target)]
    assert [target for target in local if not (ROOT / target).exists()] == []
    pictures = [ROOT / target for target in local if target.endswith((".png", ".webp", ".jpg"))]
    assert pictures and all(picture.stat().st_size < 10_000_000 for picture in pictures)


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
    """The README's own lines, run as they stand; those of a sampler that draws noise with such a one."""
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
