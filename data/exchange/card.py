"""The dataset card: what a folder of labelled images says of itself (YAML for the hub, prose for people).

Every figure is counted from what was written. Names of models come from settings and are shown as code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

LICENCE = r"[a-z0-9][a-z0-9.-]{0,39}"
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
SOURCES = {
    "human": "people, who corrected the score of a word on seeing the image; of several people the lower median "
    "counts, and a gold score where one is kept",
    "confirmed": "people who saw the score that stood there and were done with the image without changing it",
    "simulated": "the simulated annotator, a detector on pixels that knows the shapes world",
    "calibrated": "the VLM, calibrated on people's corrections",
    "vlm": "the vision-language model, as a distribution over the ten scores",
}
COLUMNS = {
    "image": "the image, byte for byte as it was scored",
    "id": "the sample's id in the studio that made it",
    "prompt": "the text that the image was made from",
    "prompt_set, split": "where the prompt comes from; `heldout` prompts were never trained on",
    "seed, backbone, backbone_revision, width, height, steps, guidance, sampler": "what makes the image again",
    "method, strength, projector_run": "`none`, or how the initial noise was changed, how far, and by which model",
    "noise_sha256": "of the initial noise",
    "words": "a list, an entry a word that has a label",
    "words.index, words.word": "the word's place among all words of the prompt, and the word; after the words may come "
    "“nothing else”, 9 where the image shows nothing that the prompt does not ask for",
    "words.score": "a whole number from 0 to 9, or null where only a distribution is known",
    "words.distribution": "ten probabilities of the scores 0 to 9, or null",
    "words.expected": "one number for either, 0 to 9; the distribution's mean where there is one",
    "words.source, words.people": "who said so (below), and by how many people",
}


def card(title: str, licence: str, figures: Mapping[str, Any]) -> str:
    """README.md of the folder. figures: splits {name: {images, words}}, sources, prompts, backbones, scorers, left_out."""
    images = sum(split["images"] for split in figures["splits"].values())
    size = next((name for most, name in SIZES if images < most), "n>1M")
    front = ["---", f"pretty_name: {json.dumps(title)}", f"license: {licence or 'other'}"]
    if not licence:
        front += ["license_name: to-be-chosen"]
    front += ["task_categories:", "- text-to-image", "- image-classification", "tags:", "- human-feedback",
              "- text-to-image-alignment", "- word-scores", "size_categories:", f"- {size}", "configs:",
              "- config_name: default", "  data_files:"]  # fmt: skip
    for split in figures["splits"]:
        front += [f"  - split: {split}", f'    path: "{split}/**"']
    table = ["| split | images | labelled words |", "|---|---:|---:|"]
    table += [
        f"| {name} | {split['images']} | {split['words']} |" for name, split in figures["splits"].items()
    ]
    said = [f"- `{name}`, {count} words: {SOURCES[name]}." for name, count in figures["sources"].items()]
    columns = ["| column | meaning |", "|---|---|"]
    columns += [
        f"| {', '.join(f'`{c}`' for c in name.split(', '))} | {meaning} |"
        for name, meaning in COLUMNS.items()
    ]
    left = figures["left_out"]
    gone = f" {left} labelled images are left out: their files were gone or changed." if left else ""
    rights = (
        f"`{licence}`, chosen by whoever published this. "
        if licence
        else "**No licence has been chosen yet: whoever publishes this must set `license` above.** "
    )
    parts = [
        "\n".join([*front, "---"]),
        f"# {title}",
        (
            f"{images} images made from {figures['prompts']} prompts, each with a score from 0 to 9 for the words of its "
            "prompt. Made and labelled with Noise Projection Studio."
        ),
        '```python\nfrom datasets import load_dataset\n\ndata = load_dataset("path/to/this/folder")\n```',
        "## Scores",
        (
            "**9 = the image fully shows the word, 0 = not at all; higher is better.** Words without meaning (such as "
            '"a", "of") carry no score.'
        ),
        "## Splits",
        "\n".join(table) + ("\n\n" + gone.strip() if gone else ""),
        "## How the labels were made",
        (
            "Each word has the label of the first of these that has spoken: people, people who confirmed what they saw, "
            "the simulated annotator, the calibrated scorer, the VLM. In this dataset:"
        ),
        "\n".join(said),
        f"Vision-language models: {_codes(figures['scorers'])}. Image models: {_codes(figures['backbones'])}.",
        "People may have seen the VLM's score before they gave theirs. No name of a person is part of this dataset.",
        "## Columns",
        "\n".join(columns),
        "## Licence",
        rights + "The image model's own licence holds for what may be done with the images.",
    ]
    return "\n\n".join(parts) + "\n"


def _codes(names: list[str]) -> str:
    """Names as code: no backtick, no end of a line; of a folder only its last part, as the rest tells of a machine."""
    plain = (" ".join(name.replace("`", "'").split()) for name in names)
    shown = [
        name.rstrip("/").rsplit("/", 1)[-1] if name.startswith(("/", "~", ".")) else name for name in plain
    ]
    return ", ".join(f"`{name}`" for name in dict.fromkeys(shown)) or "none"
