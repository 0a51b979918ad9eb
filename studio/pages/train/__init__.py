"""The page Train: train reward model and projector from labels, see the held-out result, promote or roll back.

A training is a background job (``studio.training.runs``). The page polls the store, so that one that is reloaded, or
another one, shows the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gradio as gr

from studio.components import figures, notices
from studio.components.table import Table, heads, number, rows
from studio.pages import runs as listing
from studio.pages import shared
from studio.pages.memory import Memory
from studio.pages.people import Rights
from studio.pages.shared import ASKED, Update, shows_errors
from studio.pages.train import run as run_page
from studio.pages.train import samples as run_samples
from studio.studio import Studio
from studio.training.configs import FIELDS
from studio.training.results import IN_NATS, by_whom

KINDS = {
    "cycle": ("The whole loop", "corrections → calibrator → reward model → projector → held-out result"),
    "reward": ("Reward model", "learns from the labels how well each word will show, from the noise alone"),
    "projector": ("Projector", "learns to move the noise where the reward model in use expects more"),
    "calibrator": ("Calibrator", "learns from the corrections where the VLM is wrong"),
}
ROUND = "Next round: make images with the new projector"
TITLES = {**{name: title for name, (title, _) in KINDS.items()}, "round": "Next round"}
SOURCES = [
    ("Corrections, else the VLM's scores", "all"),
    ("Corrections only", "corrections"),
    ("The VLM's scores only", "vlm"),
]
# the heads of the settings, and how the names of those begin that stand there
LAST = "Where it begins"
GROUPS: dict[str, tuple[str, ...]] = {
    "Labels": ("corrections_needed", "correction_weight", "replay", "calibrated"),
    "Reward model": ("foresight_", "reader_", "reward_", "judged_share", "pictures"),
    "Projector": ("projector_", "tau", "shared", "prompts", "warmup_"),
    "Held-out result": ("heldout_", "steps", "guidance"),
    LAST: (),
}
EMPTY = "Nothing is trained yet. Correct some words, then start the whole loop: it takes some minutes."


def build(
    studio: Studio, selected: gr.Tab, memory: Memory, rights: Rights
) -> tuple[gr.Button, listing.Opener]:
    """The tab; returns the button that leads to the corrections, and how a run is opened."""
    who, chosen, drawn = memory.who, gr.State(""), listing.drawn()

    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            kind = gr.Radio(
                [(title, name) for name, (title, _) in KINDS.items()],
                value="cycle",
                label="What to train",
                elem_id="kind",
            )
            meaning = gr.Markdown(KINDS["cycle"][1], elem_classes="quiet")
            source = gr.Dropdown(SOURCES, value="all", label="From which labels", elem_id="sources")
            labels = shared.html(elem_id="labels")
            with gr.Accordion("More settings", open=False):
                defaults = studio.runs.defaults("cycle")
                settings, heads = {}, {}
                with gr.Column(elem_id="settings"):
                    for group, names in _groups(FIELDS["cycle"]).items():
                        heads[group] = gr.Markdown(f"**{group}**", elem_classes="quiet")
                        for name in names:
                            field = replace(FIELDS["cycle"][name], default=defaults[name][0])
                            settings[name] = listing.setting(name, field, f"setting-{name}")
            start = gr.Button("Start training", variant="primary", elem_id="start")
            rights.admins()  # start and roll back are off while something is on, too: see() has them
            elsewhere = shared.html(elem_id="train-elsewhere")
            again = gr.Button(ROUND)
            shared.html(
                '<p class="quiet">With the projector in use, on training prompts: what it has learned wrong shows only in '
                "images that it makes. Correct them, then train again.</p>"
            )
        with gr.Column(scale=8, min_width=320):
            with gr.Column(visible=True) as nothing:
                shared.html(notices.empty(EMPTY))
                annotate = gr.Button("Correct some words", elem_classes="action", elem_id="to-annotate")
            with gr.Column(visible=False) as card:
                head = listing.card_head("run", "Resume", "resume")
                with gr.Tabs(elem_id="run-tabs"):
                    with gr.Tab("Result", id="run-result"):
                        plot = gr.Plot(show_label=False, visible=False, elem_id="curves")
                        with gr.Row():
                            result = gr.Plot(
                                show_label=False, visible=False, elem_id="heldout", min_width=300
                            )
                            gain = gr.Plot(show_label=False, visible=False, min_width=340)
                        verdict = shared.html(elem_id="verdict")
                        with gr.Row(visible=False) as decision:
                            promote = gr.Button("Promote", variant="primary", elem_id="promote")
                            force = gr.Checkbox(
                                label="even if it is worse", value=False, elem_id="force", min_width=120
                            )
                            rights.admins(promote, force)
                        seeds = shared.html()
                    samples = run_samples.build(studio, chosen, who)
                    more = run_page.build(studio, chosen, rights)
            with gr.Column(visible=False) as list_of_runs:
                gr.Markdown("### Runs")
                table = Table(caption="", elem_id="runs")
                with gr.Row():
                    back = gr.Button("Roll back the last promotion", size="sm", elem_id="rollback")
                rights.admins()

    tab = listing.Tab(False, chosen, drawn, elsewhere, nothing, card, *head, list_of_runs, table)
    all_parts = [*tab.parts, labels, plot, result, gain, verdict, decision, seeds, *samples.outputs, *more.outputs, start,
                 again, back]  # fmt: skip

    def live(state: dict[str, Any]) -> Update:
        """A run's result."""
        run, done = state["run"], state["state"] == "done"
        heldout = (run["metrics"] or {}).get("heldout")
        plots = {
            plot: figures.curves(state["history"]),
            result: figures.heldout(heldout) if heldout else None,
            gain: figures.change(heldout) if heldout else None,
        }
        promotable = done and run["kind"] not in ("warmup", "round") and not run["promoted"]
        return {
            tab.title: _title(run),
            **{part: gr.update(value=figure, visible=figure is not None) for part, figure in plots.items()},
            verdict: _verdict(studio, run) if done else "",
            decision: gr.update(visible=promotable),
            seeds: run_page.result_html(studio, run) if done else "",
        }

    def see(asked: Any, known: Any, may: bool) -> Update:
        """The page as the store has it; nothing where it is what ``known`` says is drawn already. may: of an
        administrator, or where everyone is."""
        seen, counts = listing.seen(studio, False, asked), studio.status()
        promoted = [run["id"] for run in seen.runs if run["promoted"]]
        still = listing.digest([seen.shown, promoted, may, seen.states])
        stored = f"{counts['scored']} scored images and {counts['corrections']} corrected words in the store."
        stamp = f"{still} {listing.digest([stored, listing.stamp(seen.state)])}"
        if stamp == known:
            return gr.skip()
        free = gr.update(interactive=may and not seen.active)
        update = {
            **tab.shown(seen, may, stamp, _table(seen.runs, seen.shown)),
            labels: notices.quiet(stored),
            start: free,
            again: free,
            back: gr.update(interactive=may and bool(promoted)),
        }
        if seen.state:
            update |= live(seen.state)
        if seen.shown and not (isinstance(known, str) and known.startswith(still)):
            update |= {**samples.values(seen.shown), **more.values(seen.shown)}
        return update

    @shows_errors
    def begin(profile: gr.OAuthProfile | None, kept: Any, kind: Any, source: Any, *given: Any) -> Update:
        shared.admin(studio, kept, profile)
        asked = {"sources": source, **dict(zip(settings, given, strict=True))}
        fields = FIELDS.get(kind, {})
        run = studio.runs.start(kind, {name: value for name, value in asked.items() if name in fields})
        return see(run, "", True)

    @shows_errors
    def next_round(profile: gr.OAuthProfile | None, kept: Any) -> Update:
        shared.admin(studio, kept, profile)
        return see(studio.runs.start("round"), "", True)

    @shows_errors
    def put_into_use(run: Any, force: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
        studio.runs.promote(run, shared.admin(studio, kept, profile), force=force is True)
        gr.Info("It is in use now: Compare shows what it does.", duration=6)
        return see(run, "", True)

    @shows_errors
    def roll_back(run: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
        """Roll back the newest promotion, a whole loop with all its parts."""
        name = shared.admin(studio, kept, profile)
        events = studio.store.runs.promotions(limit=listing.LIMIT)
        last = next((event for event in events if _in_use(studio, event)), None)
        if last is None:
            raise ValueError("Nothing was promoted; what the project ships is in use.")
        studio.runs.rollback(last["kind"], name)
        gr.Info("What was in use before is in use again.", duration=6)
        return see(run, "", True)

    @shows_errors
    def remove(run: Any, certain: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
        if certain is not True:
            raise ValueError("Check the box first: what is deleted is gone.")
        freed = studio.runs.delete(run, shared.admin(studio, kept, profile))
        gr.Info(f"The run is deleted; {run_page.size(freed)} are free again.", duration=6)
        return see("", "", True)

    def explain(kind: Any) -> Update:
        wanted = FIELDS.get(kind, {})
        groups = _groups(wanted)
        return {
            meaning: KINDS[kind][1],
            source: gr.update(visible="sources" in wanted),
            **{part: gr.update(visible=name in wanted) for name, part in settings.items()},
            **{part: gr.update(visible=group in groups) for group, part in heads.items()},
        }

    kind.input(explain, kind, [meaning, source, *settings.values(), *heads.values()], **ASKED)
    start.click(begin, [who, kind, source, *settings.values()], all_parts, **ASKED)
    again.click(next_round, who, all_parts, **ASKED)
    promote.click(put_into_use, [chosen, force, who], all_parts, **ASKED)
    back.click(roll_back, [chosen, who], all_parts, **ASKED)
    more.delete.click(remove, [chosen, more.sure, who], all_parts, **ASKED)
    return annotate, listing.wire(studio, selected, memory, tab, see, all_parts)


def _groups(wanted: Mapping[str, Any]) -> dict[str, list[str]]:
    """The settings under the headings of the form, each once, what belongs nowhere else last."""
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name in wanted:
        if name != "sources":
            groups[next((g for g, names in GROUPS.items() if name.startswith(names)), LAST)].append(name)
    return {group: names for group, names in groups.items() if names}


def _title(run: dict[str, Any]) -> str:
    use = '<span class="badge good">in use</span>' if run["promoted"] else ""
    return listing.title(TITLES.get(run["kind"], run["kind"].capitalize()), run, use)


def _verdict(studio: Studio, run: dict[str, Any]) -> str:
    """The held-out result in a sentence, and whether promoting would be refused."""
    heldout = (run["metrics"] or {}).get("heldout")
    if run["kind"] == "round":
        return notices.notice((run["metrics"] or {}).get("note", ""))
    said = []
    if heldout:
        said.append(f"On what was not trained on, judged by {by_whom(heldout)}: {_change(heldout)}")
        if not heldout["independent"]:
            said.append("The labels come from the same judge, so this is no independent result.")
    why = "" if run["promoted"] else studio.runs.why_not(run) or ""
    said.append("It is in use." if run["promoted"] else why)
    return notices.notice(" ".join(filter(None, said)), problem=bool(why))


def _change(heldout: dict[str, Any]) -> str:
    """The change from before to after, and whether it is clear of chance."""
    change, shares = heldout["difference"]["words"], heldout["of"] not in IN_NATS
    scale, unit, digits = (100, "points", 1) if shares else (1, "nats a word", 3)
    much = f"{scale * change['estimate']:+.{digits}f} {unit}"
    if not figures.bounded(change):
        return f"{much}; how sure that is was not worked out."
    clear = change["low"] > 0 or change["high"] < 0
    return f"{much} [{scale * change['low']:+.{digits}f}, {scale * change['high']:+.{digits}f}], " + (
        "clear of no difference." if clear else "which is no clear difference."
    )


def _table(runs: list[dict[str, Any]], shown: str) -> dict[str, Any]:
    head, body = heads("started", "what", "state", "#held-out change", ""), []
    for run in runs:
        kind, change = TITLES.get(run["kind"], run["kind"]), number(listing.change(run))
        body.append([listing.when(run), kind, listing.badge(run), change, listing.use(run)])
    return rows(head, body, keys=[run["id"] for run in runs], chosen=shown)


def _in_use(studio: Studio, event: dict[str, Any]) -> bool:
    """Whether a promotion event is a promotion that still stands."""
    used = studio.store.runs.promoted(event["kind"]) if event["action"] == "promote" else None
    return used is not None and used["id"] == event["run"]
