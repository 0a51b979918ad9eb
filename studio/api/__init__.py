"""The studio for scripts and agents: named endpoints (``gradio_client``), each a tool where MCP is on.

An endpoint is a function with types and a docstring: the types are its schema, the docstring is what ``/endpoints#api`` and
an agent read of it. Behind each stands what stands behind the page: the same checks of every value, the same names and
keys, the same bounds for visitors. What goes wrong is answered by a sentence.

What was said of words needs no model, so those endpoints answer at once, past the queue; what computes shares the
page's one place at the models.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import gradio as gr

from studio.access.waiting import CARRYING, MODELS
from studio.api.answers import plainly
from studio.api.exchange import Carrying
from studio.api.grids import Gridding
from studio.api.images import Images
from studio.api.labels import Labelling
from studio.api.quality import Quality
from studio.api.runs import Runs
from studio.api.training import Training
from studio.pages.shared import Loading
from studio.settings import Settings
from studio.studio import Studio

NO_MCP = 'STUDIO_MCP is yes, but the package "mcp" is not installed: pip install "mcp>=1.21,<2", or set it to auto or no.'


def endpoints(studio: Studio, loading: Loading) -> list[tuple[Callable[..., Any], dict[str, Any]]]:
    """Every endpoint, and how it waits for its turn."""
    images, labels, grids = Images(studio, loading), Labelling(studio), Gridding(studio)
    carrying, quality, runs, training = Carrying(studio), Quality(studio), Runs(studio), Training(studio)
    quick = {"queue": False}
    work = {"concurrency_id": MODELS, "concurrency_limit": 1}
    files = {"concurrency_id": "files", "concurrency_limit": 1}
    carried = {"concurrency_id": CARRYING, "concurrency_limit": 1}
    counted = {"concurrency_id": "figures", "concurrency_limit": 2}
    return [
        (images.compare, work),
        (images.sample, quick),
        (images.image, quick),
        (images.read_image, quick),
        (images.search, quick),
        (images.choices, quick),
        (images.sample_history, quick),
        (grids.grid_methods, quick),
        (grids.start_grid, quick),
        (grids.grids, quick),
        (grids.grid, quick),
        (grids.stop_grid, quick),
        (grids.resume_grid, quick),
        (grids.grid_zip, files),
        (grids.next_vote, quick),
        (grids.cast_vote, quick),
        (grids.votes, quick),
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
        (quality.agreement, counted),
        (quality.annotator, counted),
        (quality.gold, quick),
        (quality.set_gold, quick),
        (quality.people, quick),
        (quality.release_name, quick),
        (carrying.export, carried),
        (carrying.import_, carried),
        (carrying.push, carried),
        (carrying.backups, quick),
        (carrying.backup, carried),
        (carrying.download_backup, carried),
        (carrying.restore, carried),
        (carrying.restore_file, carried),
        (carrying.audit, quick),
        (carrying.webhook, quick),
        (training.status, quick),
        (training.kinds, quick),
        (training.start_training, quick),
        (training.start_experiment, quick),
        (training.stop_training, quick),
        (training.resume_training, quick),
        (training.promote, quick),
        (training.rollback, quick),
        (runs.runs, quick),
        (runs.run, quick),
        (runs.curves, quick),
        (runs.compare_runs, quick),
        (runs.model_card, quick),
        (runs.download_run, files),
        (runs.report, files),
        (runs.delete_run, quick),
    ]


def register(studio: Studio, loading: Loading) -> None:
    """All endpoints, in the page that is being built."""
    for work_of, how in endpoints(studio, loading):
        endpoint = plainly(work_of)
        gr.api(endpoint, api_name=endpoint.__name__, **how)


def mcp(settings: Settings) -> bool:
    """Whether the endpoints are to be MCP tools as well; ValueError where they are to be and cannot."""
    installed = find_spec("mcp") is not None
    if settings.mcp == "yes" and not installed:
        raise ValueError(NO_MCP)
    return installed and settings.mcp != "no"
