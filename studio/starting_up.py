"""What must be so before the page is imported: an environment with settings that can be used and a cache that can be
written. Imports nothing heavy."""

from __future__ import annotations

import os
import sys

from studio import places
from studio.settings import ROOT, Settings


def prepare() -> None:
    """Check the settings and complete the environment; ends the process with a sentence where a setting is wrong."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        settings = Settings.from_env()
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except ValueError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(
            f"The folder {settings.home} cannot be made ({error.strerror}): set STUDIO_HOME to another one."
        )
    if not settings.home.is_relative_to(ROOT):
        print(f"Images and corrections are kept in {settings.home}.", file=sys.stderr, flush=True)
    cache = places.hub_cache(os.environ, settings.home)
    if cache:
        os.environ["HF_HOME"] = cache
