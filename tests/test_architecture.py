"""The house keeps its shape: which part may know which, what stands at the top, how large the weights are."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOP = {"app.py", "requirements.txt", "README.md", "studio", "core", "data", "tests"}
FORBIDDEN = {
    "core": {"data", "studio", "app", "gradio", "sqlite3", "sqlite_utils", "spaces", "torchvision"},
    "data": {
        "core",
        "studio",
        "app",
        "gradio",
        "torch",
        "diffusers",
        "transformers",
        "spaces",
        "torchvision",
    },
    "studio": {"app", "torchvision", "sqlite3", "sqlite_utils"},
    "tests": {"torchvision"},
}
MEGABYTE = 10**6


def tracked() -> list[Path]:
    """The files of the repository; without git (an archive), all that is not hidden."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        found = [p for p in ROOT.rglob("*") if not any(x.startswith(".") for x in p.relative_to(ROOT).parts)]
    return [p for p in found if p.is_file() and "__pycache__" not in p.parts]


def imported(path: Path) -> set[str]:
    """The top-level names of all that a file imports, also inside functions."""
    names = set()
    package = list(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            names.add([*base, *(node.module or "").split("."), *(a.name for a in node.names)][0])
    return names


@pytest.mark.parametrize("part", FORBIDDEN)
def test_a_part_imports_only_what_it_may_know(part):
    for path in (p for p in tracked() if p.suffix == ".py" and p.relative_to(ROOT).parts[0] == part):
        known = imported(path) & FORBIDDEN[part]
        assert not known, f"{path.relative_to(ROOT)} must not import {', '.join(sorted(known))}"


def test_only_the_agreed_names_stand_at_the_top():
    visible = {p.relative_to(ROOT).parts[0] for p in tracked()}
    visible = {name for name in visible if not name.startswith(".")}
    assert visible <= TOP, f"not agreed: {', '.join(sorted(visible - TOP))}"


def test_the_weights_are_small_enough_for_the_repository():
    sizes = {p: p.stat().st_size for p in tracked() if ROOT / "data" / "models" in p.parents}
    large = [str(p.relative_to(ROOT)) for p, size in sizes.items() if size >= 10 * MEGABYTE]
    assert not large, f"10 MB or more: {', '.join(large)}"
    assert sum(sizes.values()) < 40 * MEGABYTE


def machine_paths() -> set[bytes]:
    """Folders that exist only where this runs."""
    common = {"", "/", "/tmp", "/usr", "/usr/local", "/opt", "/var", "/srv", "/mnt", "/home", "/app"}
    here = {str(ROOT), str(ROOT.parent), str(Path.home())}
    if sys.prefix != sys.base_prefix:
        here |= {sys.prefix, os.path.dirname(sys.prefix)}
    return {f"{folder}/".encode() for folder in here - common}


def test_no_file_names_a_path_of_the_machine_it_was_made_on():
    homes = re.compile(rb"(?<![\w.])/(?:home|Users)/[a-z][\w.-]+/|[A-Z]:\\Users\\")
    paths = [re.compile(rb"(?<![\w.])" + re.escape(folder)) for folder in machine_paths()]
    for path in tracked():
        content = path.read_bytes()
        for pattern in [homes, *paths]:
            found = pattern.search(content)
            assert not found, f"{path.relative_to(ROOT)} names {found.group().decode(errors='replace')}"


# names by which a test could tell one kind of backbone from another
BACKBONE = re.compile(
    r"sdxl|stable.?diffusion|sd_?[123]|turbo|lightning|lcm|tcd|flux|unet2d|transformer2d|pipeline_?class|pipe\b.*(__class__|__name__)",
    re.IGNORECASE,
)
ASKING = {"isinstance", "issubclass", "hasattr", "startswith", "endswith", "match", "search", "fullmatch"}


def asked_of(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and text of every comparison and every question to a class or a name in a file."""
    found = []
    for node in ast.walk(tree):
        called = node.func if isinstance(node, ast.Call) else None
        name = getattr(called, "attr", getattr(called, "id", ""))
        if isinstance(node, (ast.Compare, ast.Match)) or name in ASKING:
            found.append((node.lineno, ast.unparse(node)))
    return found


def test_only_the_descriptions_of_families_know_one_backbone_from_another():
    core = [p for p in tracked() if p.suffix == ".py" and p.relative_to(ROOT).parts[0] == "core"]
    for path in (p for p in core if p.name != "families.py"):
        for line, text in asked_of(ast.parse(path.read_text(encoding="utf-8"))):
            told = BACKBONE.search(text)
            assert not told, f"{path.relative_to(ROOT)}:{line} asks which backbone it has: {text[:80]}"


def test_the_parts_of_the_store_and_of_the_studio_do_not_take_each_others_names(tmp_path):
    """Both are put together of classes in files of their own; a name that two of them use would be lost unseen."""
    from data.store import Store
    from studio.studio import Studio

    store = Store(tmp_path / "a.db")
    for whole, values in ((Store, vars(store)), (Studio, {})):
        owners: dict[str, list[str]] = {name: ["an instance"] for name in values}
        for part in whole.__mro__[:-1]:
            for name in vars(part):
                if not name.startswith("__"):
                    owners.setdefault(name, []).append(part.__name__)
        twice = {name: by for name, by in owners.items() if len(by) > 1}
        assert not twice, f"{whole.__name__}: {twice}"
