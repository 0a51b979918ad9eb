"""What only administrators may do is off for everybody else, with a line beside it that says why.

It spares the click only: the server refuses what is asked all the same (``shared.admin``). Where there is nothing that
only administrators may do, there are no lines, and nothing more is asked when the page opens.
"""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from studio.access import limits
from studio.pages import shared
from studio.pages.memory import Memory
from studio.pages.people import Renamed
from studio.pages.shared import told
from studio.studio import Studio


class Rights:
    """Gathered while the page is built; ``wire`` sets it for who has come, and again when they go by another name."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._lines: list[gr.HTML] = []
        self._parts: list[Any] = []

    def admins(self, *parts: Any, says: str = "") -> None:
        """Place a line that says who may use these parts; all begin as they are for a stranger. A part that is off for
        other reasons too is not given: its tab asks ``shared.manages`` where it sets it. says: another sentence."""
        if not limits.ruled(self.studio.settings):
            return
        for part in parts:
            part.interactive = False
        self._parts += parts
        words = f'<p class="quiet">{escape(says or limits.for_admins(self.studio.settings))}</p>'
        self._lines.append(shared.html(words, elem_id=f"for-admins-{len(self._lines)}"))

    def wire(self, memory: Memory, renamed: Renamed) -> None:
        """One event for the whole page."""
        if not self._lines:
            return

        @told
        def look(kept: Any, profile: gr.OAuthProfile | None) -> list[Any]:
            may = shared.manages(self.studio, kept, profile)
            lines = [gr.update(visible=not may)] * len(self._lines)
            return [*lines, *[gr.update(interactive=may)] * len(self._parts)]

        for moment in (memory.recalled.then, renamed.names.change):
            moment(look, memory.who, [*self._lines, *self._parts], **shared.QUICK)
