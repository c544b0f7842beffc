"""What the versions of apps are made of: a file for each, for root alone, which goes when its version is forgotten.

The history has their digests.  So no secret of an app is in the history, nor in what is left of its old rows.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Collection
from pathlib import Path

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import App
from gitops_mvd.core.redact import learn_apps
from gitops_mvd.state.files import Entry, remove, write

log = logging.getLogger(__name__)

NAME_ENDS = ".json"


class Versions:
    """The files in a folder, `<version>.json`; each is read once.  Any thread may use it.

    Every method raises Unavailable where the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, App] = {}
        self._lock = threading.Lock()

    def read(self, version: str) -> App | None:
        """The app of that version; None if its file is missing or cannot be read, which is logged."""
        with self._lock:
            app = self._read.get(version) or self._load(version)
            if app:
                self._read[version] = app
                learn_apps([app])
            return app

    def write(self, version: str, content: str) -> None:
        """Keep the JSON of an app."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write(self._path(version), Entry(content.encode(), 0o600, os.geteuid(), os.getegid()))
        except OSError as error:
            raise Unavailable(f"cannot write {self._folder}: {error.strerror}") from error
        except StepFailed as error:  # which says nothing of the version
            raise Unavailable(error.message, error.hint) from error

    def keep_only(self, versions: Collection[str]) -> None:
        """Remove the files of all versions but these."""
        with self._lock:
            for version in self._read.keys() - set(versions):
                del self._read[version]
        try:
            names = os.listdir(self._folder) if self._folder.is_dir() else []
        except OSError as error:
            raise Unavailable(f"cannot read {self._folder}: {error.strerror}") from error
        for name in {name for name in names if name.endswith(NAME_ENDS)} - {f"{it}{NAME_ENDS}" for it in versions}:
            remove(self._folder / name)

    def _load(self, version: str) -> App | None:
        path = self._path(version)
        try:
            return app_of(path.read_text())
        except (FileNotFoundError, ValueError) as error:
            why = "it is gone" if isinstance(error, FileNotFoundError) else "it is not an app of gitops-mvd"
            log.warning("cannot read a version, which counts as forgotten path=%s: %s", path, why)
            return None
        except OSError as error:  # of this moment, such as too many open files
            raise Unavailable(f"cannot read {path}: {error.strerror}") from error

    def _path(self, version: str) -> Path:
        return self._folder / f"{version}{NAME_ENDS}"


def app_of(text: str) -> App:
    """The app behind its JSON.  Raises ValueError for any other text, as that of a newer gitops-mvd may be."""
    try:
        return App.from_json(json.loads(text))
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("not an app") from error
