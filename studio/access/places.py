"""Where what is made is kept: a folder that can be written to, and what is said of how long it lasts.

A Space runs on a disk that is emptied at each restart, beside which a volume may be mounted at /data. A mounted bucket is
no place for a live database (FUSE knows no locks): there the database stays on the local disk, and back-ups go to the
bucket. Where the project's own folder cannot be written, the first of a few others that can be is taken.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from studio.access.identity import on_space

NAME = "noise-projection-studio"
DATA = Path("/data")  # where a Space mounts its storage
MOUNTS = Path("/proc/mounts")
FLEETING = {"overlay", "tmpfs", "ramfs", "rootfs", "squashfs"}


_FOLDERS = re.compile(r"(?<![\w/.:~])/(?:[^\s/'\"(),;:]+/)+")


def shortened(text: str) -> str:
    """The text with every absolute path in it by its last name: visitors have no use for where things lie here."""
    return _FOLDERS.sub("", text)


def writable(folder: Path) -> bool:
    """Whether files can be made in it, or it can be made: asked of the nearest folder that is there."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def mount(folder: Path) -> tuple[Path, str]:
    """The mount that a folder lies on and the kind of its file system; the root and '' where that cannot be known."""
    found, resolved = (Path("/"), ""), folder.resolve()
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        _, point, kind, *_ = [*line.split(), "", "", ""]
        at = Path(point.replace("\\040", " "))
        if resolved.is_relative_to(at) and len(at.parts) >= len(found[0].parts):
            found = (at, kind)
    return found


def is_bucket(folder: Path) -> bool:
    """Whether it lies on a file system of a program's own (FUSE), as a mounted bucket does."""
    return mount(folder)[1].startswith("fuse")


def lasts(folder: Path, env: Mapping[str, str] | None = None) -> bool:
    """Whether what is kept there outlives a restart; a folder that somebody chose does, off a Space."""
    at, kind = mount(folder)
    if on_space(env):
        return at != Path("/") and kind not in FLEETING
    return folder != temporary()


def home(given: str, own: Path, env: Mapping[str, str]) -> Path:
    """STUDIO_HOME: what was given, else the mounted storage of a Space, else the project's own folder, else one that can
    be written. ValueError where the one that was given cannot be."""
    space = on_space(env)
    if given:
        folder = Path(given).expanduser().absolute()
        if not writable(folder):
            raise ValueError(
                f"STUDIO_HOME is {given[:200]!r}, where nothing can be written: make that folder writable, or set "
                "STUDIO_HOME to another one."
            )
        return local(env) if space and is_bucket(folder) else folder
    if space and DATA.is_dir() and writable(DATA) and lasts(DATA, env) and not is_bucket(DATA):
        return DATA / NAME
    return own if writable(own) else local(env)


def local(env: Mapping[str, str]) -> Path:
    """A folder on this machine's own disk outside the project."""
    account = env.get("HOME", "")
    if account and os.path.isabs(account) and writable(Path(account)) and not is_bucket(Path(account)):
        return Path(account) / f".{NAME}"
    return temporary()


def temporary() -> Path:
    """The last resort, one for each account of the machine."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"{NAME}-{user}"


def claim(folder: Path) -> None:
    """Make a folder in a directory that all accounts can write to, closed to all but this one; PermissionError where it is
    another account's, or a link."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and found.st_uid != os.getuid()):
        raise PermissionError(errno.EPERM, "it belongs to another account", str(folder))
    folder.chmod(0o700)


def transient(home_folder: Path) -> Path:
    """Where Gradio keeps uploads and what is shown or downloaded: outside of STUDIO_HOME, from which nothing is served; one
    for each home, so that it can be swept."""
    name = hashlib.sha256(str(home_folder.resolve()).encode()).hexdigest()[:12]
    return temporary().with_name(f"{temporary().name}-shown-{name}")


def backup(given: str, home_given: str, env: Mapping[str, str]) -> str:
    """STUDIO_BACKUP: what was given, else a bucket that is mounted where the home was to be. A folder by its absolute
    path, or a dataset's id as it is; ValueError for what is neither."""
    if is_dataset(given):
        return given
    if given and not given.startswith((".", "/", "~")):
        raise ValueError(
            f"STUDIO_BACKUP is {given[:200]!r}: set it to a folder (/data/copies, ./copies) or a dataset (USER/NAME)."
        )
    if given:
        return str(Path(given).expanduser().absolute())
    wanted = Path(home_given).expanduser().absolute() if home_given else DATA / NAME
    return str(wanted) if on_space(env) and writable(wanted) and is_bucket(wanted) else ""


def is_dataset(text: str) -> bool:
    """Whether it can only be the id of a repository."""
    return re.fullmatch(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", text, re.ASCII) is not None


def hub_cache(env: Mapping[str, str], home_folder: Path) -> str:
    """HF_HOME for this process: '' where what it has can be written, else a folder in STUDIO_HOME. Read by
    huggingface_hub when it is imported."""
    cache = Path(env.get("XDG_CACHE_HOME") or Path(env.get("HOME") or "~").expanduser() / ".cache")
    used = Path(env.get("HF_HOME") or cache / "huggingface").expanduser()
    return "" if writable(used) else str(home_folder / "huggingface")


def warning(folder: Path, backed_up: bool, env: Mapping[str, str] | None = None) -> str:
    """What the page says of a place that does not last; '' where there is nothing to say."""
    if backed_up or lasts(folder, env):
        return ""
    if on_space(env):
        return (
            "This Space has no storage that lasts: images and corrections are lost at its next restart. Download "
            "them first, or its owner adds storage or sets STUDIO_BACKUP."
        )
    return (
        "Images and corrections are kept in a temporary folder, which the system may empty: set STUDIO_HOME to a "
        "folder that lasts, or STUDIO_BACKUP."
    )
