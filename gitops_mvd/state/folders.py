"""The folders of apps on this host, where `./data` of a Compose file is kept: `<folders>/<app>/data`."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Service


def folders_of(app: str, service: Service) -> Iterator[str]:
    """The folders of its app that a service mounts, relative to the folder of all apps: `shop/data/db`."""
    for mount in service.run.get("volumes", ()):
        if mount["type"] == "bind" and mount["source"].startswith("./"):
            yield f"{app}/{mount['source'][2:]}".rstrip("/")


def check_folders(root: Path, app: str, service: Service) -> None:
    """Raise StepFailed for a folder of an app that leads elsewhere: a link may have been put there by a container."""
    for relative in folders_of(app, service):
        path = root
        for part in Path(relative).parts:
            path /= part
            if not _is_folder_or_missing(path):
                raise StepFailed(
                    f"{app}/{service.name}: {path} is not a folder, but a link or a file: it may lead out of the app",
                    f"move what it leads to into {path}",
                )


def make_folder(path: Path, owner: tuple[int, int]) -> None:
    """Make a folder that all may read, as Docker makes one for a mount; a new one gets that user and group.

    Raises Unavailable.
    """
    missing = [parent for parent in (path, *path.parents) if not parent.exists()]
    try:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        for made in missing:
            made.chmod(0o755)
        if path in missing and owner != (os.geteuid(), os.getegid()):
            os.chown(path, *owner)
    except OSError as error:
        hint = "let the daemon write there: `mvd install` writes its unit anew"
        raise Unavailable(f"cannot make the folder {path}: {error.strerror}", hint) from error


def remove_empty_folder(path: Path) -> None:
    """Remove a folder in which there is nothing.  Raises StepFailed if there is, or Unavailable."""
    try:
        path.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise StepFailed(f"{path} has data in it", "look at it, and remove it yourself") from error
        raise Unavailable(f"cannot remove the folder {path}: {error.strerror}") from error


def _is_folder_or_missing(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise Unavailable(f"cannot look at {path}: {error.strerror}") from error
