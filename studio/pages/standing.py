"""What is said above all tabs: a damaged store, a back-up that failed, a place that does not last, rights that everybody has."""

from __future__ import annotations

import gradio as gr

from studio.access import limits, places
from studio.components import notices
from studio.exchange.backup import Backup
from studio.pages import shared
from studio.pages.shared import html
from studio.studio import Studio

SECONDS = 60.0  # between two looks


def build(studio: Studio, page: gr.Blocks, backup: Backup | None) -> None:
    everyone = notices.notice(limits.open_to_all(studio.settings))

    def said() -> str:
        return everyone + kept()

    def kept() -> str:
        if studio.store.database.damage:
            return notices.notice(studio.store.database.damage, problem=True)
        if backup is not None and backup.problem:
            return notices.notice(backup.problem, problem=True)
        return notices.notice(places.warning(studio.settings.home, bool(studio.settings.backup)))

    notice = html(said(), elem_id="studio-keeping")
    quick = shared.QUICK
    page.load(said, None, notice, **quick)
    gr.Timer(SECONDS).tick(said, None, notice, **quick)
