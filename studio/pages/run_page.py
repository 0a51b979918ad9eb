"""The parts of a run's card in Train beside its result: settings and labels, family, another run, model card, delete."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from studio.components import figures, notices
from studio.components.table import Table, rows
from studio.pages import runs as listing
from studio.pages import shared
from studio.pages.rights import Rights
from studio.pages.shared import told
from studio.studio import Studio
from studio.training.results import IN_NATS
from studio.training.runs import changed

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunPage:
    """``outputs`` are filled by ``values(run id)``; ``delete`` may be pressed once ``sure`` is checked."""

    outputs: list[Any]
    values: Any
    sure: gr.Checkbox
    delete: gr.Button


def build(studio: Studio, chosen: gr.State, rights: Rights) -> RunPage:
    """The tabs after Result; chosen holds the run's id."""
    with gr.Tab("Settings", id="run-settings"):
        settings = Table(caption="Settings, those that were chosen first", elem_id="run-settings")
        labels = shared.html(elem_id="run-labels")
    with gr.Tab("Family", id="run-family"):
        parents = Table(caption="Where it comes from, the nearest first", elem_id="run-parents")
        children = Table(caption="What came of it", elem_id="run-children")
        events = Table(caption="When it was put into use", elem_id="run-events")
    with gr.Tab("Compare", id="run-compare"):
        other = gr.Dropdown([], value=None, label="Another run", elem_id="other-run", interactive=True)
        verdict = shared.html(elem_id="runs-verdict")
        plot = gr.Plot(show_label=False, visible=False, elem_id="runs-heldout")
        differences = Table(caption="", elem_id="runs-differences")
    with gr.Tab("Card", id="run-card-text"):
        with gr.Row():
            pack = gr.DownloadButton(
                "Download model and card", elem_id="pack-run", variant="primary", visible=False
            )
            packed = gr.DownloadButton(visible="hidden", elem_id="packed-run")
        text = gr.Markdown(elem_id="model-card", sanitize_html=True)
        with gr.Accordion("Delete this run", open=False, elem_id="run-delete"):
            what = shared.html(elem_id="delete-what")
            sure = gr.Checkbox(label="Yes, delete its files", value=False, elem_id="delete-sure")
            delete = gr.Button("Delete this run", variant="stop", interactive=False, elem_id="delete-run")
            rights.admins(sure)

    outputs = [settings, labels, parents, children, events, other, verdict, plot, differences, pack, text, what,
               sure, delete]  # fmt: skip

    def values(run_id: str) -> list[Any]:
        page = studio.runs.page(run_id)
        run, compared = page["run"], _others(studio, run_id)
        done = run["state"] == "done" and bool(run["checkpoint_sha256"])
        return [
            _settings(page["settings"]),
            _labels(run),
            _runs(page["parents"], "It began from what the project ships."),
            _runs(page["children"], "Nothing was trained from it."),
            _events(page["promotions"]),
            gr.update(choices=compared, value=None, visible=bool(compared)),
            "" if compared else notices.empty("There is no other run to compare it with yet."),
            gr.update(visible=False),
            rows([], []),
            gr.update(visible=done),
            _card(studio, run_id),
            _what(page),
            False,
            gr.update(interactive=False),
        ]

    @told
    def compare(run: Any, with_run: Any) -> list[Any]:
        if not isinstance(with_run, str) or not with_run:
            return ["", gr.update(visible=False), rows([], [])]
        found = studio.runs.compare(run, with_run)
        drawn = (
            figures.two_runs([r["id"] for r in found["runs"]], found["heldout"])
            if found["comparable"]
            else None
        )
        return [
            notices.notice(_verdict(found)),
            gr.update(value=drawn, visible=drawn is not None),
            _differences(found),
        ]

    @told
    def make_pack(run: Any) -> Any:
        with shared.room() as folder:
            return shared.download(studio.runs.pack(run, folder))

    other.input(compare, [chosen, other], [verdict, plot, differences], **shared.ASKED)
    pack.click(make_pack, chosen, packed, **shared.ASKED).success(
        None, None, None, js="() => document.querySelector('#packed-run')?.click()"
    )
    sure.input(lambda certain: gr.update(interactive=certain is True), sure, delete, **shared.ASKED)
    return RunPage(outputs, values, sure, delete)


def size(count: int) -> str:
    """Bytes as people say them."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.0f} kB"


def _others(studio: Studio, run_id: str) -> list[tuple[str, str]]:
    found, _ = listing.listed(studio, experiments=False)
    return [(f"{r['kind']} {r['id']}, {listing.when(r)}", r["id"]) for r in found if r["id"] != run_id]


def _card(studio: Studio, run_id: str) -> str:
    """The model card without its front matter. One that cannot be written must not take the whole page with it."""
    try:
        return studio.runs.model_card(run_id).split("\n---\n", 1)[1]
    except Exception:
        LOG.exception("the model card of run %s", run_id)
        return "The model card could not be written; the server's log says why. All else of the run is as it stands."


def _value(value: Any) -> str:
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value)


def _settings(settings: list[dict[str, Any]]) -> dict[str, Any]:
    body = []
    for s in changed(settings):
        own = s["default"] is not None and s["value"] != s["default"]
        default = {"text": f"default {_value(s['default'])}", "tone": "now"} if own else ""
        body.append(("", [s["name"].replace("_", " "), _value(s["value"]), s["meaning"], default]))
    return rows(["setting", "value", "meaning", ""], body, empty="It has no settings of its own.")


def _labels(run: dict[str, Any]) -> str:
    found = run["labels"]
    if not found:
        return ""
    by = ", ".join(f"{count} by {source}" for source, count in sorted(found.get("sources", {}).items()))
    rule = f" Of several people: {found['rule']}." if found.get("rule") else ""
    words = (
        f"It saw {found.get('count', 'some')} word labels ({by or 'none'}), all events up to number {found.get('last', '?')}."
        f"{rule} The snapshot's sha256 begins with {found.get('sha256', '?')[:12]}."
    )
    metrics = run["metrics"] or {}
    notes = [metrics.get("note"), (metrics.get("calibrator") or {}).get("note")]
    said = "".join(f'<p class="quiet">{escape(note)}</p>' for note in dict.fromkeys(notes) if note)
    return f'<p class="quiet">{escape(words)}</p>{said}'


def _runs(found: list[dict[str, Any]], empty: str) -> dict[str, Any]:
    body = []
    for run in found:
        state = {"text": "deleted", "tone": "bad"} if run["archived"] else listing.badge(run)
        use = {"text": "in use", "tone": "good"} if run["promoted"] else ""
        body.append(("", [run["id"], run["kind"], state, listing.when(run), use]))
    return rows(["run", "what", "state", "started", ""], body, empty=empty)


def _events(events: list[dict[str, Any]]) -> dict[str, Any]:
    said = {"promote": "put into use", "rollback": "in use again, as what came after it was rolled back"}
    body = [("", [listing.when(e), said[e["action"]], e["who"]]) for e in events]
    return rows(["when", "what", "who"], body, empty="It was never in use.")


def _what(page: dict[str, Any]) -> str:
    run = page["run"]
    if page["part_of"]:
        return notices.notice(f"It is a part of the loop {page['part_of']}, and is deleted with it.")
    if run["promoted"]:
        return notices.notice("It is in use: roll it back before it can be deleted.")
    words = (
        f"{size(page['bytes'] or 0)} of files: the model, its training states and its curves. What the run was, which "
        "labels it saw and its held-out result stay in the store, as samples and other runs name it."
    )
    return f'<p class="quiet">{escape(words)}</p>'


def _verdict(found: dict[str, Any]) -> str:
    if not found["comparable"]:
        return found["why"]
    one, other = found["heldout"]
    if one["of"] in IN_NATS:
        scale, unit = 1, "nats a word"
    else:
        scale, unit = 100, "points of words that hold"
    change = scale * (one["after"]["words"]["estimate"] - other["after"]["words"]["estimate"])
    a, b = (run["id"] for run in found["runs"])
    return (
        f"On the same held-out {one['of']}, judged by the {one['judge']}, {a} is {abs(change):.{1 if scale == 100 else 3}f} "
        f"{unit} {'above' if change >= 0 else 'below'} {b}; the intervals below say how sure that is."
    )


def _differences(found: dict[str, Any]) -> dict[str, Any]:
    body = [
        ("", [s["name"].replace("_", " "), *map(_value, s["values"]), {"text": "differs", "tone": "now"} if s["differ"] else ""])
        for s in sorted(found["settings"], key=lambda s: not s["differ"])
    ]  # fmt: skip
    sources = dict.fromkeys(source for counts in found["labels"] for source in sorted(counts))
    for source in sources:
        pair = [str(counts.get(source, 0)) for counts in found["labels"]]
        differ = {"text": "differs", "tone": "now"} if pair[0] != pair[1] else ""
        body.append(("", [f"labels by {source}", *pair, differ]))
    return rows(["setting", *(run["id"] for run in found["runs"]), ""], body)
