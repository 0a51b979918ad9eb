"""The tabs Export and Import of the Library: a file, a push to the Hub, an import after a dry run."""

from __future__ import annotations

from typing import Any

import gradio as gr

from studio.access.waiting import CARRYING
from studio.components import notices
from studio.components.table import Table, number, rows
from studio.errors import sentence
from studio.exchange import transfer
from studio.pages import shared
from studio.pages.people import Rights
from studio.pages.shared import ASKED, QUICK, Update, shows_errors
from studio.studio import Studio

SHOWN = 20
WORK: dict[str, Any] = {"concurrency_id": CARRYING, "concurrency_limit": 1, "api_visibility": "private"}
NO_CHANGE = "No word would change."


def build(studio: Studio, who: gr.Textbox, rights: Rights) -> None:
    with gr.Tab("Export", id="library-export"):
        _export(studio, who, rights)
    with gr.Tab("Import", id="library-import"):
        _import(studio, who, rights)


def problem(error: Exception) -> str:
    return notices.notice(sentence(error), problem=True)


def _licence(elem_id: str, visible: bool = True) -> gr.Textbox:
    info = "Of the dataset card. Empty: the card says that none was chosen yet."
    return gr.Textbox(
        label="Licence",
        placeholder="for example cc-by-4.0",
        info=info,
        max_length=40,
        visible=visible,
        elem_id=elem_id,
    )


def _export(studio: Studio, who: gr.Textbox, rights: Rights) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            gr.Markdown("### As a file")
            formats = [(title, name) for name, (title, _, _) in transfer.OUT.items()]
            form = gr.Dropdown(formats, value="jsonl", label="Format", elem_id="export-format")
            meaning = shared.html(notices.quiet(transfer.OUT["jsonl"][2]))
            features = gr.Checkbox(
                True,
                label="With the VLM's hidden states",
                info="Most of the bytes; the calibrator learns from them.",
            )
            licence = _licence("export-licence", visible=False)
            make = gr.Button("Make the file", variant="primary", elem_id="export-make")
            rights.admins(make)
            message = shared.html(elem_id="export-said")
            file = gr.File(label="To download", interactive=False, visible=False, elem_id="export-file")
        with gr.Column(min_width=300):
            gr.Markdown("### To the Hugging Face Hub")
            shared.html(
                notices.quiet(
                    "The dataset folder, with images and a dataset card, to a dataset repository of yours. Files that are "
                    "there from an earlier push are replaced."
                )
            )
            repository = gr.Textbox(
                label="Repository", placeholder="owner/name", max_length=200, elem_id="push-name"
            )
            once = "With the right to write. It is used once and kept nowhere."
            token = gr.Textbox(label="Your token", type="password", info=once, max_length=500)
            private = gr.Checkbox(label="Private", value=True)
            push_licence = _licence("push-licence")
            push = gr.Button("Push", elem_id="push")
            rights.admins(token, push)
            pushed = shared.html(elem_id="push-said")

    def explain(kind: Any) -> Update:
        if kind not in transfer.OUT:
            return gr.skip()
        return {
            meaning: notices.quiet(transfer.OUT[kind][2]),
            features: gr.update(visible=kind == "jsonl"),
            licence: gr.update(visible=kind == "dataset"),
        }

    @shows_errors
    def write(kind: Any, full: Any, terms: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
        writer = shared.admin(studio, kept, profile)
        try:
            with shared.room() as folder:
                made, counted = transfer.export_into(
                    studio, kind, folder, writer, features=full is True, licence=terms or ""
                )
                path = shared.download(made)
        except ValueError as error:
            return {message: problem(error), file: gr.update(visible=False)}
        whole = {name.replace("_", " "): value for name, value in counted.items() if isinstance(value, int)}
        counts = ", ".join(f"{value} {name}" for name, value in whole.items())
        return {message: notices.notice(f"Written: {counts}."), file: gr.update(value=path, visible=True)}

    @shows_errors
    def send(request: gr.Request, profile: gr.OAuthProfile | None, *given: Any) -> Update:
        name, secret, hidden, terms, kept = given
        shared.forget(request, secret)
        writer = shared.admin(studio, kept, profile)
        try:
            sent = transfer.push(
                studio, name, secret, writer, private=hidden is not False, licence=terms or ""
            )
        except ValueError as error:
            return {pushed: problem(error), token: ""}
        done = notices.notice("{samples} images with {words} words are at {url}.".format(**sent))
        return {pushed: done, token: ""}

    form.input(explain, form, [meaning, features, licence], **ASKED)
    make.click(write, [form, features, licence, who], [message, file], **WORK)
    push.click(send, [repository, token, private, push_licence, who], [pushed, token], **WORK)


def _import(studio: Studio, who: gr.Textbox, rights: Rights) -> None:
    seen = gr.State(None)  # what was looked at: the file and the format
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            formats = [(title, name) for name, (title, _) in transfer.IN.items()]
            form = gr.Radio(formats, value="jsonl", label="Format")
            meaning = shared.html(notices.quiet(transfer.IN["jsonl"][1]))
            file = gr.File(label="File", file_count="single", elem_id="import-file", height=150)
            shared.html(
                notices.quiet(
                    "All of a file is taken over, or nothing; twice changes nothing. A file that is too large for the page "
                    "goes in by python -m studio import."
                )
            )
            look = gr.Button("Show what would change", variant="primary", elem_id="import-look")
            take = gr.Button("Import", interactive=False, elem_id="import-take")
            rights.admins(look)
        with gr.Column(scale=8, min_width=320):
            message = shared.html(
                notices.empty("Choose a file and look first: nothing is kept by that."), elem_id="import-said"
            )
            table = Table(caption="", elem_id="import-changes")

    idle = gr.update(interactive=False, variant="secondary")

    @shows_errors
    def explain(kind: Any) -> Update:
        says = notices.quiet(transfer.IN[kind][1]) if kind in transfer.IN else ""
        return {meaning: says, seen: None, take: gr.update(interactive=False)}

    def done(kind: Any, path: Any, kept: Any, profile: Any, dry_run: bool, looked: bool = True) -> Update:
        """An import that is tried or made: its text and changes, and whether it can be made now."""
        writer = shared.admin(studio, kept, profile)
        try:
            if not looked:
                raise ValueError("Look at what would change first.")
            if not isinstance(path, str) or not path:
                raise ValueError("There is no file: choose one first.")
            imported = transfer.import_file(studio, kind, path, writer, dry_run=dry_run)
        except ValueError as error:
            return {message: problem(error), table: rows([], []), seen: None, take: idle}
        ready = {seen: [kind, path], take: gr.update(interactive=True, variant="primary")}
        return {
            message: notices.notice(imported.text),
            table: _changes(imported),
            **(ready if dry_run else {seen: None, take: idle}),
        }

    @shows_errors
    def dry(kind: Any, path: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
        return done(kind, path, kept, profile, dry_run=True)

    @shows_errors
    def real(kind: Any, path: Any, looked: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
        return done(kind, path, kept, profile, dry_run=False, looked=looked == [kind, path])

    form.input(explain, form, [meaning, seen, take], **ASKED)
    file.change(lambda: {seen: None, take: idle}, None, [seen, take], **QUICK)
    look.click(dry, [form, file, who], [message, table, seen, take], **WORK)
    take.click(real, [form, file, seen, who], [message, table, seen, take], **WORK)


def _changes(imported: transfer.Imported) -> dict[str, Any]:
    """The first changes, word by word or pair by pair."""
    pairs = bool(imported.changes) and "chosen_sample" in imported.changes[0]
    body: list[list[Any]] = []
    for change in imported.changes[:SHOWN]:
        line = number(change["line"])
        if pairs:
            vote = f"{change['before'] or '–'} → chosen"
            cells = [line, change["prompt"], vote, change["chosen_sample"], change["rejected_sample"]]
        else:
            before = "–" if change["before"] is None else f"{change['before']:g}"
            word = change["word"] or f"word {change['word_index']}"
            cells = [line, word, f"{before} → {change['after']:g}", change["sample"]]
        body.append(cells)
    columns = ["prompt", "vote", "better", "worse"] if pairs else ["word", "label", "image"]
    left = len(imported.changes) - len(body) + imported.more
    if left:
        body.append(["", f"and {left} more", *[""] * (len(columns) - 1)])
    return rows([number("line"), *columns], body, empty=NO_CHANGE)
