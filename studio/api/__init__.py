"""The studio for scripts and agents: named endpoints (``gradio_client``), each a tool where MCP is on.

An endpoint is a function with types and a docstring: the types are its schema, the docstring is what ``/?view=api`` and
an agent read of it. Behind each stands what stands behind the page: the same checks of every value, the same names and
keys, the same bounds for visitors. What goes wrong is answered by a sentence.

What was said of words needs no model, so those endpoints answer at once, past the queue; what computes shares the
page's one place at the models.
"""

from importlib.util import find_spec
from typing import Any

import gradio as gr

from studio.api.answers import plainly
from studio.api.images import Images
from studio.api.labels import Labelling
from studio.api.training import Training
from studio.service import Studio
from studio.settings import Settings
from studio.tabs.shared import MODELS, Loading

NO_MCP = 'STUDIO_MCP is yes, but the package "mcp" is not installed: pip install "mcp>=1.21,<2", or set it to auto or no.'


def register(studio: Studio, loading: Loading) -> None:
    """All endpoints, in the page that is being built."""
    images, labels, training = Images(studio, loading), Labelling(studio), Training(studio)
    quick = {"queue": False}
    work = {"concurrency_id": MODELS, "concurrency_limit": 1}
    heavy = {"concurrency_id": "files", "concurrency_limit": 1}
    endpoints: list[tuple[Any, dict[str, Any]]] = [
        (images.compare, work),
        (images.sample, quick),
        (images.image, quick),
        (images.search, quick),
        (images.export, heavy),
        (images.start_grid, quick),
        (images.grid, quick),
        (images.stop_grid, quick),
        (labels.sign_in, quick),
        (labels.next_item, quick),
        (labels.set_score, quick),
        (labels.clear_score, quick),
        (labels.accept, quick),
        (labels.undo, quick),
        (labels.submit, quick),
        (labels.skip, quick),
        (labels.flag, quick),
        (labels.note, quick),
        (labels.progress, quick),
        (labels.history, quick),
        (training.status, quick),
        (training.runs, quick),
        (training.run, quick),
        (training.start_training, quick),
        (training.stop_training, quick),
        (training.resume_training, quick),
        (training.promote, quick),
        (training.rollback, quick),
    ]
    for work_of, how in endpoints:
        gr.api(plainly(work_of), api_name=work_of.__name__, **how)


def mcp(settings: Settings) -> bool:
    """Whether the endpoints are to be MCP tools as well; ValueError where they are to be and cannot."""
    installed = find_spec("mcp") is not None
    if settings.mcp == "yes" and not installed:
        raise ValueError(NO_MCP)
    return installed and settings.mcp != "no"
