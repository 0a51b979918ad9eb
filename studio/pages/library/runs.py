"""The tab Runs of the Library: all trainings and experiments by search, kind, state and order. A row opens its run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from data.store.schema import RUN_KINDS, RUN_STATES
from studio.components import notices
from studio.components.table import Table, heads, number, picked, rows
from studio.experiments import EXPERIMENTS
from studio.pages import runs as listing
from studio.pages import shared
from studio.pages.shared import ASKED, QUICK, Update, shows_errors
from studio.pages.train import TITLES
from studio.studio import Studio
from studio.training.results import IN_NATS

MOST = 5000  # runs that are looked through, the newest
SHOWN = 200  # rows of a page
LONGEST = 200  # characters of a search
ORDERS = {"newest": "Newest", "oldest": "Oldest", "change": "Best held-out change"}
HEAD = heads("what", "state", "#held-out change", "", "run", "started")
FRESH = "Nothing was trained or measured yet: begin in Train or Diagnose."
NONE = "No run matches. Take a filter away, or search for less."


def build(studio: Studio, tab: gr.Tab) -> tuple[Table, Callable[[gr.EventData], tuple[str, str]]]:
    """The panel, filled when its tab is opened; returns its table, and what reads (id, kind) of a run picked in it."""
    with gr.Row(equal_height=False):
        text = gr.Textbox(
            label="Search runs", placeholder="what it is, its id, a name or a message", max_length=LONGEST,
            elem_id="library-run-search", scale=4, min_width=200,
        )  # fmt: skip
        kind, state, order = (
            gr.Dropdown(choices, value=value, label=label, elem_id=f"library-run-{name}", scale=2, min_width=140)
            for name, label, value, choices in (
                ("kind", "What", "", [("All", ""), *((_kind(kind), kind) for kind in RUN_KINDS)]),
                ("state", "State", "", [("All", ""), *((state, state) for state in RUN_STATES)]),
                ("order", "Order", "newest", [(title, name) for name, title in ORDERS.items()]),
            )
        )  # fmt: skip
    amount = shared.html(elem_id="library-run-count")
    table = Table(caption="Runs; choose one to open it", elem_id="library-run-table")
    with gr.Row(visible=False) as paging:
        previous = gr.Button("Previous page", elem_id="library-run-previous")
        following = gr.Button("Next page", elem_id="library-run-next")
    place = gr.State(0)
    asked, page = [text, kind, state, order], [amount, table, paging, previous, following, place]

    def listed(number: int, given: tuple[Any, ...]) -> Update:
        """A page of runs; the last one where there are fewer by now."""
        all_runs = studio.runs.find(limit=MOST)
        every = [run for run in all_runs if listing.started(run)]
        matching = chosen(every, *given)
        pages = max(1, -(-len(matching) // SHOWN))
        number = min(number, pages - 1)
        shown = matching[number * SHOWN : (number + 1) * SHOWN]
        return {
            amount: count(len(matching), len(every), number, len(all_runs) == MOST),
            table: lines(shown, NONE if every else FRESH),
            paging: gr.update(visible=pages > 1),
            previous: gr.update(interactive=number > 0),
            following: gr.update(interactive=number < pages - 1),
            place: number,
        }

    def turned(by: int) -> Callable[..., Update]:
        return shows_errors(lambda number, *given: listed(max(0, number + by), given))

    @shows_errors
    def first(*given: Any) -> Update:
        return listed(0, given)

    def pick_run(event: gr.EventData) -> tuple[str, str]:
        run = studio.runs.get(picked(event._data))
        return run["id"], run["kind"]

    tab.select(first, asked, page, **QUICK)
    text.change(first, asked, page, trigger_mode="multiple", **QUICK)
    for part in (kind, state, order):
        part.input(first, asked, page, **ASKED)
    following.click(turned(1), [place, *asked], page, **ASKED)
    previous.click(turned(-1), [place, *asked], page, **ASKED)
    return table, pick_run


def _kind(kind: str) -> str:
    return TITLES.get(kind, kind.capitalize())


def what(run: Mapping[str, Any]) -> str:
    """The title of a run, as Train and Diagnose show it."""
    one = EXPERIMENTS.get(run["config"].get("name")) if run["kind"] == "experiment" else None
    return one.title if one else _kind(run["kind"])


def chosen(
    runs: Sequence[Mapping[str, Any]], text: Any = "", kind: Any = "", state: Any = "", order: Any = "newest"
) -> list[Mapping[str, Any]]:
    """The runs that contain every word of the text and are of the kind and in the state where these are given, the
    newest first; ValueError for an unknown kind, state or order. By held-out change: points before nats, as the
    two cannot be compared, without runs that have no result."""
    if not isinstance(text or "", str) or len(text or "") > LONGEST:
        raise ValueError(f"Search for a text of at most {LONGEST} characters.")
    if kind and kind not in RUN_KINDS or state and state not in RUN_STATES or order not in ORDERS:
        raise ValueError("Choose a kind, a state and an order of those that are listed.")
    words = (text or "").casefold().split()
    matching = [
        run
        for run in runs
        if (not kind or run["kind"] == kind)
        and (not state or run["state"] == state)
        and all(word in _searched(run) for word in words)
    ]
    if order == "change":
        return sorted((run for run in matching if listing.change(run)), key=_by_change)
    return matching[::-1] if order == "oldest" else matching


def _searched(run: Mapping[str, Any]) -> str:
    name = str(run["config"].get("name") or "")
    return " ".join([run["id"], run["kind"], what(run), name, run["state"], run["message"] or ""]).casefold()


def _by_change(run: Mapping[str, Any]) -> tuple[bool, float]:
    heldout = run["metrics"]["heldout"]
    return heldout["of"] in IN_NATS, -heldout["difference"]["words"]["estimate"]


def count(matching: int, every: int, page: int, older: bool) -> str:
    """How many match, of how many, and which page this is; older: whether there are runs that were not searched."""
    if not every:
        return ""
    of = f" of the newest {every:,}" if older else f" of {every:,}" if matching != every else ""
    at = f", page {page + 1}" if matching > SHOWN else ""
    return f'<p class="library-count" role="status">{notices.counted(matching, "run")}{of}{at}.</p>'


def lines(runs: Sequence[Mapping[str, Any]], empty: str) -> dict[str, Any]:
    """A row per run; the column of messages is there only where one of them has any."""
    said = any(run["message"] for run in runs)
    body = []
    for run in runs:
        change = number(listing.change(run) or "–")
        cells = [what(run), listing.badge(run), change, listing.use(run), run["id"], listing.when(run)]
        body.append([*cells, run["message"]] if said else cells)
    head, keys = [*HEAD, "message"] if said else HEAD, [run["id"] for run in runs]
    return rows(head, body, keys=keys, empty=empty)
