"""What the tabs that start jobs share: the form of a setting, how a run stands, and what else is on.

Nothing is kept here: it is read from the store and from the folders of runs, so that a page that is reloaded, or
another one, shows the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from studio.components import notices
from studio.components.table import picked
from studio.pages.shared import admin, manages, told
from studio.studio import Studio
from studio.times import moment
from studio.training.configs import Field
from studio.training.results import IN_NATS

See = Callable[..., list[Any]]
ON = ("queued", "running")
TONES = {"done": "good", "failed": "bad", "interrupted": "bad", "running": "now", "queued": "now"}
SECONDS = 1.5  # between two looks at the store
LIMIT = 20
SEEN = 200  # runs that are looked through for those of one tab


@dataclass(frozen=True)
class Opener:
    """How another tab opens a run in this one: ``open(its id, whether this visitor may manage runs)`` are the values of ``outputs``."""

    outputs: list[Any]
    open: Callable[[str, bool], list[Any]]


def started(run: dict[str, Any]) -> bool:
    """Whether a user started it: neither what the project ships nor a part of a loop."""
    return run["config"].get("source") != "shipped" and "cycle" not in run["config"]


def listed(
    studio: Studio, experiments: bool, asked: Any = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(the newest experiments or trainings, all runs of either sort that are on); one at a time is on. Where the run
    ``asked`` for, by its id, is an older one of that sort, it is the last."""
    runs = [run for run in studio.runs.find(limit=SEEN) if started(run)]
    mine = [run for run in runs if (run["kind"] == "experiment") == experiments]
    newest = mine[:LIMIT]
    if asked and asked not in [run["id"] for run in newest]:
        newest += _older(studio, experiments, asked)
    return newest, [run for run in runs if run["state"] in ON]


def _older(studio: Studio, experiments: bool, asked: Any) -> list[dict[str, Any]]:
    """This run, where the tab can show it."""
    try:
        run = studio.runs.get(asked)
    except ValueError:  # it came over HTTP, or is of a store that was replaced
        return []
    mine = (run["kind"] == "experiment") == experiments
    return [run] if mine and started(run) and not run["archived"] else []


def elsewhere(on: list[dict[str, Any]], experiments: bool) -> str:
    """A notice of what is on in the other tab, or ''."""
    other = [run for run in on if (run["kind"] == "experiment") != experiments]
    if not other:
        return ""
    what, where = (
        (f"A {other[0]['kind']} training", "Train") if experiments else ("An experiment", "Diagnose")
    )
    return notices.notice(f"{what} is on ({other[0]['id']}): wait for it, or stop it in the tab {where}.")


def setting(name: str, field: Field, elem_id: str) -> Any:
    """The part of a form for one setting."""
    shared: dict[str, Any] = {
        "value": field.default,
        "label": name.replace("_", " ").capitalize(),
        "info": field.meaning,
        "elem_id": elem_id,
    }
    if isinstance(field.default, bool):
        return gr.Checkbox(**shared)
    if isinstance(field.default, str):
        choices = [choice for choice in field.bounds if isinstance(choice, str)]
        return gr.Dropdown(choices, **shared) if choices else gr.Textbox(max_length=2000, **shared)
    # without bounds: Gradio's own refusal names no field, Field.check's does and says what may be given
    return gr.Number(**shared, precision=0 if isinstance(field.default, int) else None)


def title(what: str, run: dict[str, Any], more: str = "", state_id: str = "run-state") -> str:
    """The heading of a run's card: what it is, its id and its state. more: markup that comes after."""
    state = run["state"]
    return (
        f'<h3 class="run-name">{escape(what)} <code>{escape(run["id"])}</code> '
        f'<span class="badge {TONES.get(state, "")}" id="{state_id}">{escape(state)}</span> {more}</h3>'
    )


def how_far(state: dict[str, Any]) -> str:
    """A bar while it is on, else why it ended before it was done. state: of ``Runs.status``."""
    if state["state"] in ON:
        words = "Starting" if not state["total"] else f"{state['stage']}: {state['step']} of {state['total']}"
        words = ", ".join(part for part in (words, notices.left(state["left"])) if part)
        return notices.bar(state["step"] / max(1, state["total"]), words)
    problem = state["message"] if state["state"] in ("failed", "interrupted", "stopped") else ""
    return notices.notice(problem, state["state"] != "stopped")


def buttons(state: str, may: bool) -> list[Any]:
    """Updates of Stop and of Resume, which only those see who may press them."""
    ended = state in ("stopped", "interrupted", "failed")
    return [gr.update(visible=may and state in ON), gr.update(visible=may and ended)]


def stop(studio: Studio, run: Any) -> None:
    studio.runs.stop(run)
    gr.Info("The run stops after the step it is in; what it has done is kept.", duration=5)


def handlers(studio: Studio, see: See) -> tuple[See, See, See]:
    """What choosing a run in the table, Stop and Go on do; see(run, "", may) is the page with that run, for one who may
    start and stop, or may not. Choosing takes who asks; Stop and Go on take the run as well."""

    @told
    def pick(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> list[Any]:
        return see(picked(event._data), "", manages(studio, kept, profile))

    @told
    def halt(run: Any, kept: Any, profile: gr.OAuthProfile | None) -> list[Any]:
        admin(studio, kept, profile)
        stop(studio, run)
        return see(run, "", True)

    @told
    def go_on(run: Any, kept: Any, profile: gr.OAuthProfile | None) -> list[Any]:
        admin(studio, kept, profile)
        studio.runs.resume(run)
        return see(run, "", True)

    return pick, halt, go_on


def when(run: dict[str, Any]) -> str:
    return moment(run["created"])


def change(run: dict[str, Any]) -> str:
    """Its held-out change of words, as a cell of a table says it; '' where nothing was held out."""
    heldout = (run["metrics"] or {}).get("heldout")
    value = (heldout["difference"].get("words") or {}).get("estimate") if heldout else None
    if value is None:
        return ""
    return f"{value:+.3f} nats" if heldout["of"] in IN_NATS else f"{100 * value:+.1f} points"


def badge(run: dict[str, Any]) -> dict[str, str]:
    """Its state as a cell of a table."""
    return {"text": run["state"], "tone": TONES.get(run["state"], "plain")}


def drawn() -> gr.Textbox:
    """What a page has drawn, as ``digest`` has it. The browser keeps it, as only it knows: answers can come in another order
    than they were given, and a ``gr.State``, which the server keeps, would then tell of one that is no longer shown."""
    return gr.Textbox(visible=False)


def digest(what: Any) -> str:
    """What tells that something else is to be drawn. what: anything that is JSON."""
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def stamp(state: dict[str, Any] | None) -> list[Any]:
    """What of a run's progress a page shows: as long as it is the same, nothing need be drawn anew."""
    return [] if state is None else [state["stage"], state["step"], len(state["history"])]
