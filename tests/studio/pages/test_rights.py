"""What only administrators may do is off for everybody else, and says why."""

from __future__ import annotations

import dataclasses
import secrets

import gradio as gr
import pytest

from studio.pages import memory
from studio.pages.people import Rights


@pytest.fixture
def page(studio):
    """A function that builds a page with one button for administrators: (the button, its line, what sets them)."""

    def build(admins):
        studio.settings = dataclasses.replace(studio.settings, admins=admins)
        with gr.Blocks() as blocks:
            kept, rights, button = memory.build(studio, blocks), Rights(studio), gr.Button("Delete")
            rights.admins(button)
            rights.wire(kept, gr.JSON(visible=False))
        (line,) = [one for one in blocks.blocks.values() if isinstance(one, gr.HTML)] or [None]
        return button, line, [one.fn for one in blocks.fns.values() if button in one.outputs]

    return build


def test_a_stranger_finds_it_off_with_the_reason_and_an_administrator_finds_it_on(studio, page, token_shown):
    button, line, (opened, renamed) = page("Root")
    assert button.interactive is False and "STUDIO_ADMINS" in line.value
    ann, root = (f"{secrets.token_hex(16)}:{name}" for name in ("Ann", "Root"))
    for look in (opened, renamed):
        for stranger in (ann, None, "Root", 7, root):
            shown, pressed = look(stranger, None).values()
            assert shown["visible"] is True and pressed["interactive"] is False
    with token_shown():
        shown, pressed = opened(root, None).values()
    assert shown["visible"] is False and pressed["interactive"] is True
    assert [one["name"] for one in studio.store.people.find()] == ["Root"]  # looking takes nobody else's name


def test_where_everyone_may_do_everything_there_is_no_line_and_nothing_is_asked(page):
    button, line, events = page("")
    assert button.interactive is not False and line is None and events == []
