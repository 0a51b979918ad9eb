"""What a start does not wait for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# in a process of its own, as here everything is imported already
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
    env = {**os.environ, "STUDIO_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", START], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["blocks"] > 100
    assert not {"diffusers", "transformers", "peft", "scipy", "skimage"} & set(found["imported"])
    assert found["stubs"] != "gradio.component_meta"


@pytest.mark.parametrize(("own", "kept"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_give_way_unless_one_chose_otherwise(tmp_path, own, kept):
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    env |= {"STUDIO_HOME": str(tmp_path / "home"), **({"OMP_WAIT_POLICY": own} if own else {})}
    asked = (
        "import os; from studio.environment import prepare; prepare(); print(os.environ['OMP_WAIT_POLICY'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == kept


def test_a_folder_for_downloads_that_is_not_this_accounts_ends_the_start_with_a_sentence(tmp_path):
    env = {name: value for name, value in os.environ.items() if name != "GRADIO_TEMP_DIR"}
    env |= {"STUDIO_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}
    asked = (
        "import os; from studio.environment import prepare; prepare(); print(os.environ['GRADIO_TEMP_DIR'])"
    )

    def start():
        return subprocess.run(
            [sys.executable, "-c", asked], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )

    folder = Path(start().stdout.strip())
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    folder.symlink_to(tmp_path)
    done = start()
    assert done.returncode == 1 and "another account" in done.stderr and "GRADIO_TEMP_DIR" in done.stderr
