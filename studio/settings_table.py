"""The one table of the settings: what each is called, what it is where nobody set it, and what it means."""

from __future__ import annotations

# field: (variable, default, what it means); the defaults of paths are relative to the project's folder
SETTINGS: dict[str, tuple[str, str, str]] = {
    "home": ("STUDIO_HOME", ".studio", "the one folder that is written to: database, images, runs"),
    "backbone": ("STUDIO_BACKBONE", "data/models/diffuser", "the diffusion pipeline: a folder or a hub id"),
    "scorer": (
        "STUDIO_SCORER",
        "data/models/scorer",
        "the vision-language model that scores words: folder, hub id or a server's http(s) address",
    ),
    "scorer_revision": (
        "STUDIO_SCORER_REVISION",
        "",
        "the scorer's branch, tag or commit, where it is a hub id",
    ),
    "scorer_dtype": (
        "STUDIO_SCORER_DTYPE",
        "auto",
        "what the scorer computes in: auto (float32 on a CPU, as stored on a GPU), float32, float16 or bfloat16",
    ),
    "scorer_model": (
        "STUDIO_SCORER_MODEL",
        "auto",
        "the model's name on a scorer's server; auto takes the first that it lists",
    ),
    "scorer_parallel": ("STUDIO_SCORER_PARALLEL", "8", "requests in flight to a scorer's server"),
    "reward": ("STUDIO_REWARD", "data/models/reward", "the reward model in use until one is promoted"),
    "projector": ("STUDIO_PROJECTOR", "data/models/projector", "the projector in use until one is promoted"),
    "labels": (
        "STUDIO_LABELS",
        "data/models/labels",
        "VLM scores that are trained on again beside new labels",
    ),
    "examples": (
        "STUDIO_EXAMPLES",
        "data/examples",
        "the example pairs that an empty store begins with, where the models that made them are in use: a folder or none",
    ),
    "device": ("STUDIO_DEVICE", "auto", "auto (a GPU where there is one), cpu, cuda, cuda:1 or mps"),
    "threads": ("STUDIO_THREADS", "0", "CPU threads of the models; 0 leaves it to torch"),
    "world": ("STUDIO_WORLD", "small", "the shapes world that prompts are taken from: small or large"),
    "prompts": (
        "STUDIO_PROMPTS",
        "shapes",
        "the prompts to train and judge on beside the labelled ones: shapes, a file with one a line, or a public set",
    ),
    "batch": ("STUDIO_BATCH", "16", "images made or scored at a time"),
    "revision": ("STUDIO_REVISION", "", "the backbone's branch, tag or commit, where it is a hub id"),
    "variant": ("STUDIO_VARIANT", "", "of the backbone's weight files, for example fp16"),
    "dtype": (
        "STUDIO_DTYPE",
        "auto",
        "what the backbone computes in: auto (float16 on a GPU), float32, float16 or bfloat16",
    ),
    "size": ("STUDIO_SIZE", "auto", "of images: auto (the backbone's own) or WIDTHxHEIGHT, multiples of 8"),
    "steps": (
        "STUDIO_STEPS",
        "auto",
        "sampling steps where nobody chooses: auto (the backbone's own) or 1 to 100",
    ),
    "guidance": ("STUDIO_GUIDANCE", "auto", "guidance likewise: auto or 0 (none) to 20"),
    "offload": (
        "STUDIO_OFFLOAD",
        "none",
        "parts of the backbone that wait outside the GPU: none, model (one at a time is there) or sequential",
    ),
    "slicing": (
        "STUDIO_SLICING",
        "no",
        "yes: attention and autoencoder in slices, slower and in less memory",
    ),
    "gold_every": (
        "STUDIO_GOLD_EVERY",
        "10",
        "one in so many images that a person is given to annotate carries gold scores; 0: none does",
    ),
    "confirm": (
        "STUDIO_CONFIRM",
        "yes",
        "yes: who is done with an image confirms the scores that they were shown and left as they are; no: only n does",
    ),
    "mcp": (
        "STUDIO_MCP",
        "auto",
        "the named endpoints as MCP tools too: auto (where the package mcp is installed), yes or no",
    ),
    "annotate": (
        "STUDIO_ANNOTATE",
        "everyone",
        "who may correct scores and vote: everyone, login (accounts that signed in, on a Space) or nobody",
    ),
    "admins": (
        "STUDIO_ADMINS",
        "",
        "names, with commas between, that may train, promote, import, export, delete and see gold: accounts on a Space, elsewhere by the token; none: on a Space its owner, elsewhere whoever has the token, on a machine of one's own everyone",
    ),
    "token": (
        "STUDIO_TOKEN",
        "",
        "the administrators' token off a Space: 16 to 200 letters, digits, - . _ or ~; where it is not set, a new one at each start; with the word none everybody is an administrator",
    ),
    "hosts": (
        "STUDIO_HOSTS",
        "",
        "further names, with commas between, by which browsers reach the studio off a Space, such as that of a proxy",
    ),
    "max_cells": (
        "STUDIO_MAX_CELLS",
        "auto",
        "images that a visitor may ask for at once: auto (256, on a Space 32) or 1 to 256",
    ),
    "max_steps": (
        "STUDIO_MAX_STEPS",
        "auto",
        "sampling steps that a visitor may ask for: auto (100, on a Space 50) or 1 to 100",
    ),
    "max_size": (
        "STUDIO_MAX_SIZE",
        "auto",
        "pixels a side that a visitor may ask for: auto (2048, on a Space 1024) or 64 to 2048",
    ),
    "max_samples": (
        "STUDIO_MAX_SAMPLES",
        "auto",
        "images in the store beyond which visitors make no more: auto (no bound, on a Space 20000) or their number",
    ),
    "queue": (
        "STUDIO_QUEUE",
        "32",
        "requests that may wait for the models: an eighth from one page, half from one account or address; more are turned away",
    ),
    "backup": (
        "STUDIO_BACKUP",
        "",
        "where copies of the store go: a folder (a mounted bucket), or a dataset USER/NAME (needs HF_TOKEN)",
    ),
    "backup_minutes": ("STUDIO_BACKUP_MINUTES", "15", "minutes between two copies, where something changed"),
    "restore": (
        "STUDIO_RESTORE",
        "yes",
        "yes: an empty STUDIO_HOME begins with what STUDIO_BACKUP holds; no: it begins empty",
    ),
    "overlap": (
        "STUDIO_OVERLAP",
        "0",
        "how many people annotate an image in all, at once or not; 0: any number, one at a time",
    ),
    "webhook": (
        "STUDIO_WEBHOOK",
        "",
        "an https address that people's new scores are posted to, signed where STUDIO_WEBHOOK_SECRET is set",
    ),
}


def settings_table() -> str:
    """`SETTINGS` as a table in Markdown, as studio/README.md shows it."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    rows += [
        f"| `{variable}` | {f'`{default}`' if default else 'none'} | {meaning} |"
        for variable, default, meaning in SETTINGS.values()
    ]
    return "\n".join(rows)
