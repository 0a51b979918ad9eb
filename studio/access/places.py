"""Storage: the writable home folder, the back-up's place, and warnings where storage does not last.

A Space runs on a disk that is emptied at each restart, beside which a volume may be mounted at /data. A mounted bucket
cannot hold a live database (FUSE has no locks): there the database stays on the local disk, and back-ups go to the bucket.
If the project's own folder cannot be written, another one is taken.
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
    """The text with the folders of absolute paths removed, which do not concern visitors."""
    return _FOLDERS.sub("", text)


def writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or it can be made in its nearest existing parent."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def mount(folder: Path) -> tuple[Path, str]:
    """The mount point of a folder and the kind of its file system; the root and '' if unknown."""
    best, resolved = (Path("/"), ""), folder.resolve()
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return best
    for line in lines:
        _, point, kind, *_ = [*line.split(), "", "", ""]
        at = Path(point.replace("\\040", " "))
        if resolved.is_relative_to(at) and len(at.parts) >= len(best[0].parts):
            best = (at, kind)
    return best


def is_bucket(folder: Path) -> bool:
    """Whether a folder is on a FUSE file system, as a mounted bucket is."""
    return mount(folder)[1].startswith("fuse")


def lasts(folder: Path, env: Mapping[str, str] | None = None) -> bool:
    """Whether a folder's files survive a restart; off a Space a chosen folder's do."""
    at, kind = mount(folder)
    if on_space(env):
        return at != Path("/") and kind not in FLEETING
    return folder != temporary()


def home(given: str, own: Path, env: Mapping[str, str]) -> Path:
    """STUDIO_HOME: the given folder, else the mounted storage of a Space, else the project's own folder, else one that can
    be written; ValueError where the given one cannot be."""
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
    """A folder on the local disk outside the project."""
    account = env.get("HOME", "")
    if account and os.path.isabs(account) and writable(Path(account)) and not is_bucket(Path(account)):
        return Path(account) / f".{NAME}"
    return temporary()


def temporary() -> Path:
    """The folder of last resort, one for each account of the machine."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"{NAME}-{user}"


def claim(folder: Path) -> None:
    """Make a private folder in a directory that all accounts can write to; PermissionError where it is another account's,
    or a link."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or (hasattr(os, "getuid") and info.st_uid != os.getuid()):
        raise PermissionError(errno.EPERM, "it belongs to another account", str(folder))
    folder.chmod(0o700)


def transient(home_folder: Path) -> Path:
    """Gradio's folder for uploads, shown files and downloads: outside of STUDIO_HOME, from which nothing is served, and one
    for each home, so that it can be swept."""
    name = hashlib.sha256(str(home_folder.resolve()).encode()).hexdigest()[:12]
    return temporary().with_name(f"{temporary().name}-shown-{name}")


def backup(given: str, home_given: str, env: Mapping[str, str]) -> str:
    """STUDIO_BACKUP: the given folder (its absolute path) or dataset, else a bucket that is mounted at the home's place;
    ValueError for anything else."""
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
    """Whether a text can only be the id of a repository."""
    return re.fullmatch(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", text, re.ASCII) is not None


def hub_cache(env: Mapping[str, str], home_folder: Path) -> str:
    """HF_HOME for this process, which huggingface_hub reads at import: '' if its default can be written, else a folder in
    STUDIO_HOME."""
    cache = Path(env.get("XDG_CACHE_HOME") or Path(env.get("HOME") or "~").expanduser() / ".cache")
    used = Path(env.get("HF_HOME") or cache / "huggingface").expanduser()
    return "" if writable(used) else str(home_folder / "huggingface")


def warning(folder: Path, backed_up: bool, env: Mapping[str, str] | None = None) -> str:
    """The page's warning of storage that does not last, or ''."""
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
