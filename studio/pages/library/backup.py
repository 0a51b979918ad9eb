"""The tabs Backup and Log of the Library: back up the database while it is in use, restore; webhook and audit log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from studio.components import notices
from studio.components.table import Table, heads, number, picked, rows
from studio.exchange import transfer, webhook
from studio.pages import shared
from studio.pages.library.exchange import WORK, problem
from studio.pages.people import Rights
from studio.pages.shared import ASKED, QUICK, Update, shows_errors
from studio.studio import Studio
from studio.times import moment

LINES = 30
WHAT = (
    "The database with all labels, runs and votes, as it is at this moment; people go on working meanwhile. Images and "
    "models are files beside it and not in it."
)
NO_WEBHOOK = (
    "No webhook is set. STUDIO_WEBHOOK names an https address that people's new scores are posted to."
)


def build(studio: Studio, who: gr.Textbox, rights: Rights) -> None:
    with gr.Tab("Backup", id="library-backup") as tab:
        _backup(studio, who, tab, rights)
    with gr.Tab("Log", id="library-log") as tab:
        _log(studio, who, tab)


def _backup(studio: Studio, who: gr.Textbox, tab: gr.Tab, rights: Rights) -> None:
    chosen = gr.State("")
    with gr.Row(equal_height=False):
        with gr.Column(scale=7, min_width=320):
            shared.html(notices.quiet(WHAT))
            make = gr.Button("Back up now", variant="primary", elem_id="backup-make")
            rights.admins(make)
            message = shared.html(elem_id="backup-said")
            table = Table(caption="Back-ups in the studio's folder; choose one", elem_id="backups")
            with gr.Row(visible=False) as of_one:
                fetch = gr.Button("Download")
            file = gr.File(label="To download", interactive=False, visible=False)
        with gr.Column(scale=5, min_width=300):
            gr.Markdown("### Restore")
            shared.html(
                notices.quiet(
                    "The back-up chosen in the table, or a file of yours. It is checked first; what it replaces is kept "
                    "beside the database. Not while a run or a grid is on."
                )
            )
            given = gr.File(label="A back-up of yours", file_count="single", height=120)
            sure = gr.Checkbox(
                label="Replace what is in the database now", value=False, elem_id="restore-sure"
            )
            back = gr.Button("Restore", variant="stop", interactive=False, elem_id="restore")
            rights.admins(fetch, sure)

    def listed(mine: str = "") -> dict[str, Any]:
        kept = transfer.kept_backups(studio)
        names = [one["name"] for one in kept]
        body = [[one["name"], number(f"{one['bytes'] / 1e6:.1f} MB"), moment(one["created"])] for one in kept]
        none = "There is no back-up yet."
        return rows(heads("name", "#size", "when"), body, keys=names, empty=none, chosen=mine)

    @shows_errors
    def new(kept: Any, profile: gr.OAuthProfile | None) -> Update:
        made = transfer.new_backup(studio, shared.admin(studio, kept, profile)).name
        written = notices.notice(f"Written: {made}.")
        return {message: written, table: listed(made), chosen: made, of_one: gr.update(visible=True)}

    @shows_errors
    def choose(event: gr.EventData) -> Update:
        name = transfer.backup_named(studio, picked(event._data)).name
        shown = {of_one: gr.update(visible=True), file: gr.update(visible=False)}
        return {table: listed(name), chosen: name, **shown}

    @shows_errors
    def download(name: Any, kept: Any, profile: gr.OAuthProfile | None) -> Any:
        shared.admin(studio, kept, profile)
        path = shared.download(transfer.backup_named(studio, name))
        return gr.update(value=path, visible=True)

    @shows_errors
    def restore(name: Any, path: Any, certain: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
        writer = shared.admin(studio, kept, profile)
        try:
            if certain is not True:
                raise ValueError("Tick the box first: a restore replaces what is in the database now.")
            if not path and not name:
                raise ValueError("There is nothing to restore: choose a back-up, or give a file of yours.")
            source = path if isinstance(path, str) and path else transfer.backup_named(studio, name)
            restored = transfer.restored(transfer.restore(studio, source, writer))
        except ValueError as error:
            return {message: problem(error)}
        unsure = {sure: False, back: gr.update(interactive=False)}
        return {message: notices.notice(restored), table: listed(), chosen: "", **unsure}

    tab.select(shows_errors(lambda: listed()), None, table, **QUICK)
    make.click(new, who, [message, table, chosen, of_one], **WORK)
    table.pick(choose, None, [table, chosen, of_one, file], **ASKED)
    fetch.click(download, [chosen, who], file, **WORK)
    sure.input(lambda ticked: gr.update(interactive=ticked is True), sure, back, **ASKED)
    back.click(restore, [chosen, given, sure, who], [message, table, chosen, sure, back], **WORK)


def _log(studio: Studio, who: gr.Textbox, tab: gr.Tab) -> None:
    page = gr.State(0)
    hook = shared.html(elem_id="webhook")
    table = Table(caption="What was done to the store as a whole, the newest first", elem_id="audit")
    with gr.Row():
        newer = gr.Button("Newer", interactive=False, elem_id="audit-newer")
        older = gr.Button("Older", interactive=False, elem_id="audit-older")
    clock = gr.Timer(5.0)

    def seen(number: int, kept: Any, profile: Any) -> Update:
        number, golden = max(0, number), shared.manages(studio, kept, profile)
        entries = transfer.log(studio, LINES + 1, number * LINES, gold=golden)
        body = []
        for entry in entries[:LINES]:
            by, detail = entry["who"] or "the studio", _detail(entry["detail"])
            body.append([moment(entry["created"]), by, entry["action"], entry["subject"], detail])
        none = "Nothing was done to the store as a whole yet."
        return {
            table: rows(["when", "who", "what", "of what", "more"], body, empty=none),
            page: number,
            newer: gr.update(interactive=number > 0),
            older: gr.update(interactive=len(entries) > LINES),
            hook: _webhook(webhook.status(studio)),
        }

    def turned(by: int | None) -> Callable[..., Update]:
        """A handler that goes on by so many pages, or to the first."""

        @shows_errors
        def turn(number: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
            return seen(0 if by is None else number + by, kept, profile)

        return turn

    parts = [table, page, newer, older, hook]
    tab.select(turned(None), [page, who], parts, **QUICK)
    newer.click(turned(-1), [page, who], parts, **ASKED)
    older.click(turned(1), [page, who], parts, **ASKED)
    clock.tick(shows_errors(lambda: _webhook(webhook.status(studio))), None, hook, **QUICK)


def _detail(detail: dict[str, Any]) -> str:
    entries = {
        name.replace("_", " "): value for name, value in detail.items() if isinstance(value, int | str)
    }
    return ", ".join(f"{name} {value}" for name, value in entries.items() if value)[:300]


def _webhook(status: dict[str, Any]) -> str:
    """The webhook's state in a sentence."""
    if not status["address"]:
        return notices.quiet(NO_WEBHOOK)
    if status["problem"]:
        return notices.notice(
            f"{status['problem']} {status['waiting']} scores wait; nothing is lost.", problem=True
        )
    state = "on" if status["on"] else "not started in this process"
    last = f", the last at {status['last']} UTC" if status["last"] else ""
    return notices.notice(
        f"The webhook to {status['address']} is {state}: {status['sent']} scores sent since the start{last}; "
        f"{status['waiting']} wait."
    )
