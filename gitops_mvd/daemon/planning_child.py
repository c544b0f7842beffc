"""The process that reads and plans one pull request: run by `planning`, it prints what it found as JSON."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from pathlib import Path

from gitops_mvd.config import settings
from gitops_mvd.core.errors import ManifestError, Unavailable
from gitops_mvd.core.model import Revision
from gitops_mvd.core.redact import told_text
from gitops_mvd.daemon.wiring import wire
from gitops_mvd.manifest import read_fleet
from gitops_mvd.state import suspension
from gitops_mvd.status.verdict import Judge


def main(path: str, tree: str, commit: str, ref: str) -> None:
    """Print the verdict on the files of a tree, merged into that commit of the branch `ref`."""
    with contextlib.suppress(OSError):  # it may not be allowed to
        os.nice(10)
    wired = wire(settings.read(path, Path(path).read_bytes()), Path(path))
    host, source = wired.host, wired.source
    try:
        with contextlib.suppress(ManifestError):  # of the branch as it is: the pull request may mend it
            wired.heed(read_fleet(source.tree(Revision(commit, ref))).host(host.name))
        suspended = suspension.suspended(wired.settings_path).apps
        judge = Judge(host, wired.history, source.tree, wired.settings.allow_empty, host.refresh, suspended)
        answer = judge(source.proposed(bytes.fromhex(tree)), Revision(commit, ref)).as_json()
    except Unavailable as error:
        answer = {"unavailable": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception:
        sys.exit(told_text(traceback.format_exc()).strip())  # this process alone knows the secrets in what it has read
