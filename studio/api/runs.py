"""Endpoints for runs: what was trained or measured, how it compares, its card and its files, and its end."""

from typing import Annotated, Any, Literal

from studio.api.answers import FILES, columns, file
from studio.doors import ADMINISTRATORS, RunId, endpoint
from studio.exchange.publishing import packed
from studio.experiments import PAGE, REPORT, report_of
from studio.numbers import plain, whole
from studio.pages import shared
from studio.studio import Studio


@endpoint()
def runs(
    studio: Studio,
    kind: Annotated[
        str | None, "only this kind: cycle, reward, projector, calibrator, lora, experiment, ..."
    ] = None,
    state: Annotated[
        Literal["queued", "running", "stopped", "interrupted", "done", "failed"] | None, "only in this state"
    ] = None,
    limit: Annotated[int, "runs in the answer, 200 at most"] = 20,
) -> list[dict[str, Any]]:
    """Training runs and experiments, the newest first.

    Returns: runs: [{id, kind, state, promoted, parent, message, created, finished}]
    """
    listed = studio.runs.find(kind=kind, state=state, limit=whole("limit", limit, 1, 200))
    return columns(listed, "id kind state promoted parent message created finished")


@endpoint()
def run(studio: Studio, run: RunId) -> dict[str, Any]:
    """One run, how far it is, where it comes from and what came of it.

    Returns: id, kind, state, stage, step, total, left: seconds or null, metrics: the latest, message, promoted, config, results: its held-out result and the like, labels: that it saw, parents: ids, the nearest first, children: ids, promotions: [{action, who, created}], bytes: of its files or null, part_of: the loop that it belongs to or null, samples: methods for start_grid that show the projector before and after it
    """
    status, page = studio.runs.status(run), studio.runs.page(run)
    row = status["run"]
    names = "id kind state stage step total left metrics message".split()
    return {name: status[name] for name in names} | {
        "promoted": row["promoted"],
        "config": row["config"],
        "results": row["metrics"] or {},
        "labels": row["labels"] or {},
        "parents": [one["id"] for one in page["parents"]],
        "children": [one["id"] for one in page["children"]],
        "promotions": columns(page["promotions"], "action who created"),
        "bytes": page["bytes"],
        "part_of": page["part_of"],
        "samples": studio.runs.sample_methods(run),
    }


@endpoint()
def curves(
    studio: Studio, run: RunId, limit: Annotated[int, "reports in the answer, 5000 at most"] = 500
) -> list[dict[str, Any]]:
    """What a run reported as it went on, the latest last.

    Returns: reports: [{stage, step, total, left, metrics}]
    """
    return plain(studio.runs.status(run, whole("limit", limit, 1, 5000))["history"])


@endpoint()
def compare_runs(
    studio: Studio, run: Annotated[str, "a run's id"], other: Annotated[str, "another one's"]
) -> dict[str, Any]:
    """How two runs differ in their settings and labels, and their held-out results.

    Returns: runs: the two ids; settings: [{name, values, differ}]; labels: of each, how many by source; events: score events between their labels, or null; heldout: the result of each, or null; comparable: whether both were judged on the same prompts and seeds by the same judge; why: the sentence where they were not
    """
    compared = studio.runs.compare(run, other)
    return plain({**compared, "runs": [one["id"] for one in compared["runs"]]})


@endpoint()
def model_card(studio: Studio, run: RunId) -> str:
    """The model card of a run, in Markdown with the Hub's front matter.

    Returns: the card
    """
    return studio.runs.model_card(run)


@endpoint(line=FILES)
def download_run(studio: Studio, run: RunId) -> dict[str, Any]:
    """A run's checkpoint, verified, with its model card.

    Returns: the zip
    """
    with shared.room() as made:
        return file(studio.runs.pack(run, made))


@endpoint(line=FILES)
def download_published(
    studio: Studio, run: Annotated[str, "the run's id; '' is the projector in use"] = ""
) -> dict[str, Any]:
    """A projector as others use it without the studio: for diffusers' modular and custom pipelines, and for ComfyUI.

    Returns: the zip
    """
    with shared.room() as made:
        return file(packed(studio, run, made))


@endpoint(line=FILES)
def report(
    studio: Studio,
    run: RunId,
    format: Annotated[Literal["html", "json"], "html (opens offline) or json (its data)"] = "html",
) -> dict[str, Any]:
    """The report of an experiment that is done.

    Returns: the file
    """
    done = studio.runs.get(run)
    report_of(studio, done)
    if format not in ("html", "json"):
        raise ValueError("A report is there as html and as json: choose one of them.")
    return file(studio.runs.folder(done["id"]) / (REPORT if format == "json" else PAGE))


@endpoint(ADMINISTRATORS)
def delete_run(
    studio: Studio,
    run: RunId,
    sure: Annotated[bool, "true, as what is deleted is gone"] = False,
    who: str = "",
) -> dict[str, Any]:
    """Delete a run's files; what it was and its results stay. Refused for what is on, in use or part of a loop.

    Returns: run: the id; bytes: that are free again
    """
    if not sure:
        raise ValueError("Say that you are sure (sure: true): what is deleted is gone.")
    return {"run": run, "bytes": studio.runs.delete(run, who)}
