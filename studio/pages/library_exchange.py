"""Library: what goes out and what comes in. Export as a file, push to the Hub, import with a look at what would change."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from studio.access.waiting import CARRYING
from studio.components import notices
from studio.components.table import Table, rows
from studio.errors import sentence
from studio.exchange import transfer
from studio.pages import shared
from studio.pages.rights import Rights
from studio.pages.shared import told
from studio.studio import Studio

SHOWN = 20
WORK: dict[str, Any] = {
    "concurrency_id": CARRYING,
    "concurrency_limit": 1,
    "api_visibility": "private",
}
QUICK = shared.QUICK
NO_CHANGE = "No word would change."


def build(studio: Studio, who: gr.Textbox, rights: Rights) -> None:
    with gr.Tab("Export", id="library-export"):
        _export(studio, who, rights)
    with gr.Tab("Import", id="library-import"):
        _import(studio, who, rights)


def problem(error: Exception) -> str:
    return notices.notice(sentence(error), problem=True)


def _licence(elem_id: str) -> gr.Textbox:
    return gr.Textbox(
        label="Licence",
        placeholder="for example cc-by-4.0",
        info="Of the dataset card. Empty: the card says that none was chosen yet.",
        max_length=40,
        elem_id=elem_id,
    )


def _export(studio: Studio, who: gr.Textbox, rights: Rights) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            gr.Markdown("### As a file")
            form = gr.Dropdown(
                [(title, name) for name, (title, _, _) in transfer.OUT.items()],
                value="jsonl",
                label="Format",
                elem_id="export-format",
            )
            meaning = shared.html(_quiet(transfer.OUT["jsonl"][2]), elem_id="export-meaning")
            features = gr.Checkbox(
                label="With the VLM's hidden states",
                info="Most of the bytes; the calibrator learns from them.",
                value=True,
                elem_id="export-features",
            )
            licence = _licence("export-licence")
            licence.visible = False
            make = gr.Button("Make the file", variant="primary", elem_id="export-make")
            rights.admins(make)
            said = shared.html(elem_id="export-said")
            file = gr.File(label="To download", interactive=False, visible=False, elem_id="export-file")
        with gr.Column(min_width=300):
            gr.Markdown("### To the Hugging Face Hub")
            shared.html(
                _quiet(
                    "The dataset folder, with images and a dataset card, to a dataset repository of yours. Files that are "
                    "there from an earlier push are replaced."
                )
            )
            repository = gr.Textbox(
                label="Repository", placeholder="owner/name", max_length=200, elem_id="push-name"
            )
            token = gr.Textbox(
                label="Your token",
                type="password",
                info="With the right to write. It is used once and kept nowhere.",
                max_length=500,
                elem_id="push-token",
            )
            private = gr.Checkbox(label="Private", value=True, elem_id="push-private")
            push_licence = _licence("push-licence")
            push = gr.Button("Push", elem_id="push")
            rights.admins(token, push)
            pushed = shared.html(elem_id="push-said")

    def explain(kind: Any) -> list[Any]:
        if kind not in transfer.OUT:
            return [gr.skip()] * 3
        return [
            _quiet(transfer.OUT[kind][2]),
            gr.update(visible=kind == "jsonl"),
            gr.update(visible=kind == "dataset"),
        ]

    @told
    def write(kind: Any, full: Any, licence: Any, kept: Any, profile: gr.OAuthProfile | None) -> list[Any]:
        writer = shared.admin(studio, kept, profile)
        try:
            with shared.room() as folder:
                made, found = transfer.export_into(
                    studio, kind, folder, writer, features=full is True, licence=licence or ""
                )
                path = shared.download(made)
        except ValueError as error:
            return [problem(error), gr.update(visible=False)]
        counts = ", ".join(
            f"{value} {name.replace('_', ' ')}" for name, value in found.items() if isinstance(value, int)
        )
        return [notices.notice(f"Written: {counts}."), gr.update(value=path, visible=True)]

    @told
    def send(
        name: Any,
        secret: Any,
        private: Any,
        licence: Any,
        kept: Any,
        profile: gr.OAuthProfile | None,
        request: gr.Request,
    ) -> list[Any]:
        shared.forget(request, secret)
        writer = shared.admin(studio, kept, profile)
        try:
            found = transfer.push(
                studio, name, secret, writer, private=private is not False, licence=licence or ""
            )
        except ValueError as error:
            return [problem(error), ""]
        return [notices.notice("{samples} images with {words} words are at {url}.".format(**found)), ""]

    form.input(explain, form, [meaning, features, licence], **shared.ASKED)
    make.click(write, [form, features, licence, who], [said, file], **WORK)
    push.click(send, [repository, token, private, push_licence, who], [pushed, token], **WORK)


def _import(studio: Studio, who: gr.Textbox, rights: Rights) -> None:
    seen = gr.State(None)  # what was looked at: the file and the format
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            form = gr.Radio(
                [(title, name) for name, (title, _) in transfer.IN.items()],
                value="jsonl",
                label="Format",
                elem_id="import-format",
            )
            meaning = shared.html(_quiet(transfer.IN["jsonl"][1]), elem_id="import-meaning")
            file = gr.File(label="File", file_count="single", elem_id="import-file", height=150)
            shared.html(
                _quiet(
                    "All of a file is taken over, or nothing; twice changes nothing. A file that is too large for the page "
                    "goes in by python -m studio import."
                )
            )
            look = gr.Button("Show what would change", variant="primary", elem_id="import-look")
            take = gr.Button("Import", interactive=False, elem_id="import-take")
            rights.admins(look)
        with gr.Column(scale=8, min_width=320):
            said = shared.html(
                notices.empty("Choose a file and look first: nothing is kept by that."), elem_id="import-said"
            )
            table = Table(caption="", elem_id="import-changes")

    @told
    def explain(kind: Any) -> list[Any]:
        return [
            _quiet(transfer.IN[kind][1]) if kind in transfer.IN else "",
            None,
            gr.update(interactive=False),
        ]

    def work(kind: Any, path: Any, writer: str, dry_run: bool) -> transfer.Imported:
        if not isinstance(path, str) or not path:
            raise ValueError("There is no file: choose one first.")
        return transfer.import_file(studio, kind, path, writer, dry_run=dry_run)

    @told
    def dry(kind: Any, path: Any, kept: Any, profile: gr.OAuthProfile | None) -> list[Any]:
        writer = shared.admin(studio, kept, profile)
        try:
            found = work(kind, path, writer, True)
        except ValueError as error:
            return [problem(error), rows([], []), None, gr.update(interactive=False, variant="secondary")]
        return [
            notices.notice(found.text),
            _changes(found),
            [kind, path],
            gr.update(interactive=True, variant="primary"),
        ]

    @told
    def real(kind: Any, path: Any, looked: Any, kept: Any, profile: gr.OAuthProfile | None) -> list[Any]:
        writer = shared.admin(studio, kept, profile)
        closed = gr.update(interactive=False, variant="secondary")
        if looked != [kind, path]:
            return [problem(ValueError("Look at what would change first.")), rows([], []), None, closed]
        try:
            found = work(kind, path, writer, False)
        except ValueError as error:
            return [problem(error), rows([], []), None, closed]
        return [notices.notice(found.text), _changes(found), None, closed]

    def changed() -> list[Any]:
        return [None, gr.update(interactive=False, variant="secondary")]

    form.input(explain, form, [meaning, seen, take], **shared.ASKED)
    file.change(changed, None, [seen, take], **QUICK)
    look.click(dry, [form, file, who], [said, table, seen, take], **WORK)
    take.click(real, [form, file, seen, who], [said, table, seen, take], **WORK)


def _changes(found: transfer.Imported) -> dict[str, Any]:
    """The first changes, word by word or pair by pair."""
    body: list[tuple[str, list[Any]]] = []
    for change in found.changes[:SHOWN]:
        line = {"text": change["line"], "tone": "number"}
        if "chosen_sample" in change:
            before = change["before"] or "–"
            body.append(
                (
                    "",
                    [
                        line,
                        change["prompt"],
                        f"{before} → chosen",
                        change["chosen_sample"],
                        change["rejected_sample"],
                    ],
                )
            )
        else:
            before = "–" if change["before"] is None else f"{change['before']:g}"
            arrow = f"{before} → {change['after']:g}"
            body.append(
                ("", [line, change["word"] or f"word {change['word_index']}", arrow, change["sample"]])
            )
    pairs = bool(found.changes) and "chosen_sample" in found.changes[0]
    line_head = {"text": "line", "tone": "number"}
    head = (
        [line_head, "prompt", "vote", "better", "worse"] if pairs else [line_head, "word", "label", "image"]
    )
    left = len(found.changes) - len(body) + found.more
    if left:
        body.append(("", ["", f"and {left} more", *[""] * (len(head) - 2)]))
    return rows(head, body, empty=NO_CHANGE)


def _quiet(text: str) -> str:
    return f'<p class="quiet">{escape(text)}</p>'
