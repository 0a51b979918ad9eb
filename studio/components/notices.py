"""Small parts of the page that are plain HTML: its head, notices, progress bars, empty states. Every text is escaped."""

from __future__ import annotations

from html import escape

# noise on the left of the line, its image on the right; and what the buttons of the looks show
_MARK = (
    '<svg class="studio-mark" viewBox="0 0 28 28" aria-hidden="true" fill="currentColor"><rect x="1" y="1" width="26" '
    'height="26" rx="7" fill="none" stroke="currentColor" stroke-width="2"/><circle cx="7" cy="8" r="1.4"/><circle cx="11" '
    'cy="12.5" r="1.4"/><circle cx="6.6" cy="16" r="1.4"/><circle cx="10.4" cy="20.4" r="1.4"/><circle cx="11.4" cy="7" '
    'r="1.1"/><circle cx="19.6" cy="14" r="4.6"/></svg>'
)
_LINES = 'viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" aria-hidden="true"'
_LOOKS = {
    "light": '<circle cx="12" cy="12" r="4"/><path d="M12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M5 19l2-2M17 7l2-2"/>',
    "dark": '<path d="M20 14.5A8 8 0 0 1 9.5 4 8 8 0 1 0 20 14.5z"/>',
    "system": '<rect x="3" y="4" width="18" height="12" rx="2"/><path d="M8 20h8M12 16v4"/>',
}
_EMPTY = (
    '<svg viewBox="0 0 68 68" fill="none" stroke="currentColor" stroke-width="2" aria-hidden="true"><rect x="5" y="17" '
    'width="27" height="34" rx="5" stroke-dasharray="4 4"/><rect x="36" y="17" width="27" height="34" rx="5"/><circle '
    'cx="49.5" cy="34" r="7"/><circle cx="13" cy="27" r="1"/><circle cx="22" cy="31" r="1"/><circle cx="15" cy="38" r="1"/>'
    '<circle cx="24" cy="42" r="1"/><circle cx="25" cy="24" r="1"/></svg>'
)


def head(title: str, what: str, tabs: bool = True) -> str:
    """The head of a page: a link past it to the tabs, the name, and the choice of light, dark or system colours."""
    looks = "".join(
        f'<label title="{name.capitalize()}"><input type="radio" name="studio-looks" value="{name}" '
        f'aria-label="{name.capitalize()}"{" checked" if name == "system" else ""}><svg {_LINES}>{icon}</svg></label>'
        for name, icon in _LOOKS.items()
    )
    skip = '<a class="skip-link" href="#tabs">Skip to the tabs</a>' if tabs else ""
    return (
        f'{skip}<header class="studio-head">{_MARK}<h1>{escape(title)}</h1><p>{escape(what)}</p>'
        f'<div class="studio-looks" role="radiogroup" aria-label="Light or dark">{looks}</div></header>'
    )


def notice(text: str, problem: bool = False) -> str:
    """A sentence in a box; '' for none."""
    return _box(text, " problem" if problem else "", "alert" if problem else "status")


def waiting(text: str) -> str:
    """A sentence in a box with a turning circle, for something that is loading."""
    return _box(text, " waiting", "status")


def _box(text: str, tone: str, role: str) -> str:
    if not text:
        return ""
    return f'<div class="studio-notice{tone}" role="{role}"><span>{escape(text)}</span></div>'


def quiet(text: str) -> str:
    """A line in grey."""
    return f'<p class="quiet">{escape(text)}</p>'


def bar(done: float, words: str) -> str:
    """A progress bar, done in 0..1, with its text; '' where there is none."""
    if not words:
        return ""
    percent = round(100 * min(1.0, max(0.0, done)))
    return (
        f'<div class="progress" role="progressbar" aria-label="progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><i style="width:{percent}%"></i></div>'
        f'<p class="progress-words" role="status">{escape(words)}</p>'
    )


def arrow(by: float | None) -> str:
    """A change of a mean score, its direction in a sign as well; '' for none."""
    if by is None or tone(by) == "same":
        return "" if by is None else "= 0"
    return f"{'▲' if by > 0 else '▼'} {signed(by)}"


def tone(by: float) -> str:
    """The class of a change: up, down or same."""
    return "same" if abs(by) < 0.05 else "up" if by > 0 else "down"


def signed(by: float) -> str:
    """A number with its sign, a minus as on the chips."""
    return f"{by:+.1f}".replace("-", "−")


def counted(many: int, what: str, several: str = "") -> str:
    """A number of things: 1 image, 2 images."""
    return f"{many:,} {what if many == 1 else several or what + 's'}"


def empty(text: str) -> str:
    """An empty state: a sentence that says what to do."""
    return f'<div class="empty">{_EMPTY}<p>{escape(text)}</p></div>'


def left(seconds: float | None) -> str:
    """Remaining time in words."""
    return f"about {duration(seconds)} left" if seconds and seconds > 0 else ""


def duration(seconds: float) -> str:
    """A duration in words."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
