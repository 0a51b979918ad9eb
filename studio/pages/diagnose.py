"""The page Diagnose: start, watch and stop the paper's experiments, and read their reports.

An experiment is a background job (``studio.training.runs``); what is shown is read from the store and the folders of runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from core.jsonfile import read
from studio.components import notices, report
from studio.components.table import Table, rows
from studio.experiments import EXPERIMENTS
from studio.pages import runs as listing
from studio.pages import shared
from studio.pages.memory import Memory
from studio.pages.people import Rights
from studio.pages.shared import ASKED, Update, shows_errors
from studio.studio import Studio

EMPTY = "No experiment was run yet. Choose a question and start it: its report is kept here."
GONE = "The report of this run is no longer in its folder, or cannot be read. Start the experiment again."
FILES = {"report.html": "Download the report", "report.json": "Download its data"}


def build(studio: Studio, selected: gr.Tab, memory: Memory, rights: Rights) -> listing.Opener:
    """The tab; returns how a run is opened in it."""
    who, chosen, drawn = memory.who, gr.State(""), listing.drawn()
    opened = gr.Textbox(
        visible=False
    )  # the run whose report is open; a State's change is lost outside the queue
    first = next(iter(EXPERIMENTS))

    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            which = gr.Radio(
                [(one.title, name) for name, one in EXPERIMENTS.items()],
                value=first,
                label="Which experiment",
                elem_id="experiment",
            )
            question = shared.html(_question(first))
            forms, settings, defaults = {}, {}, studio.models.sampling()
            with gr.Accordion("Settings", open=False, elem_id="experiment-settings"):
                for name, one in EXPERIMENTS.items():
                    with gr.Column(visible=name == first) as forms[name]:
                        settings[name] = {
                            field: listing.setting(
                                field,
                                replace(spec, default=defaults.get(field, spec.default)),
                                f"experiment-{name}-{field}",
                            )
                            for field, spec in one.fields.items()
                        }
            start = gr.Button("Start the experiment", variant="primary", elem_id="start-experiment")
            rights.admins()  # start is off while something is on, too: see() has it
            elsewhere = shared.html(elem_id="diagnose-elsewhere")
            with gr.Column(visible=False) as list_of_runs:
                table = Table(caption="Experiments, the newest first", elem_id="experiments")
        with gr.Column(scale=8, min_width=320):
            with gr.Column(visible=True) as nothing:
                shared.html(notices.empty(EMPTY))
            with gr.Column(visible=False) as card:
                head = listing.card_head("experiment", "Go on", "resume-experiment")
                with gr.Row(visible=False) as files:
                    downloads = [
                        gr.DownloadButton(label, size="sm", elem_id=f"download-{name.rpartition('.')[2]}")
                        for name, label in FILES.items()
                    ]

            @gr.render(inputs=opened, triggers=[opened.change], show_progress="hidden")
            @shows_errors
            def draw(run: Any) -> None:
                if run:
                    _report(studio, run)

    every = [field for form in settings.values() for field in form.values()]
    tab = listing.Tab(True, chosen, drawn, elsewhere, nothing, card, *head, list_of_runs, table)
    all_parts = [*tab.parts, files, *downloads, opened, start]

    def live(state: dict[str, Any]) -> Update:
        """A run's report."""
        run, done = state["run"], state["state"] == "done"
        paths = _files(studio, run) if done else [None] * len(FILES)
        return {
            # a report has its own title
            tab.title: "" if any(paths) else listing.title(_name(run), run, state_id="experiment-state"),
            files: gr.update(visible=any(paths)),
            **{
                part: gr.update(value=path, visible=path is not None)
                for part, path in zip(downloads, paths, strict=True)
            },
            opened: run["id"] if done else "",
        }

    def see(asked: Any, known: Any, may: bool) -> Update:
        """The page as the store has it; nothing where it is what ``known`` says is drawn already. may: of an
        administrator, or where everyone is."""
        seen = listing.seen(studio, True, asked)
        stamp = listing.digest([seen.shown, seen.states, may, listing.stamp(seen.state)])
        if stamp == known:
            return gr.skip()
        return {
            **tab.shown(seen, may, stamp, _table(seen.runs, seen.shown)),
            **(live(seen.state) if seen.state else {}),
            start: gr.update(interactive=may and not seen.active),
        }

    @shows_errors
    def begin(profile: gr.OAuthProfile | None, kept: Any, name: Any, *given: Any) -> Update:
        shared.admin(studio, kept, profile)
        if name not in EXPERIMENTS:
            raise ValueError("That experiment is not known: choose one that is listed.")
        values = dict(zip(every, given, strict=True))
        config = {field: values[part] for field, part in settings[name].items()}
        return see(studio.runs.start("experiment", {"name": name, **config}), "", True)

    def explain(name: Any) -> Update:
        return {
            question: _question(name),
            **{form: gr.update(visible=name == one) for one, form in forms.items()},
        }

    which.input(explain, which, [question, *forms.values()], **ASKED)
    for name, form in settings.items():
        if "size" in form:
            form["size"].input(_sizes(name, form), form["size"], list(form.values()), **ASKED)
    start.click(begin, [who, which, *every], all_parts, **ASKED)
    return listing.wire(studio, selected, memory, tab, see, all_parts)


def _question(name: str) -> str:
    return notices.quiet(EXPERIMENTS[name].question)


def _sizes(name: str, form: dict[str, Any]) -> Callable[[Any], Update]:
    """What choosing a size does: it fills in the settings of that size, which can then be changed."""
    full = {setting: getattr(field, "full", None) for setting, field in EXPERIMENTS[name].fields.items()}
    small = {setting: field.default for setting, field in EXPERIMENTS[name].fields.items()}

    def fill(size: Any) -> Update:
        sizes = full if size == "full" else small
        return {form[setting]: sizes[setting] for setting, value in full.items() if value is not None}

    return fill


def _files(studio: Studio, run: dict[str, Any]) -> list[str | None]:
    """Copies of a report's files that may be served, as the folder itself is blocked; None for a missing one."""
    paths: list[str | None] = []
    for name in FILES:
        path = studio.runs.folder(run["id"]) / name
        kept = f"{_named(run)}-{run['id']}.{name.rpartition('.')[2]}"
        try:
            paths.append(save_bytes_to_cache(path.read_bytes(), kept, get_upload_folder()))
        except OSError:
            paths.append(None)
    return paths


def _report(studio: Studio, run_id: Any) -> None:
    """The parts of a report, added to the page. run_id came over HTTP: only one that the store has is a folder's name."""
    try:
        path = studio.runs.folder(studio.runs.get(run_id)["id"]) / "report.json"
        content = read(path)
    except (OSError, ValueError):
        shared.html(notices.notice(GONE, problem=True))
        return
    with gr.Column(elem_classes="report", elem_id="report"):
        shared.html(report.head(content, 3))
        for place, (title, plot, _) in enumerate(report.figures(content)):
            shared.html(f'<section class="report-part"><h4>{escape(title)}</h4></section>')
            gr.Plot(plot, label=title, show_label=False, elem_id=f"report-plot-{place}")
            shared.html(report.under(content, place))
        shared.html(report.tail(content, 3))


def _named(run: dict[str, Any]) -> str:
    """The experiment's name, for a file name."""
    name = run["config"].get("name")
    return name if name in EXPERIMENTS else "experiment"


def _name(run: dict[str, Any]) -> str:
    one = EXPERIMENTS.get(run["config"].get("name"))
    return one.title if one else "Experiment"


def _table(runs: list[dict[str, Any]], shown: str) -> dict[str, Any]:
    body = [[listing.when(run), _name(run), listing.badge(run)] for run in runs]
    return rows(["started", "which", "state"], body, keys=[run["id"] for run in runs], chosen=shown)
