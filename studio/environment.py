"""The process's environment before the page is imported: valid settings, writable folders, and a Gradio that writes
nothing beside its own sources. Imports nothing heavy."""

from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from studio.access import places
from studio.settings import ROOT, Settings


def prepare() -> None:
    """Check the settings and complete the environment; ends the process with a sentence for a wrong setting."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    # torch's waiting threads sleep, and leave the cores to the browser, the server and a training beside it: on two cores
    # with the browser a grid takes .6 of the time, alone an image 1.07
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not any(isinstance(finder, WithoutStubs) for finder in sys.meta_path):
        sys.meta_path.insert(0, WithoutStubs())
    try:
        settings = Settings.from_env()
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if settings.home == places.temporary():
            places.claim(settings.home)
    except ValueError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(
            f"The folder {settings.home} cannot be used ({error.strerror}): set STUDIO_HOME to another one."
        )
    if not settings.home.is_relative_to(ROOT):
        print(f"Images and corrections are kept in {settings.home}.", file=sys.stderr, flush=True)
    if not os.environ.get("GRADIO_TEMP_DIR"):
        shown = places.transient(settings.home)
        try:
            places.claim(shown)
        except OSError as error:
            sys.exit(
                f"The folder {shown} cannot be used ({error.strerror}): set GRADIO_TEMP_DIR to a folder of yours."
            )
        os.environ["GRADIO_TEMP_DIR"] = str(shown)
    cache = places.hub_cache(os.environ, settings.home)
    if cache:
        os.environ["HF_HOME"] = cache


class WithoutStubs(MetaPathFinder):
    """An importer without which Gradio (6.31) writes a type stub for editors beside the source of each component at every
    import: a sixth of a start, and of no use to a server."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == "gradio.component_meta" else None
        loader: Any = spec.loader if spec else None
        if loader is None:
            return None
        run = loader.exec_module

        def exec_module(module: Any) -> None:
            run(module)
            module.create_or_modify_pyi = lambda *_: None

        loader.exec_module = exec_module
        return spec
