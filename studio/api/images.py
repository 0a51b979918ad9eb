"""Endpoints for images: make a comparison, and look at what is stored and at all that was said of it.

No ``from __future__ import annotations`` in this package: Gradio reads the types of what is returned as they are.
"""

import time
from typing import Annotated, Any, Literal

import gradio as gr

from studio.access.limits import limits
from studio.access.waiting import MODELS
from studio.api.answers import GivenFile, Viewer, columns, content, given, picture, plain
from studio.doors import Loras, Negative, SampleId, Scheduler, Weighted, endpoint
from studio.images import png_text
from studio.images.options import read_options
from studio.numbers import whole
from studio.pages import shared
from studio.studio import Studio, check_request

PATIENCE = 600.0  # seconds that a comparison waits for the models to be loaded
MOST = 200  # samples in one answer
COLUMNS = (
    "id prompt prompt_set split seed method strength steps guidance width height sampler negative weighted loras created mean "
    "people flags words"
)


@endpoint(line=MODELS)
def compare(
    studio: Studio,
    loading: shared.Loading,
    prompt: Annotated[str, "what the images should show"],
    seeds: Annotated[str, 'seeds such as "7", "7, 12" or "1-4"'] = "7",
    strength: Annotated[float, "of the projection, from 0 (none) to 1"] = 1.0,
    steps: Annotated[int | None, "sampling steps, 1 to 100; null for the model's own"] = None,
    guidance: Annotated[float | None, "0 (none) to 20; null for the model's own"] = None,
    noise: Annotated[
        str, "projected, or best-noise-of-8 for the best of so many noises, chosen before anything is drawn"
    ] = "projected",
    negative: Negative = None,
    scheduler: Scheduler = None,
    loras: Loras = "",
    weighted: Weighted = False,
    profile: gr.OAuthProfile | None = None,
) -> dict[str, Any]:
    """Make images of a prompt without and with projected noise, from the same seeds, and score every word of each.

    The images are stored, and can be corrected like any other.

    Returns: pairs: for each seed {seed, none, projected: or of the chosen noise, whose seed it has}; each a sample {id, prompt, seed, method, strength, steps, guidance, total: the mean score 0..9, words: [{index, text, kind, scored, score: 0..9, human, vlm, expected, uncertain, ...}], the last of kind extra, "nothing else", about the whole image, image: a file}; projected is null where no projector (or reward model) is in use. message: a sentence, or ''.
    """
    own = studio.models.sampling()
    steps = own["steps"] if steps is None else steps
    guidance = own["guidance"] if guidance is None else guidance
    prompt, options = read_options(studio.settings, prompt, negative, scheduler, loras, weighted)
    request = check_request(prompt, seeds, steps, guidance, strength, noise=noise, options=options)
    limits(studio, profile).check_request(request, studio.store)
    began = time.monotonic()
    while not loading.over:
        if time.monotonic() - began > PATIENCE:
            raise ValueError("The models are still loading: try again in a few minutes.")
        time.sleep(0.2)
    if loading.problem:
        raise ValueError(loading.problem)
    *_, last = studio.comparison.compare(request)
    pairs = [
        {"seed": p.seed, "none": plain(p.none), "projected": plain(p.projected) if p.projected else None}
        for p in last.pairs
    ]
    return {"pairs": pairs, "message": last.message}


@endpoint()
def sample(
    studio: Studio,
    sample: SampleId,
    who: Annotated[str, "from sign_in; the corrections shown are then this person's"] = "",
    profile: gr.OAuthProfile | None = None,
) -> dict[str, Any]:
    """A stored image and what stands for each of its words.

    Returns: the sample: {id, prompt, seed, method, strength, steps, guidance, total, words, image}; after the words stands one of kind extra, "nothing else", 9 where the image shows nothing that the prompt does not ask for; images of earlier versions lack it
    """
    name = shared.person(who, profile) if who else None
    return plain(studio.annotation.sample(sample, name))


@endpoint()
def image(
    studio: Studio,
    sample: SampleId,
    text: Annotated[
        bool, "with the text that the WebUI of AUTOMATIC1111 reads: prompt, seed, steps and so on"
    ] = False,
) -> dict[str, Any]:
    """The image of a sample, as a PNG file.

    Returns: the file
    """
    view = studio.annotation.sample(sample)
    return content(studio.grid_files.png(view.id), f"{view.id}.png") if text else picture(view)


@endpoint()
def read_image(studio: Studio, file: Annotated[GivenFile, "the PNG"]) -> dict[str, Any]:
    """How a PNG says that it was made, whether this studio, the WebUI of AUTOMATIC1111 or a tool whose JSON is known wrote it.

    Returns: prompt, seed, steps, guidance, width, height, method, strength, run, negative, scheduler, loras: [name:weight], hashes: the SHA-256 of these files by name, where it is said, weighted: whether the prompt has weights; what is not said is null or empty; source: studio, webui or json; note: what of it cannot be used here, or ''
    """
    return png_text.read_png(given(file))


@endpoint()
def sample_history(
    studio: Studio,
    sample: SampleId,
    limit: Annotated[int, "steps in the answer, 1000 at most"] = 200,
    who: Viewer = "",
    profile: gr.OAuthProfile | None = None,
) -> dict[str, Any]:
    """All that was said of an image, by whom and when.

    Returns: events: the newest first, [{created, who, source, what: set, clear, undo, submit, skip, flag, note, gold, preferred, ..., word_index, word, before, after, text}]; remarks: flags and notes that stand, [{kind, who, text, created}]
    """
    store = studio.store
    golden = shared.manages(studio, who, profile)
    events = store.library.events(sample, whole("limit", limit, 1, 1000), gold=golden)
    return {"events": events, "remarks": columns(store.remarks.find(sample=sample), "kind who text created")}


@endpoint()
def search(
    studio: Studio,
    text: Annotated[str, "words of the prompt, or the id of a sample"] = "",
    sort: Annotated[
        Literal["newest", "oldest", "uncertain", "disagreement", "lowest", "highest", "prompt", "seed"],
        "the order; lowest and highest are of the mean score",
    ] = "newest",
    prompt_set: Annotated[str | None, "the set that the prompt is from"] = None,
    split: Annotated[
        Literal["train", "validation", "heldout"] | None, "what it is used for: train, validation or heldout"
    ] = None,
    method: Annotated[str | None, "how the noise was made: none, projected, ..."] = None,
    run: Annotated[str | None, "the id of the run whose projector it was made with"] = None,
    seed: Annotated[int | None, "its seed"] = None,
    scored_by: Annotated[str | None, "who has scored a word of it; * for anyone"] = None,
    remark: Annotated[Literal["flag", "note"] | None, "flag or note, where one stands"] = None,
    disagreement: Annotated[float | None, "people differ by so many points or more"] = None,
    limit: Annotated[int, "samples in the answer, 200 at most"] = 24,
    after: Annotated[list[Any] | None, "what the page before answered as next"] = None,
    who: Annotated[
        str,
        "from sign_in; where there are administrators, gold is in the labels and mean scores of theirs only",
    ] = "",
    mean_from: Annotated[float | None, "a mean score of so much or more, 0 to 9"] = None,
    mean_to: Annotated[float | None, "a mean score of so much or less"] = None,
    profile: gr.OAuthProfile | None = None,
) -> dict[str, Any]:
    """Stored samples, a page at a time, as the Library shows them.

    Returns: samples: [{id, prompt, prompt_set, split, seed, method, strength, steps, guidance, width, height, sampler, negative, weighted: its prompt with weights or '', loras: JSON, created, mean: its mean score 0..9, people, flags, words: [{index, word, label, source: gold, human, simulated, calibrated or vlm, vlm, people}]}]; count: of all that match, 10,000 at most; more: whether there are more than that; next: give it as after, null at the end
    """
    page = studio.store.library.search(
        text, sort=sort, after=after, limit=whole("limit", limit, 1, MOST), gold=shared.manages(studio, who, profile),
        prompt_set=prompt_set, split=split, method=method, projector_run=run, seed=seed, who=scored_by, remark=remark,
        disagreement=disagreement, mean_from=mean_from, mean_to=mean_to,
    )  # fmt: skip
    return {**page, "samples": columns(page["samples"], COLUMNS)}


@endpoint()
def choices(studio: Studio) -> dict[str, list[str]]:
    """What the filters of the endpoint search can be set to now.

    Returns: prompt_set, split, method, run, scored_by: the values of each
    """
    names = {"projector_run": "run", "who": "scored_by"}
    return {names.get(name, name): values for name, values in studio.store.library.choices().items()}
