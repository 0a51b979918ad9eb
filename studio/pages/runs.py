"""Helpers of the tabs that start jobs, Train and Diagnose: form fields of settings, the card and the list of runs.

Nothing is kept here: it is read from the store and from the folders of runs, so that a page that is reloaded, or
another one, shows the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from studio.components import notices, table
from studio.components.table import Table, picked
from studio.pages import shared
from studio.pages.memory import Memory
from studio.pages.shared import ASKED, QUICK, Update, admin, manages, shows_errors
from studio.studio import Studio
from studio.times import moment
from studio.training.configs import Field
from studio.training.results import IN_NATS

See = Callable[[Any, Any, bool], Update]
ACTIVE = ("queued", "running")
TONES = {"done": "good", "failed": "bad", "interrupted": "bad", "running": "now", "queued": "now"}
SECONDS = 1.5  # between two looks at the store
LIMIT = 20
SEEN = 200  # runs that are looked through for those of one tab


@dataclass(frozen=True)
class Opener:
    """How another tab opens a run in this one: ``open(its id, whether this visitor may manage runs)`` gives an update of
    ``outputs``."""

    outputs: list[Any]
    open: Callable[[str, bool], Update]


@dataclass(frozen=True)
class Seen:
    """What a tab shows of the store: its runs, the newest first; all active runs of either sort; the run that is
    shown, '' for none; and the ``Runs.status`` of that one."""

    runs: list[dict[str, Any]]
    active: list[dict[str, Any]]
    shown: str
    state: dict[str, Any] | None

    @property
    def states(self) -> list[tuple[str, str, str]]:
        return [(run["id"], run["state"], run["message"]) for run in [*self.runs, *self.active]]


@dataclass(frozen=True)
class Tab:
    """The parts that Train and Diagnose share: the list of runs, and the card of the run that is chosen."""

    experiments: bool
    chosen: gr.State
    drawn: gr.Textbox
    elsewhere: gr.HTML
    nothing: gr.Column
    card: gr.Column
    title: gr.HTML
    progress: gr.HTML
    stop: gr.Button
    resume: gr.Button
    listed: gr.Column
    table: Table

    @property
    def parts(self) -> list[Any]:
        return [self.chosen, self.drawn, self.elsewhere, self.nothing, self.card, self.title, self.progress, self.stop,
                self.resume, self.listed, self.table]  # fmt: skip

    def shown(self, seen: Seen, may: bool, stamp: str, table: dict[str, Any]) -> Update:
        """The parts as the store has them, but for the title; may: whether this visitor may stop and resume."""
        update: Update = {
            self.chosen: seen.shown,
            self.drawn: stamp,
            self.elsewhere: elsewhere(seen.active, self.experiments),
            self.nothing: gr.update(visible=not seen.shown),
            self.card: gr.update(visible=bool(seen.shown)),
            self.listed: gr.update(visible=bool(seen.runs)),
            self.table: table,
        }
        if seen.state:
            state = seen.state["state"]
            update[self.progress] = how_far(seen.state)
            update[self.stop] = gr.update(visible=may and state in ACTIVE)
            update[self.resume] = gr.update(visible=may and state in ("stopped", "interrupted", "failed"))
        return update


def card_head(name: str, resume: str, resume_id: str) -> tuple[gr.HTML, gr.HTML, gr.Button, gr.Button]:
    """The top of a run's card: title, progress, Stop and Resume."""
    title, progress = shared.html(elem_id=f"{name}-title"), shared.html(elem_id=f"{name}-progress")
    with gr.Row():
        stop = gr.Button("Stop", variant="stop", visible=False, elem_id=f"stop-{name}")
        return title, progress, stop, gr.Button(resume, variant="primary", visible=False, elem_id=resume_id)


def seen(studio: Studio, experiments: bool, asked: Any) -> Seen:
    """The run that is asked for, else an active one, else the newest."""
    runs, active = listed(studio, experiments, asked)
    ids = [run["id"] for run in runs]
    shown = asked if asked in ids else ([run["id"] for run in active if run["id"] in ids] or ids or [""])[0]
    return Seen(runs, active, shown, studio.runs.status(shown) if shown else None)


def started(run: dict[str, Any]) -> bool:
    """Whether a user started it, that is neither what the project ships nor a part of a loop."""
    return run["config"].get("source") != "shipped" and "cycle" not in run["config"]


def listed(
    studio: Studio, experiments: bool, asked: Any = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(the newest experiments or trainings, all active runs of either sort); one at a time is active. Where the run
    ``asked`` for, by its id, is an older one of that sort, it is the last."""
    runs = [run for run in studio.runs.find(limit=SEEN) if started(run)]
    mine = [run for run in runs if (run["kind"] == "experiment") == experiments]
    newest = mine[:LIMIT]
    if asked and asked not in [run["id"] for run in newest]:
        newest += _older(studio, experiments, asked)
    return newest, [run for run in runs if run["state"] in ACTIVE]


def _older(studio: Studio, experiments: bool, asked: Any) -> list[dict[str, Any]]:
    """This run, where the tab can show it."""
    try:
        run = studio.runs.get(asked)
    except ValueError:  # it came over HTTP, or is of a store that was replaced
        return []
    mine = (run["kind"] == "experiment") == experiments
    return [run] if mine and started(run) and not run["archived"] else []


def elsewhere(active: list[dict[str, Any]], experiments: bool) -> str:
    """A notice of what is active in the other tab, or ''."""
    other = [run for run in active if (run["kind"] == "experiment") != experiments]
    if not other:
        return ""
    what, where = (
        (f"A {other[0]['kind']} training", "Train") if experiments else ("An experiment", "Diagnose")
    )
    return notices.notice(f"{what} is on ({other[0]['id']}): wait for it, or stop it in the tab {where}.")


def setting(name: str, field: Field, elem_id: str) -> Any:
    """The form field of a setting."""
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
    """A progress bar while it is active, else why it ended before it was done. state: of ``Runs.status``."""
    if state["state"] in ACTIVE:
        words = "Starting" if not state["total"] else f"{state['stage']}: {state['step']} of {state['total']}"
        words = ", ".join(part for part in (words, notices.left(state["left"])) if part)
        return notices.bar(state["step"] / max(1, state["total"]), words)
    problem = state["message"] if state["state"] in ("failed", "interrupted", "stopped") else ""
    return notices.notice(problem, state["state"] != "stopped")


def wire(
    studio: Studio,
    selected: gr.Tab,
    memory: Memory,
    tab: Tab,
    see: See,
    outputs: list[Any],
) -> Opener:
    """The events that both tabs have: opening the tab, polling, choosing a run, Stop and Resume. see(run, what is
    drawn, may) is the page with that run, for one who may start and stop, or may not."""
    who = memory.who
    shown = [tab.chosen, tab.drawn, who]

    @shows_errors
    def tick(run: Any, known: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
        return see(run, known, manages(studio, kept, profile))

    @shows_errors
    def pick(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> Update:
        return see(picked(event._data), "", manages(studio, kept, profile))

    @shows_errors
    def halt(run: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
        admin(studio, kept, profile)
        studio.runs.stop(run)
        gr.Info("The run stops after the step it is in; what it has done is kept.", duration=5)
        return see(run, "", True)

    @shows_errors
    def go_on(run: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
        admin(studio, kept, profile)
        studio.runs.resume(run)
        return see(run, "", True)

    tab.table.pick(pick, who, outputs, **ASKED)
    tab.stop.click(halt, [tab.chosen, who], outputs, **ASKED)
    tab.resume.click(go_on, [tab.chosen, who], outputs, **ASKED)
    gr.Timer(SECONDS).tick(tick, shown, outputs, **QUICK)
    selected.select(tick, shown, outputs, js=memory.known(shown), **QUICK)
    return Opener(outputs, lambda run, may: see(run, "", may))


def when(run: Mapping[str, Any]) -> str:
    return moment(run["created"])


def change(run: Mapping[str, Any]) -> str:
    """Its held-out change of words, for a cell of a table; '' where nothing was held out."""
    heldout = (run["metrics"] or {}).get("heldout") or {}
    value = (heldout.get("difference", {}).get("words") or {}).get("estimate")
    if value is None:
        return ""
    return f"{value:+.3f} nats" if heldout["of"] in IN_NATS else f"{100 * value:+.1f} points"


def badge(run: Mapping[str, Any]) -> dict[str, str]:
    """Its state as a cell of a table."""
    return table.badge(run["state"], TONES.get(run["state"], "plain"))


def use(run: Mapping[str, Any]) -> Any:
    """Whether it is in use, as a cell of a table."""
    return table.badge("in use", "good") if run["promoted"] else ""


def drawn() -> gr.Textbox:
    """The digest of what a page has drawn. The browser keeps it, as only it knows: answers can come in another order
    than they were given, and a ``gr.State``, which the server keeps, would then speak of one that is no longer
    shown."""
    return gr.Textbox(visible=False)


def digest(what: Any) -> str:
    """A hash of anything that is JSON: another one means that something is to be drawn anew."""
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def stamp(state: dict[str, Any] | None) -> list[Any]:
    """What a page shows of a run's progress; while it is the same, nothing need be drawn anew."""
    return [] if state is None else [state["stage"], state["step"], len(state["history"])]
