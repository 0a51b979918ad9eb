"""The command that says how far the annotators agree, with each other and with the scorer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from studio.doors import Result, command

if TYPE_CHECKING:
    from studio.studio import Studio

NAME = 24  # characters of a name in the table
AGAINST = (("with the VLM", "vlm"), ("with gold", "gold"), ("with the others", "others"))
ALPHA = ("words", "alpha ordinal", "alpha interval")


@command()
def agreement(
    studio: "Studio", *, who: Annotated[str | None, "the figures of this annotator alone"] = None
) -> Result:
    """How far annotators agree: Krippendorff's alpha by kind of word and by pair, and with the scorer."""
    from studio.annotation import quality

    if who is not None:
        person = quality.annotator(studio.store, who)
        return Result(person, page(person))
    figures = quality.agreement(studio.store)
    return Result(figures, described(figures))


def page(person: dict[str, Any]) -> str:
    """One annotator's figures: counts, how often each score was given, and agreement with the VLM and with others."""
    counts = "samples words sets clears undos submitted skipped".split()
    parts = [
        _name(person["who"]),
        table(["", *counts, "hours", "per hour"], [["in all", *(str(person[name]) for name in counts),
              _number(person["hours"]), _number(person["per_hour"], 0)]]),
        table(["score", *map(str, range(10))], [["words", *map(str, person["scores"])]]),
        *(_against(name, person[other]) for name, other in AGAINST if other == "vlm" or person[other]["all"]["words"]),
    ]  # fmt: skip
    if person["pairs"]:
        parts.append(_pairs(person["pairs"]))
    return "\n\n".join(parts)


def _against(name: str, kinds: dict[str, Any]) -> str:
    rows = [
        [kind, str(f["words"]), _share(f["exact"]), _number(f["mean_absolute"]), _number(f["spearman"])]
        for kind, f in kinds.items()
    ]
    return table([name, "words", "same score", "mean difference", "Spearman"], rows)


def described(figures: dict[str, Any]) -> str:
    """Three tables: kinds of words, pairs of people, people. What a `-` in alpha lacks stands below."""
    parts = [
        table(
            ["kind of word", "people", *ALPHA],
            [[k["kind"], str(k["people"]), *_alpha(k)] for k in figures["kinds"]],
        )
    ]
    if figures["pairs"]:
        parts.append(_pairs(figures["pairs"]))
    if figures["people"]:
        rows = [
            [_name(p["who"]), str(p["words"]), _number(p["per_hour"], 0), str(p["skipped"]), str(p["undos"]),
             _share(vlm["exact"]), _number(vlm["mean_absolute"]), _number(vlm["spearman"]),
             _share(p["gold"]["all"]["exact"]), _number(p["gold"]["all"]["mean_absolute"])]
            for p in figures["people"] for vlm in [p["vlm"]["all"]]
        ]  # fmt: skip
        columns = (
            "annotator,words,per hour,skipped,undone,as the VLM,mean difference,Spearman,as gold,from gold"
        )
        parts.append(table(columns.split(","), rows))
    reasons = [
        f"{where}: {one['why']}"
        for where, one in [
            *((k["kind"], k) for k in figures["kinds"]),
            *((" + ".join(map(_name, p["people"])), p) for p in figures["pairs"]),
            *((f"{_name(p['who'])} and the VLM", p["vlm"]["all"]) for p in figures["people"]),
        ]
        if one["why"]
    ]
    return "\n\n".join([*parts, *(["\n".join(reasons)] if reasons else [])])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text: the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths)))
        for row in [head, *rows]
    )  # fmt: skip


def _pairs(pairs: Sequence[dict[str, Any]]) -> str:
    rows = [
        [" + ".join(map(_name, p["people"])), *_alpha(p), _share(p["exact"]), _number(p["mean_absolute"])]
        for p in pairs
    ]
    return table(["pair", *ALPHA, "same score", "mean difference"], rows)


def _alpha(pair: dict[str, Any]) -> list[str]:
    return [str(pair["words"]), _number(pair["ordinal"], 3), _number(pair["interval"], 3)]


def _name(who: str) -> str:
    """A name that cannot break the table: a name may come from an imported file."""
    plain = "".join(c if c.isprintable() else "?" for c in who)
    return plain if len(plain) <= NAME else plain[: NAME - 3] + "..."


def _number(value: float | None, places: int = 2) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
