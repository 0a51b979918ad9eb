"""What a start does not wait for."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(code, **env):
    """This code in a process of its own, as here everything is imported already."""
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in ("OMP_WAIT_POLICY", "GRADIO_TEMP_DIR")
    } | env
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )


START = """
import json, sys
from studio.environment import prepare
prepare()
from studio.interface import build
from studio.studio import Studio
from studio.pages.shared import Loading
studio = Studio()
page = build(studio, Loading(studio))
from gradio import component_meta
print(json.dumps({"imported": sorted(name for name in sys.modules if "." not in name),
    "stubs": component_meta.create_or_modify_pyi.__module__, "blocks": len(page.blocks)}))
"""


def test_the_page_is_built_without_the_libraries_of_the_models_and_without_stubs_for_editors(tmp_path):
    done = run(START, STUDIO_HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["blocks"] > 100
    assert not {"diffusers", "transformers", "peft", "scipy", "skimage"} & set(found["imported"])
    assert found["stubs"] != "gradio.component_meta"


def test_a_folder_for_downloads_that_is_not_this_accounts_ends_the_start_with_a_sentence(tmp_path):
    """And threads that wait give way, unless one chose otherwise."""

    def start(**env):
        names = "'OMP_WAIT_POLICY', 'GRADIO_TEMP_DIR'"
        code = f"import os; from studio.environment import prepare; prepare(); print(*(os.environ[n] for n in ({names})))"
        return run(code, STUDIO_HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path), **env)

    policy, folder = start().stdout.split()
    folder = Path(folder)
    assert policy == "PASSIVE" and folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    assert start(OMP_WAIT_POLICY="ACTIVE").stdout.split()[0] == "ACTIVE"
    folder.rmdir()
    folder.symlink_to(tmp_path)
    done = start()
    assert done.returncode == 1 and "another account" in done.stderr and "GRADIO_TEMP_DIR" in done.stderr
