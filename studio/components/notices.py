"""Small pieces of the page that are plain HTML: notices, bars of progress, empty states. Every text is escaped."""

from __future__ import annotations

from html import escape


def notice(text: str, problem: bool = False) -> str:
    """A sentence in a box; '' for none."""
    if not text:
        return ""
    role = "alert" if problem else "status"
    tone = " problem" if problem else ""
    return f'<div class="studio-notice{tone}" role="{role}">{escape(text)}</div>'


def bar(done: float, words: str) -> str:
    """A bar of progress, done in 0..1, and what it says in words; '' where there are none."""
    if not words:
        return ""
    percent = round(100 * min(1.0, max(0.0, done)))
    return (
        f'<div class="progress" role="progressbar" aria-label="progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><i style="width:{percent}%"></i></div>'
        f'<p class="progress-words" role="status">{escape(words)}</p>'
    )


def empty(text: str) -> str:
    return f'<div class="empty"><p>{escape(text)}</p></div>'


def left(seconds: float | None) -> str:
    """Time left as people say it."""
    if seconds is None or seconds <= 0:
        return ""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"
