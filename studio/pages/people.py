"""Who I am, as a part of a page: the name that this browser goes by, signing in, and the same name on another browser."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from studio.access import identity, limits
from studio.components import notices
from studio.errors import sentence
from studio.pages import shared
from studio.pages.memory import NAME, Memory
from studio.pages.shared import told
from studio.studio import Studio

HOW = (
    "A name belongs to the browser that first writes under it. To go by it elsewhere too, copy this browser's key and "
    "paste it there. Whoever has the key can write in your name, so keep it to yourself."
)

# Enter ends the name: what is typed next is meant for the words, where there are any
LEAVE = """() => {
  document.querySelector("#who input, #who textarea")?.blur();
  document.querySelector("#annotate-words .ws-current")?.focus({ preventScroll: true });
}"""
# what was typed before the name is stored first, and what is typed while the server looks at it waits for it
NAMING = """async (...given) => {
  const asked = {};
  dispatchEvent(new CustomEvent("studio-naming", { detail: asked }));
  await asked.waits;
  return given;
}"""
NAMED = f"""(who) => {{
  dispatchEvent(new CustomEvent("studio-named", {{ detail: (who ?? "").replace(/^[0-9a-f]{{32}}:/, "") }}));
  return ({NAME})(who);
}}"""


@dataclass(frozen=True)
class Renamed:
    """What changes when a person goes by another name: {before, after}, each a value of ``memory.who``. One value, as
    two would arrive one after the other. Who shows what is one person's follows ``names.change``, which a page that is
    only opened does not have."""

    names: gr.JSON


def read_names(value: Any) -> tuple[str | None, str | None]:
    """(before, after) of ``Renamed.names``; None for what no page of ours would send."""
    found = value if isinstance(value, dict) else {}
    before, after = (found.get(name) for name in ("before", "after"))
    return before if isinstance(before, str) else None, after if isinstance(after, str) else None


def field() -> gr.Textbox:
    """The box for the name, to be rendered where the page wants it."""
    return gr.Textbox(
        label="Your name",
        placeholder="anonymous",
        info="Kept in this browser; your scores go by it.",
        max_length=identity.LONGEST,
        visible=not identity.oauth_enabled(),
        elem_id="who",
        min_width=180,
        render=False,
    )


def build(studio: Studio, memory: Memory, name: gr.Textbox) -> Renamed:
    """Signing in, what may be done here, and the key, on the page; keeps ``memory.who``. name: see ``field``."""
    accounts = identity.oauth_enabled()
    renamed = Renamed(gr.JSON(visible=False))
    with gr.Column(elem_classes="who-am-i"):
        if identity.login_offered():
            gr.LoginButton(elem_id="login", min_width=150)
        note = shared.html(elem_id="who-note")
        with gr.Accordion(
            "Use this name on another browser", open=False, visible=not accounts, elem_id="who-elsewhere"
        ) as elsewhere:
            gr.Markdown(HOW, elem_classes="quiet")
            mine = gr.Textbox(
                label="The key of this browser",
                interactive=False,
                buttons=["copy"],
                max_lines=1,
                elem_id="who-key",
            )
            brought = gr.Textbox(
                label="A key from another browser", max_length=200, max_lines=1, elem_id="who-brought"
            )
            use = gr.Button("Go by that name here", size="sm", elem_id="who-use")

    def standing(kept: Any, profile: Any) -> str:
        """Why this visitor may not write, or whose name a signed-in one goes by."""
        why_not = limits.may_write(studio.settings, profile)
        if why_not:
            return notices.notice(why_not)
        if not accounts:
            return ""
        if profile is None:
            return '<p class="quiet">You are anonymous. Sign in, and your corrections go by your account.</p>'
        return f'<p class="quiet">Your corrections go by your account, {escape(shared.person(kept, profile))}.</p>'

    def changed(asked: str, kept: Any) -> list[Any]:
        """Values of ``memory.who`` and of ``renamed``."""
        return [asked, gr.skip() if asked == kept else {"before": kept, "after": asked}]

    @told
    def look(kept: Any, profile: gr.OAuthProfile | None) -> str:
        return standing(kept, profile)

    @told
    def rename(given: Any, kept: Any, profile: gr.OAuthProfile | None) -> list[Any]:
        """Another name is another person. One that is somebody else's is refused here, where what to do is at hand."""
        try:
            asked = studio.people.renamed(given, kept)
        except ValueError as error:
            problem = notices.notice(sentence(error), problem=True)
            return [kept, gr.skip(), problem, gr.update(open=True)]
        return [*changed(asked, kept), standing(kept, profile), gr.skip()]

    @told
    def adopt(given: Any, kept: Any, profile: gr.OAuthProfile | None) -> list[Any]:
        try:
            asked = studio.people.adopted(given)
        except ValueError as error:
            return [kept, gr.skip(), notices.notice(sentence(error), problem=True), gr.skip()]
        return [*changed(asked, kept), standing(kept, profile), ""]

    persons = [memory.who, renamed.names]
    quick = shared.QUICK
    for moment in (memory.recalled.then, memory.who.change):
        moment(None, memory.who, name, js=NAME)
        moment(None, memory.who, mine, js="(who) => who ?? ''")
    memory.recalled.then(look, memory.who, note, **quick)
    name.submit(None, None, None, js=LEAVE)
    for ask, work, given, last in (
        (name.blur, rename, name, elsewhere),
        (use.click, adopt, brought, brought),
        (brought.submit, adopt, brought, brought),
    ):
        asked = ask(work, [given, memory.who], [*persons, note, last], js=NAMING, **quick)
        asked.then(None, memory.who, name, js=NAMED)
    return renamed
