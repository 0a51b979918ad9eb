"""The house keeps its shape: what stands at the top, how large the weights are, what no file may say or ask."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOP = {"app.py", "requirements.txt", "README.md", "studio", "core", "data", "tests"}
MEGABYTE = 10**6


def tracked() -> list[Path]:
    """The files of the repository; without git (an archive), all that is not hidden."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        found = [p for p in ROOT.rglob("*") if not any(x.startswith(".") for x in p.relative_to(ROOT).parts)]
    return [p for p in found if p.is_file() and "__pycache__" not in p.parts]


def test_only_the_agreed_names_stand_at_the_top_and_the_weights_are_small_enough_for_the_repository():
    visible = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {name for name in visible if not name.startswith(".")} <= TOP
    sizes = {p: p.stat().st_size for p in tracked() if ROOT / "data" / "models" in p.parents}
    assert [str(p.relative_to(ROOT)) for p, size in sizes.items() if size >= 10 * MEGABYTE] == []
    assert sum(sizes.values()) < 40 * MEGABYTE


def machine_paths() -> set[bytes]:
    """Folders that exist only where this runs."""
    common = {"", "/", "/tmp", "/usr", "/usr/local", "/opt", "/var", "/srv", "/mnt", "/home", "/app"}
    here = {str(ROOT), str(ROOT.parent), str(Path.home())}
    if sys.prefix != sys.base_prefix:
        here |= {sys.prefix, os.path.dirname(sys.prefix)}
    return {f"{folder}/".encode() for folder in here - common}


def test_no_file_names_a_path_of_the_machine_it_was_made_on():
    patterns = {folder: rb"(?<![\w.])" + re.escape(folder) for folder in machine_paths()}
    patterns |= {folder: rb"(?<![\w.])" + folder + rb"[a-z][\w.-]+/" for folder in (b"/home/", b"/Users/")}
    patterns[rb":\Users" + b"\\"] = rb"[A-Z]:\\Users\\"
    for path in tracked():
        content = path.read_bytes()
        for text, pattern in patterns.items():
            match = text in content and re.search(pattern, content)  # the text is found much faster
            assert not match, f"{path.relative_to(ROOT)} names {match.group().decode(errors='replace')}"


# names by which a test could tell one kind of backbone from another
BACKBONE = re.compile(
    r"sdxl|stable.?diffusion|sd_?[123]|turbo|lightning|lcm|tcd|flux|unet2d|transformer2d|pipeline_?class|pipe\b.*(__class__|__name__)",
    re.IGNORECASE,
)
ASKING = {"isinstance", "issubclass", "hasattr", "startswith", "endswith", "match", "search", "fullmatch"}


def test_only_the_descriptions_of_families_know_one_backbone_from_another():
    for path in (ROOT / "core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            name = getattr(called, "attr", getattr(called, "id", ""))
            if path.name != "families.py" and (isinstance(node, (ast.Compare, ast.Match)) or name in ASKING):
                text = ast.unparse(node)
                assert not BACKBONE.search(text), (
                    f"{path}:{node.lineno} asks which backbone it has: {text[:80]}"
                )
