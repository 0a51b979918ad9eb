"""The commands that carry things out of the store as a whole and into it, look through it, and say who did so."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from studio.cli.commands import Account, person
from studio.cli.console import Console
from studio.doors import InFormat, OutFormat, Result, command
from studio.times import moment

if TYPE_CHECKING:
    from studio.studio import Studio

ENDINGS = {".csv": "csv", ".parquet": "parquet"}
Licence = Annotated[
    str | None, "for the dataset card, for example cc-by-4.0; without it the card says that none was chosen"
]
SHOWN = 20  # changes that are listed; --json has all


@command()
def export(
    studio: "Studio",
    file: Annotated[str, "a file; with --format dataset a new folder"],
    *,
    format: Annotated[OutFormat | None, "without it: by the file's ending csv or parquet, else jsonl"] = None,
    no_features: Annotated[bool, "leave out the scorer's hidden states"] = False,
    licence: Licence = None,
    who: Account = None,
) -> Result:
    """All samples and labels as JSONL, or the labels as other tools want them (CSV, Parquet, a folder for datasets, DPO pairs, RichHF, Rapidata)."""
    from studio.exchange.transfer import export_file

    kind = format or ENDINGS.get(Path(file).suffix.lower(), "jsonl")
    if no_features and kind != "jsonl":
        raise ValueError("--no-features belongs to jsonl; the other formats have no hidden states.")
    if licence and kind != "dataset":
        raise ValueError("--licence belongs to dataset; the other formats have no card.")
    count = export_file(studio, kind, file, person(who), features=not no_features, licence=licence or "")
    if kind == "jsonl":
        return Result(count, "Written: {samples} samples, {events} scores, {runs} runs.".format(**count))
    if kind in ("dpo", "votes"):
        return Result(count, "Written: {pairs} pairs of {samples} samples.".format(**count))
    left = count.get("left_out")
    more = f" {left} images were left out: their files are gone or changed." if left else ""
    if apart := count.get("nothing_else_left_out"):
        more += f" {apart} scores of nothing else were left out: this format has no place for them."
    return Result(count, "Written: {words} words of {samples} samples.{}".format(more, **count))


@command()
def import_(
    studio: "Studio",
    file: Annotated[str, "the file"],
    *,
    format: Annotated[InFormat, "what the file is"] = "jsonl",
    who: Annotated[
        str | None, "whose scores or votes those of the other formats are; without it the account's name"
    ] = None,
    images: Annotated[str | None, "the folder where the samples' images lie, to check them"] = None,
    dry_run: Annotated[bool, "check, count, and say what would change"] = False,
) -> Result:
    """Take over a file that `export` wrote, or one in another tool's format: all of it or nothing."""
    from studio.exchange.transfer import import_file

    if format == "jsonl" and who:
        raise ValueError("--who belongs to the other formats; jsonl says itself who said what.")
    if format != "jsonl" and images:
        raise ValueError("--images belongs to jsonl; the other formats bring no samples.")
    taken = import_file(studio, format, file, person(who), dry_run=dry_run, images=images)
    lines = [taken.text] + [described(change) for change in taken.changes[:SHOWN]]
    left = len(taken.changes) - SHOWN + taken.more
    if left > 0:
        lines.append(f"  and {left} more; --json has {'the first of them' if taken.more else 'them all'}.")
    return Result({**taken.counts, "changes": taken.changes}, "\n".join(lines))


def described(change: dict[str, Any]) -> str:
    """A change in a line; the word is foreign text, and is shown so that it cannot command a terminal."""
    from data.store.checks import shown

    line = f"  line {change['line']}: "
    if "chosen_sample" in change:
        before = f", before: {change['before']}" if change["before"] else ""
        return f"{line}{change['chosen_sample']} before {change['rejected_sample']}{before}"
    before = "no label" if change["before"] is None else f"{change['before']:g}"
    word = f"word {change['word_index']} {shown(change['word'])} of {change['sample']}"
    return f"{line}{word}: {before} -> {change['after']:g}"


@command()
def samples(
    studio: "Studio",
    text: Annotated[str, "words of the prompt; none: all"] = "",
    *,
    sort: Annotated[
        str, "newest, oldest, uncertain, disagreement, lowest or highest (mean score), prompt or seed"
    ] = "newest",
    set: Annotated[str | None, "of this prompt set"] = None,
    split: Annotated[str | None, "train, validation or heldout"] = None,
    method: Annotated[str | None, "none, projected, ..."] = None,
    run: Annotated[str | None, "made by the projector of this run"] = None,
    seed: Annotated[int | None, "of this seed"] = None,
    by: Annotated[str | None, "scored by this person; * is anyone"] = None,
    remark: Annotated[str | None, "flag or note: with one that stands"] = None,
    disagreement: Annotated[float | None, "people differ by so many points or more"] = None,
    mean_from: Annotated[float | None, "a mean score of so much or more"] = None,
    mean_to: Annotated[float | None, "a mean score of so much or less"] = None,
    limit: Annotated[int, "so many of them"] = 20,
) -> Result:
    """Search the samples, as the tab Library does."""
    from data.store.checks import shown

    page = studio.store.library.search(
        text, sort=sort, limit=limit, prompt_set=set, split=split, method=method, projector_run=run, seed=seed, who=by,
        remark=remark, disagreement=disagreement, mean_from=mean_from, mean_to=mean_to,
    )  # fmt: skip
    lines = [
        f"{s['id']}  seed {s['seed']}  {s['method']}  {'-' if s['mean'] is None else format(s['mean'], '.1f')}  "
        f"{shown(s['prompt'])}"
        for s in page["samples"]
    ]
    more = "more than " if page["more"] else ""
    return Result(page, "\n".join([*lines, f"{len(page['samples'])} of {more}{page['count']} samples."]))


@command()
def backup(studio: "Studio", file: Annotated[str, "a new file"], *, who: Account = None) -> Result:
    """A copy of the database as it is now, while the app is in use."""
    from studio.exchange import transfer

    target = transfer.backup(studio, file, person(who))
    size = target.stat().st_size
    return Result({"file": str(target), "bytes": size}, f"Written: {file}, {size / 1e6:.1f} MB.")


@command()
def restore(
    studio: "Studio",
    file: Annotated[str, "the backup"],
    *,
    check: Annotated[bool, "only say whether it could be restored"] = False,
    who: Account = None,
) -> Result:
    """Put a backup in the place of the database; what it replaces is kept beside it."""
    from studio.exchange import transfer

    counts = (
        studio.store.restoring.check_backup(file) if check else transfer.restore(studio, file, person(who))
    )
    return Result(counts, transfer.restored(counts))


@command(text="{samples} images with {words} words are at {url}.".format_map)
def push(
    studio: "Studio",
    repository: Annotated[str, "owner/name"],
    *,
    public: Annotated[bool, "everybody can read it; without it, it is private"] = False,
    licence: Licence = None,
    who: Account = None,
) -> dict[str, Any]:
    """Push images, words and a dataset card to a dataset repository of the Hub; the token is HF_TOKEN."""
    from studio.exchange import transfer

    token = os.environ.get("HF_TOKEN", "")
    return transfer.push(studio, repository, token, person(who), private=not public, licence=licence or "")


@command()
def publish(
    studio: "Studio",
    folder: Annotated[str, "a new folder"],
    *,
    run: Annotated[str, "of this run; without it the projector in use"] = "",
    backbone: Annotated[
        str,
        "the hub id or path by which others load the backbone; without it STUDIO_BACKBONE, if that is a hub id",
    ] = "",
    licence: Annotated[
        str, "of the weights, for example cc-by-4.0; without it the card says that none was chosen"
    ] = "",
    push: Annotated[
        str, "owner/name: push the folder to this model repository of the Hub; the token is HF_TOKEN"
    ] = "",
    public: Annotated[bool, "everybody can read it; without it, it is private"] = False,
    who: Account = None,
) -> Result:
    """Write a projector as others use it without the studio: for diffusers' modular and custom pipelines, and for ComfyUI."""
    from studio.exchange import publishing

    if public and not push:
        raise ValueError("--public belongs to --push: nothing is pushed without it.")
    made = publishing.publish(
        studio, folder, person(who), run=run, backbone=backbone, licence=licence, repository=push, private=not public,
        token=os.environ.get("HF_TOKEN", ""),
    )  # fmt: skip
    pushed = f" It is at {made['url']}." if push else ""
    text = f"The projector of the run {made['run']} is in {folder}, {made['bytes'] / 1e6:.1f} MB. Its README says how it is used."
    return Result(made, text + pushed)


@command()
def webhook(
    studio: "Studio", console: Console, *, once: Annotated[bool, "send what waits, then end"] = False
) -> Result:
    """Post people's new scores to STUDIO_WEBHOOK without the app, until it is stopped; the app does so by itself."""
    from studio.exchange import webhook as hook

    follower = hook.follower_of(studio)
    if follower is None:
        raise ValueError("No webhook is set: set STUDIO_WEBHOOK to an https address.")
    if once:
        try:
            while follower.step():
                pass
        except hook.Failed as error:
            raise ValueError(f"New labels do not reach the webhook: {error}") from None
    else:
        follower.start()
        console.stop.wait()
        follower.stop()
    return Result({"sent": follower.sent, "problem": follower.problem}, f"{follower.sent} scores were sent.")


@command()
def audit(studio: "Studio", *, limit: Annotated[int, "so many lines"] = 50) -> Result:
    """Who did what to the store as a whole, the newest first."""
    from data.store.checks import shown

    log = studio.store.audit.entries(limit)
    lines = [
        f"{moment(line['created'])}  {shown(line['who'] or 'the studio')}  {line['action']}  {shown(line['subject'])}"
        for line in log
    ]
    return Result(log, "\n".join(lines) or "Nothing was done to the store as a whole yet.")
