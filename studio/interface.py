"""The page: its tabs in order, how one opens another, and where links lead: ``?grid=ID`` opens Seeds, ``?sample=ID``
Annotate."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio import utils
from gradio.routes import App, ORJSONResponse
from gradio.utils import get_upload_folder

from data.store import StoreError
from studio import api
from studio.access import limits, places, uploads, waiting
from studio.access.guard import Access, Guard
from studio.access.identity import on_space
from studio.access.limits import MAX_UPLOAD
from studio.components import notices
from studio.components.guide import Guide
from studio.components.scripted import text
from studio.errors import sentence
from studio.exchange import webhook
from studio.exchange.backup import Backup, restore
from studio.images import examples, gpu
from studio.pages import (
    annotate,
    compare,
    diagnose,
    first,
    library,
    memory,
    people,
    quality,
    seeds,
    shared,
    train,
)
from studio.pages.shared import ASKED, QUICK, Loading, Update, heading, html, shows_errors
from studio.settings import Settings
from studio.studio import Studio
from studio.theme import HEAD, STYLE, theme

TITLE = "Noise Projection Studio"
WHAT = "Compare, correct the word scores, retrain, and see whether it helped."
BACK = '<p class="page-link"><a href="#api">All endpoints with their types</a> · <a href="./">Back to the studio</a></p>'
QUEUE_SECONDS = (
    0.01  # Gradio (6.31) looks a thousand times a second for work: 8 % of a core while nobody is there
)
LOOK_SECONDS = 60.0  # between two looks at what is said above all tabs
LONGEST_ID = 64  # characters of an id in a link
# a sample that was opened by its link is remembered as any other; a reload goes on from there
FOLLOWED = """() => {
  const here = new URL(location.href);
  if (here.searchParams.has("sample")) {
    here.searchParams.delete("sample");
    history.replaceState(null, "", here);
  }
}"""
HEAD_START = 1.0  # seconds that those have who wait for the page, before the models take the processor


def build(studio: Studio, loading: Loading, backup: Backup | None = None) -> gr.Blocks:
    """The whole page on one studio, whose models may still be on their way."""
    page = gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(uploads.LOOK, uploads.KEPT))
    # The endpoints have a page of their own, as each is drawn like a part of the page: with them the studio took a third
    # longer to open. They come first, so that no event of the studio takes a name of theirs.
    with page.route("Endpoints", "endpoints", show_in_navbar=False):
        html(notices.head(TITLE, "Endpoints for scripts.", tabs=False))
        html(BACK)
        api.register(studio, loading)
    page.current_page = ""
    with page:
        html(notices.head(TITLE, WHAT))
        state = html(_state(loading), elem_id="studio-state", live=True)
        watch, kept, steps = gr.Timer(1.0), memory.build(studio, page), Guide(elem_id="studio-guide")
        banner(studio, page, backup)
        limited = people.Rights(studio)
        with gr.Tabs(selected="compare", elem_id="tabs", overflow_behavior="wrap") as tabs:
            with gr.Tab("Compare", id="compare"):
                heading("Compare")
                comparing = compare.build(studio, loading, page, kept)
            with gr.Tab("Seeds", id="seeds") as tab:
                heading("Seeds")
                seeing = seeds.build(studio, loading, tab, kept)
            with gr.Tab("Annotate", id="annotate") as tab:
                heading("Annotate")
                annotating = annotate.build(studio, tab, kept)
            with gr.Tab("Quality", id="quality") as quality_tab:
                heading("Quality")
                judging = quality.build(studio, quality_tab, kept, limited)
            with gr.Tab("Library", id="library") as library_tab:
                heading("Library")
                keeping = library.build(studio, library_tab, kept, limited)
            with gr.Tab("Train", id="train") as tab:
                heading("Train")
                to_annotate, training = train.build(studio, tab, kept, limited)
            with gr.Tab("Diagnose", id="diagnose") as tab:
                heading("Diagnose")
                diagnosing = diagnose.build(studio, tab, kept, limited)
        limited.wire(kept, annotating.renamed)

        def look() -> Update:
            """While the models load: what is being loaded; afterwards the clock stands still."""
            return {state: _state(loading), watch: gr.Timer(active=not loading.over)}

        def go(tab: str) -> gr.Tabs:
            return gr.Tabs(selected=tab)

        def annotated(sample: str, who: Any, selection: Any, profile: Any) -> Update:
            """Annotate with this image in it."""
            return {tabs: go("annotate"), **annotating.open(sample, who, selection, profile)}

        def opener(projected: bool) -> Callable[..., Update]:
            """What 'Annotate this' of Compare does."""

            @shows_errors
            def opened(
                pairs: Any, seed: Any, who: Any, selection: Any, profile: gr.OAuthProfile | None
            ) -> Update:
                return annotated(compare.sample_of(pairs, seed, projected), who, selection, profile)

            return opened

        @shows_errors
        def open_wanted(sample: Any, who: Any, selection: Any, profile: gr.OAuthProfile | None) -> Update:
            return annotated(sample, who, selection, profile)

        @shows_errors
        def open_viewed(
            who: Any, selection: Any, event: gr.EventData, profile: gr.OAuthProfile | None
        ) -> Update:
            return annotated(text(event._data, "sample"), who, selection, profile)

        @shows_errors
        def open_run(who: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> Update:
            (run, kind), may = keeping.pick_run(event), shared.manages(studio, who, profile)
            tab, opener = ("diagnose", diagnosing) if kind == "experiment" else ("train", training)
            return {tabs: go(tab), keeping.run: run, **opener.open(run, may)}

        @shows_errors
        def follow(request: gr.Request) -> Update:
            """Where the address leads, once the browser has said who it is."""
            sample = linked(request, "sample")
            if linked(request, "grid") and not sample:
                return {tabs: go("seeds")}
            return {wanted: sample} if sample else gr.skip()

        first.wire(studio, page, steps, tabs, go)
        inputs, outputs = annotating.inputs, [tabs, *annotating.outputs]
        for button, projected in ((comparing.annotate_none, False), (comparing.annotate_projected, True)):
            button.click(opener(projected), [kept.pairs, comparing.seed, *inputs], outputs, **ASKED)
        for asked in judging.asked:
            asked.success(open_wanted, [judging.wanted, *inputs], outputs, **ASKED)
        wanted = gr.Textbox(visible=False)  # the sample of a link
        kept.recalled.then(follow, None, [tabs, wanted], **ASKED)
        wanted.change(open_wanted, [wanted, *inputs], outputs, **ASKED).then(None, None, None, js=FOLLOWED)
        seeing.annotate(open_viewed, inputs, outputs, **ASKED)
        keeping.annotate.click(open_wanted, [keeping.chosen, *inputs], outputs, **ASKED)
        gr.on([judging.annotate.click, to_annotate.click], lambda: go("annotate"), None, tabs, **ASKED)
        gr.on([annotating.compare.click, keeping.compare.click], lambda: go("compare"), None, tabs, **ASKED)
        run_parts = [tabs, keeping.run, *training.outputs, *diagnosing.outputs]
        picked_run = keeping.runs.pick(open_run, kept.who, run_parts, **ASKED)
        picked_run.then(None, keeping.run, None, js=library.SHOW_RUN)
        gr.on([page.load, watch.tick], look, None, [state, watch], **QUICK)
    # closed: else a request by another address (/run, /api) would skip the queue, and hold a thread that keys need
    page.queue(max_size=studio.settings.queue, default_concurrency_limit=8, api_open=False)
    page._queue.sleep_when_free = QUEUE_SECONDS
    waiting.bound(page._queue, studio.settings.queue)
    return page


def linked(request: gr.Request | None, name: str) -> str:
    """What the address gives under a name; ValueError with a sentence for what can be no id."""
    value = request.query_params.get(name) if request is not None else None
    if value is None:
        return ""
    if not value.strip() or len(value) > LONGEST_ID:
        raise ValueError(f"The link's {name} is no id: copy the whole link again.")
    return value.strip()


def banner(studio: Studio, page: gr.Blocks, backup: Backup | None) -> None:
    """What stands above all tabs: a damaged store, a back-up that failed, a place that does not last, rights that
    everybody has."""
    everyone = notices.notice(limits.open_to_all(studio.settings))

    def warnings() -> str:
        if problem := studio.store.database.damage or (backup.problem if backup else ""):
            return everyone + notices.notice(problem, problem=True)
        return everyone + notices.notice(places.warning(studio.settings.home, bool(studio.settings.backup)))

    notice = html(warnings(), elem_id="studio-keeping")
    gr.on([page.load, gr.Timer(LOOK_SECONDS).tick], warnings, None, notice, **QUICK)


def launch(settings: Settings | None = None) -> None:
    """Serve the page until the process ends; the models load meanwhile. Address and port are Gradio's own settings
    (GRADIO_SERVER_NAME, GRADIO_SERVER_PORT)."""
    if utils.colab_check() or utils.is_hosted_notebook():
        os.environ["GRADIO_SHARE"] = "true"  # there Gradio shares by itself
    try:
        settings = settings or Settings.from_env()
        problem = restore(settings)
        studio, tools, access = Studio(settings), api.mcp(settings), Access(settings)
        if gpu.apart():
            studio.load()  # here and now, as the GPU is given what is loaded before the page is served
    except (ValueError, StoreError, OSError) as error:
        sys.exit(sentence(error, paths=True))
    examples.add(studio)
    loading, backup = Loading(studio), Backup(settings, studio.store, problem).start()
    webhook.start(studio)
    if settings.backup:
        signal.signal(signal.SIGTERM, lambda *_: _ended(backup))  # how a Space is put to sleep
    try:
        page = build(studio, loading, backup)
        copies = (
            settings.backup if settings.backup and not places.is_dataset(settings.backup) else settings.home
        )
        private = [str(settings.home), str(copies)]  # never served, however it is asked for
        page.launch(
            theme=theme(),
            css=STYLE,
            head=HEAD,
            blocked_paths=private,
            max_file_size=MAX_UPLOAD,
            show_error=False,
            ssr_mode=False,
            _frontend=False,  # no look at its own page, after which a machine that takes 3 s for it would serve none
            mcp_server=tools,
            num_workers=0,  # further processes for files, past the guard
            _app=Guarded(None if on_space() else access),
            footer_links=["api", "settings"],
            run_history=False,  # 40 KB a comparison in localStorage, until nothing of ours fits any more
            prevent_thread_lock=True,
        )
        assert page.local_url is not None
        access.opened(page.local_url, page.share_url)
        shown = places.transient(settings.home)
        if get_upload_folder() == str(shown):  # the studio's own, and not one that somebody else writes to
            kept = {file for part in page.blocks.values() for file in getattr(part, "keep_in_cache", ())}
            uploads.keep_swept(shown, kept)  # but for what parts of the page show from the start
        loading.start(after=HEAD_START)
        threading.Thread(target=studio.finish_imports, name="imports", daemon=True).start()
        threading.Thread(target=studio.watch_for_damage, name="damage", daemon=True).start()
        page.block_thread()
    finally:
        backup.close()


class Guarded(App):
    """Gradio's application with the bound on uploads and the guard before all of its own middleware, which would answer
    some requests itself. access: None on a Space, which has its own way in."""

    def __init__(self, access: Access | None) -> None:
        super().__init__(default_response_class=ORJSONResponse)
        self.access = access

    def build_middleware_stack(self) -> Any:
        stack = uploads.Uploads(super().build_middleware_stack())
        return Guard(stack, self.access) if self.access else stack


def _ended(backup: Backup) -> None:
    """A last copy, and the end at once: Python would wait for what visitors still ask."""
    backup.close()
    os._exit(0)


def _state(loading: Loading) -> str:
    if loading.problem:
        return notices.notice(loading.problem, problem=True)
    return "" if loading.over else notices.waiting(f"{loading.stage} The page can be used meanwhile.")
