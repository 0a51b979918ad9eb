"""What came of a run, below its figures: the seeds that changed, with their images, and what it learned from."""

from __future__ import annotations

from html import escape
from typing import Any

from studio.components.thumbnails import thumbnail
from studio.studio import Studio
from studio.training.datasets import left_out_said
from studio.training.results import PICTURES, learned_said, seeds_said


def html(studio: Studio, run: dict[str, Any]) -> str:
    """The page's part; '' of a run that has nothing of it."""
    metrics = run["metrics"] or {}
    heldout = metrics.get("heldout") or {}
    parts = []
    if said := seeds_said(heldout):
        first, *rest = said
        parts.append(f"<h4>{escape(first)}</h4><p>{escape(' '.join(rest))}</p>")
        parts.append(_pictures(studio, run, heldout["seeds"].get("shown") or []))
    learned = learned_said(metrics)
    if left_out := left_out_said(metrics.get("left_out") or {}):
        learned.append(left_out)
    if learned:
        parts.append("<h4>What it learned from</h4>")
        parts.append(f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in learned)}</ul>")
    return "".join(parts)


def _pictures(studio: Studio, run: dict[str, Any], shown: list[dict[str, Any]]) -> str:
    """Images of seeds that changed, before and after; '' where their files are gone."""
    folder, body = studio.runs.folder(run["id"]) / PICTURES, []
    for one in shown:
        cells = []
        for part in ("before", "after"):
            source = thumbnail(str(folder / one[part]))
            if not source:
                break
            alt = f"{one['prompt']}, seed {one['seed']}, {part}"
            cells.append(f'<td><img src="{source}" alt="{escape(alt, quote=True)}"></td>')
        if len(cells) == 2:
            now, tone = ("whole now", "up") if one["whole"] else ("broken now", "down")
            name = f"{escape(one['prompt'])}<br><small>seed {one['seed']}</small><br>"
            body.append(
                f"<tr><th scope='row'>{name}<span class='gain {tone}'>{now}</span></th>{''.join(cells)}</tr>"
            )
    if not body:
        return ""
    return (
        '<div class="scroll"><table class="plain samples changed"><thead><tr><td></td><th scope="col">before</th>'
        f'<th scope="col">after</th></tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )
