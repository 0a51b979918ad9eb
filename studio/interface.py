"""The page: its tabs in order, and how one opens another."""

from __future__ import annotations

from typing import Any

import gradio as gr

from studio import examples, gpu
from studio.components import notices
from studio.service import Studio
from studio.settings import Settings
from studio.tabs import annotate, compare, diagnose, first, memory, train
from studio.tabs.shared import Loading, heading, html, told
from studio.theme import HEAD, STYLE, theme

TITLE = "Noise Projection Studio"
WHAT = "Compare, correct the word scores, retrain, and see whether it helped."
DAY = 86_400


def build(studio: Studio, loading: Loading) -> gr.Blocks:
    """The whole page on one studio, whose models may still be on their way."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(DAY // 24, DAY)) as page:
        html(notices.head(TITLE, WHAT))
        state = html(_state(loading), elem_id="studio-state", live=True)
        watch, kept, steps = gr.Timer(1.0), memory.build(page), first.place()
        with gr.Tabs(selected="compare", elem_id="tabs", overflow_behavior="wrap") as tabs:
            with gr.Tab("Compare", id="compare"):
                heading("Compare")
                comparing = compare.build(studio, loading, page, kept)
            with gr.Tab("Annotate", id="annotate") as tab:
                heading("Annotate")
                annotating = annotate.build(studio, tab, kept)
            with gr.Tab("Train", id="train"):
                heading("Train")
                to_annotate = train.build(studio, page, kept.who)
            with gr.Tab("Diagnose", id="diagnose"):
                heading("Diagnose")
                diagnose.build(studio, page)

        def look() -> tuple[Any, Any]:
            """While the models load: what is being loaded; afterwards the clock stands still."""
            return _state(loading), gr.Timer(active=not loading.over)

        def go(tab: str) -> Any:
            return gr.Tabs(selected=tab)

        def opener(projected: bool) -> Any:
            """What 'Annotate this' does: the other tab, with this image in it."""

            @told
            def opened(
                pairs: Any, seed: Any, who: Any, order: Any, profile: gr.OAuthProfile | None
            ) -> list[Any]:
                sample = compare.sample_of(pairs, seed, projected)
                return [go("annotate"), *annotating.open(sample, who, order, profile)]

            return opened

        first.wire(studio, page, steps, tabs, go)
        quick = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        inputs, outputs = [kept.pairs, comparing.seed, *annotating.inputs], [tabs, *annotating.outputs]
        comparing.annotate_none.click(opener(False), inputs, outputs, **quick)
        comparing.annotate_projected.click(opener(True), inputs, outputs, **quick)
        annotating.compare.click(lambda: go("compare"), None, tabs, **quick)
        to_annotate.click(lambda: go("annotate"), None, tabs, **quick)
        page.load(look, None, [state, watch], **quick)
        watch.tick(look, None, [state, watch], **quick)
    return page.queue(max_size=32, default_concurrency_limit=8)


def launch(settings: Settings | None = None) -> None:
    """Serve the page until the process ends; the models load meanwhile. Address and port are Gradio's own settings
    (GRADIO_SERVER_NAME, GRADIO_SERVER_PORT)."""
    studio = Studio(settings)
    if gpu.apart():
        studio.load()  # here and now, as the GPU is given what is loaded before the page is served
    examples.add(studio)
    loading = Loading(studio).start()
    build(studio, loading).launch(
        theme=theme(),
        css=STYLE,
        head=HEAD,
        blocked_paths=[str(studio.settings.home)],
        max_file_size="5mb",
        show_error=False,
        ssr_mode=False,
        footer_links=["api", "settings"],
        run_history=False,  # 40 KB a comparison in localStorage, until nothing of ours fits any more
    )


def _state(loading: Loading) -> str:
    if loading.problem:
        return notices.notice(loading.problem, problem=True)
    return "" if loading.over else notices.waiting(f"{loading.stage} The page can be used meanwhile.")
