"""The visitor's name, signing in, the same name on another browser; and controls for administrators only."""

from __future__ import annotations

from typing import Any

import gradio as gr

from studio.access import identity, limits
from studio.components import notices
from studio.errors import sentence
from studio.pages import shared
from studio.pages.memory import NAME, Memory
from studio.pages.shared import QUICK, Update, shows_errors
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


def read_names(value: Any) -> tuple[str | None, str | None]:
    """(before, after) of what ``build`` gives; None for what no page of ours would send."""
    names = value if isinstance(value, dict) else {}
    before, after = (names.get(name) for name in ("before", "after"))
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


def build(studio: Studio, memory: Memory, name: gr.Textbox) -> gr.JSON:
    """Signing in, what may be done here, and the key; keeps ``memory.who``. name: see ``field``.

    Returns the change of a name, {before, after}, each a value of ``memory.who``; in one component, as two would change
    one after the other. What shows a person's own things follows its ``change``, which a page that is only opened does
    not have.
    """
    accounts, renamed = identity.oauth_enabled(), gr.JSON(visible=False)
    with gr.Column(elem_classes="who-am-i"):
        if identity.login_offered():
            gr.LoginButton(elem_id="login", min_width=150)
        note = shared.html(elem_id="who-note")
        with gr.Accordion("Use this name on another browser", open=False, visible=not accounts) as elsewhere:
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
            return notices.quiet("You are anonymous. Sign in, and your corrections go by your account.")
        return notices.quiet(f"Your corrections go by your account, {shared.person(kept, profile)}.")

    def changed(asked: str, kept: Any, profile: Any) -> Update:
        names = {} if asked == kept else {renamed: {"before": kept, "after": asked}}
        return {memory.who: asked, note: standing(kept, profile), **names}

    def refused(kept: Any, problem: ValueError) -> Update:
        return {memory.who: kept, note: notices.notice(sentence(problem), problem=True)}

    @shows_errors
    def look(kept: Any, profile: gr.OAuthProfile | None) -> str:
        return standing(kept, profile)

    @shows_errors
    def rename(given: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
        """Another name is another person. One that is somebody else's is refused here, where what to do is at hand."""
        try:
            asked = studio.people.renamed(given, kept)
        except ValueError as error:
            return {**refused(kept, error), elsewhere: gr.update(open=True)}
        return changed(asked, kept, profile)

    @shows_errors
    def adopt(given: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
        try:
            asked = studio.people.adopted(given)
        except ValueError as error:
            return refused(kept, error)
        return {**changed(asked, kept, profile), brought: ""}

    for moment in (memory.recalled.then, memory.who.change):
        moment(None, memory.who, name, js=NAME)
        moment(None, memory.who, mine, js="(who) => who ?? ''")
    memory.recalled.then(look, memory.who, note, **QUICK)
    name.submit(None, None, None, js=LEAVE)
    for ask, work, given, last in (
        (name.blur, rename, name, elsewhere),
        (use.click, adopt, brought, brought),
        (brought.submit, adopt, brought, brought),
    ):
        asked = ask(work, [given, memory.who], [memory.who, renamed, note, last], js=NAMING, **QUICK)
        asked.then(None, memory.who, name, js=NAMED)
    return renamed


class Rights:
    """What only administrators may do is off for everybody else, with a line beside it that says why. Gathered while the
    page is built; ``wire`` sets it for who has come, and again when they go by another name.

    It spares the click only: the server refuses what is asked all the same (``shared.admin``). Where there is nothing
    that only administrators may do, there are no lines, and nothing more is asked when the page opens."""

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
        words = notices.quiet(says or limits.for_admins(self.studio.settings))
        self._lines.append(shared.html(words, elem_id=f"for-admins-{len(self._lines)}"))

    def wire(self, memory: Memory, renamed: gr.JSON) -> None:
        """One event for the whole page."""
        if not self._lines:
            return

        @shows_errors
        def look(kept: Any, profile: gr.OAuthProfile | None) -> Update:
            may = shared.manages(self.studio, kept, profile)
            lines = {line: gr.update(visible=not may) for line in self._lines}
            return {**lines, **{part: gr.update(interactive=may) for part in self._parts}}

        for moment in (memory.recalled.then, renamed.change):
            moment(look, memory.who, [*self._lines, *self._parts], **QUICK)
