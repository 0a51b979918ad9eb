"""The tabs of a run's card in Train: settings and labels, family, comparison with another run, model card, delete."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from studio.components import figures, notices
from studio.components.table import Table, badge, rows
from studio.components.thumbnails import thumbnail
from studio.exchange import publishing
from studio.pages import runs as listing
from studio.pages import shared
from studio.pages.people import Rights
from studio.pages.shared import ASKED, Update, shows_errors
from studio.pages.train.samples import pictures
from studio.studio import Studio
from studio.training.results import IN_NATS, PICTURES, learned_said, seeds_said
from studio.training.runs import PROJECTS, changed
from studio.training.sampled import left_out_said, replay_said

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
        labels = shared.html()
    with gr.Tab("Family", id="run-family"):
        parents = Table(caption="Where it comes from, the nearest first")
        children = Table(caption="What came of it")
        events = Table(caption="When it was put into use")
    with gr.Tab("Compare", id="run-compare"):
        other = gr.Dropdown([], value=None, label="Another run", elem_id="other-run", interactive=True)
        verdict = shared.html()
        plot = gr.Plot(show_label=False, visible=False, elem_id="runs-heldout")
        differences = Table(caption="", elem_id="runs-differences")
    with gr.Tab("Card", id="run-card-text"):
        with gr.Row():
            pack = gr.DownloadButton(
                "Download model and card", elem_id="pack-run", variant="primary", visible=False
            )
            packed = gr.DownloadButton(visible="hidden", elem_id="packed-run")
            publish = gr.DownloadButton(
                "Download for diffusers and ComfyUI", elem_id="publish-run", visible=False
            )
            published = gr.DownloadButton(visible="hidden", elem_id="published-run")
        text = gr.Markdown(elem_id="model-card", sanitize_html=True)
        with gr.Accordion("Delete this run", open=False):
            what = shared.html()
            sure = gr.Checkbox(label="Yes, delete its files", value=False, elem_id="delete-sure")
            delete = gr.Button("Delete this run", variant="stop", interactive=False, elem_id="delete-run")
            rights.admins(sure)

    outputs = [settings, labels, parents, children, events, other, verdict, plot, differences, pack, publish, text,
               what, sure, delete]  # fmt: skip

    def values(run_id: str) -> Update:
        page = studio.runs.page(run_id)
        run, others = page["run"], _others(studio, run_id)
        there = run["state"] == "done" and bool(run["checkpoint_sha256"])
        return {
            settings: _settings(page["settings"]),
            labels: _labels(run),
            parents: _runs(page["parents"], "It began from what the project ships."),
            children: _runs(page["children"], "Nothing was trained from it."),
            events: _events(page["promotions"]),
            other: gr.update(choices=others, value=None, visible=bool(others)),
            verdict: "" if others else notices.empty("There is no other run to compare it with yet."),
            plot: gr.update(visible=False),
            differences: rows([], []),
            pack: gr.update(visible=there),
            publish: gr.update(visible=there and run["kind"] in PROJECTS),
            text: _card(studio, run_id),
            what: _what(page),
            sure: False,
            delete: gr.update(interactive=False),
        }

    @shows_errors
    def compare(run: Any, with_run: Any) -> Update:
        if not isinstance(with_run, str) or not with_run:
            return {verdict: "", plot: gr.update(visible=False), differences: rows([], [])}
        compared = studio.runs.compare(run, with_run)
        drawn = None
        if compared["comparable"]:
            drawn = figures.two_runs([r["id"] for r in compared["runs"]], compared["heldout"])
        return {
            verdict: notices.notice(_verdict(compared)),
            plot: gr.update(value=drawn, visible=drawn is not None),
            differences: _differences(compared),
        }

    @shows_errors
    def make_pack(run: Any) -> Any:
        with shared.room() as folder:
            return shared.download(studio.runs.pack(run, folder))

    @shows_errors
    def make_published(run: Any) -> Any:
        with shared.room() as folder:
            return shared.download(publishing.packed(studio, run, folder))

    other.input(compare, [chosen, other], [verdict, plot, differences], **ASKED)
    for button, make, made in ((pack, make_pack, packed), (publish, make_published, published)):
        script = f"() => document.querySelector('#{made.elem_id}')?.click()"
        button.click(make, chosen, made, **ASKED).success(None, None, None, js=script)
    sure.input(lambda certain: gr.update(interactive=certain is True), sure, delete, **ASKED)
    return RunPage(outputs, values, sure, delete)


def size(count: int) -> str:
    """A number of bytes in words."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.0f} kB"


def _others(studio: Studio, run_id: str) -> list[tuple[str, str]]:
    runs, _ = listing.listed(studio, experiments=False)
    return [(f"{r['kind']} {r['id']}, {listing.when(r)}", r["id"]) for r in runs if r["id"] != run_id]


def _card(studio: Studio, run_id: str) -> str:
    """The model card without its front matter. One that cannot be written must not take the whole page with it."""
    try:
        return studio.runs.model_card(run_id).split("\n---\n", 1)[1]
    except Exception:
        LOG.exception("the model card of run %s", run_id)
        return "The model card could not be written; the server's log says why. All else of the run is as it stands."


def _value(value: Any) -> str:
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value)


def _settings(settings: list[Mapping[str, Any]]) -> dict[str, Any]:
    body = []
    for s in changed(settings):
        chosen = s["default"] is not None and s["value"] != s["default"]
        default = badge(f"default {_value(s['default'])}", "now") if chosen else ""
        body.append([s["name"].replace("_", " "), _value(s["value"]), s["meaning"], default])
    return rows(["setting", "value", "meaning", ""], body, empty="It has no settings of its own.")


def _labels(run: dict[str, Any]) -> str:
    snapshot = run["labels"]
    if not snapshot:
        return ""
    by = ", ".join(f"{count} by {source}" for source, count in sorted(snapshot.get("sources", {}).items()))
    rule = f" Of several people: {snapshot['rule']}." if snapshot.get("rule") else ""
    words = (
        f"It saw {snapshot.get('count', 'some')} word labels ({by or 'none'}), all events up to number {snapshot.get('last', '?')}."
        f"{rule} The snapshot's sha256 begins with {snapshot.get('sha256', '?')[:12]}."
    )
    metrics = run["metrics"] or {}
    notes = [metrics.get("note"), (metrics.get("calibrator") or {}).get("note")]
    said = "".join(notices.quiet(note) for note in dict.fromkeys(notes) if note)
    return f'<p class="quiet">{escape(words)}</p>{said}'


def _runs(runs: list[dict[str, Any]], empty: str) -> dict[str, Any]:
    body = []
    for run in runs:
        state = badge("deleted", "bad") if run["archived"] else listing.badge(run)
        body.append([run["id"], run["kind"], state, listing.when(run), listing.use(run)])
    return rows(["run", "what", "state", "started", ""], body, empty=empty)


def _events(events: list[dict[str, Any]]) -> dict[str, Any]:
    said = {"promote": "put into use", "rollback": "in use again, as what came after it was rolled back"}
    body = [[listing.when(e), said[e["action"]], e["who"]] for e in events]
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
    return notices.quiet(words)


def _verdict(compared: dict[str, Any]) -> str:
    if not compared["comparable"]:
        return compared["why"]
    one, other = compared["heldout"]
    if one["of"] in IN_NATS:
        scale, unit = 1, "nats a word"
    else:
        scale, unit = 100, "points of words that hold"
    change = scale * (one["after"]["words"]["estimate"] - other["after"]["words"]["estimate"])
    a, b = (run["id"] for run in compared["runs"])
    return (
        f"On the same held-out {one['of']}, judged by the {one['judge']}, {a} is {abs(change):.{1 if scale == 100 else 3}f} "
        f"{unit} {'above' if change >= 0 else 'below'} {b}; the intervals below say how sure that is."
    )


def _differences(compared: dict[str, Any]) -> dict[str, Any]:
    differs, body = badge("differs", "now"), []
    for s in sorted(compared["settings"], key=lambda s: not s["differ"]):
        values = map(_value, s["values"])
        body.append([s["name"].replace("_", " "), *values, differs if s["differ"] else ""])
    sources = dict.fromkeys(source for counts in compared["labels"] for source in sorted(counts))
    for source in sources:
        pair = [str(counts.get(source, 0)) for counts in compared["labels"]]
        body.append([f"labels by {source}", *pair, differs if pair[0] != pair[1] else ""])
    return rows(["setting", *(run["id"] for run in compared["runs"]), ""], body)


def result_html(studio: Studio, run: dict[str, Any]) -> str:
    """The seeds that changed, with their images, and what the run learned from; '' of a run that has nothing of it."""
    metrics = run["metrics"] or {}
    heldout = metrics.get("heldout") or {}
    parts = []
    if said := seeds_said(heldout):
        first, *rest = said
        parts.append(f"<h4>{escape(first)}</h4><p>{escape(' '.join(rest))}</p>")
        parts.append(_pictures(studio, run, heldout["seeds"].get("shown") or []))
    learned = learned_said(metrics)
    if left_out := left_out_said(metrics.get("left_out") or {}):
        learned.append(left_out)
    reward = metrics["reward"] if isinstance(metrics.get("reward"), dict) else metrics
    if other_way := replay_said(reward.get("replayed") or {}, reward.get("sampling") or {}):
        learned.append(other_way)
    if learned:
        parts.append("<h4>What it learned from</h4>")
        parts.append(f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in learned)}</ul>")
    return "".join(parts)


def _pictures(studio: Studio, run: dict[str, Any], shown: list[dict[str, Any]]) -> str:
    """Images of seeds that changed, before and after; '' where their files are gone."""
    folder, rows = studio.runs.folder(run["id"]) / PICTURES, {}
    for one in shown:
        sources = {moment: thumbnail(str(folder / one[moment])) for moment in ("before", "after")}
        if all(sources.values()):
            now, tone = ("whole now", "up") if one["whole"] else ("broken now", "down")
            about = f"{escape(one['prompt'])}<br><small>seed {one['seed']}</small><br>"
            alt = escape(f"{one['prompt']}, seed {one['seed']}")
            rows[f'{about}<span class="gain {tone}">{now}</span>'] = [
                f'<img src="{source}" alt="{alt}, {moment}">' for moment, source in sources.items()
            ]
    return pictures(["before", "after"], rows, " changed") if rows else ""
