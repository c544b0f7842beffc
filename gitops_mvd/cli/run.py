"""`mvd run`: the reconcile loop; and one pass of it, for `mvd sync` where no daemon runs."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import click

from gitops_mvd.api.views import GitView, ResultView
from gitops_mvd.cli.host_text import git_text
from gitops_mvd.cli.log_lines import OneLine
from gitops_mvd.cli.server import connect, daemon_format, log_to_stderr
from gitops_mvd.core.errors import MvdError

log = logging.getLogger(__name__)


@click.command(epilog="Example: mvd run")
@click.pass_obj
def run(config: Path) -> int:
    """Run the reconcile loop (what the systemd unit starts)."""
    from gitops_mvd.daemon.loop import Daemon
    from gitops_mvd.state.lock import alone

    handler = log_to_stderr(daemon_format())
    wired = connect(config)
    handler.setFormatter(daemon_format(wired.settings))
    rejected = ""
    with alone(Path(wired.settings.state)):
        while Daemon(wired, rejected).run():
            try:
                changed = connect(config)
            except MvdError as error:
                rejected = str(error)
                log.error("settings rejected, the old ones stay in force error=%s", error)
            else:
                rejected = ""
                wired.close()
                wired = changed
                handler.setFormatter(daemon_format(wired.settings))
    return 0


def reconcile_here(config: Path) -> tuple[list[ResultView] | None, str]:
    """How each app came out of one pass of this process, None if it came to nothing, as its own log has said; and why
    Git has no newer commit.

    Raises Taken if another process, most likely a daemon that cannot be asked, is at work here.
    """
    from gitops_mvd.daemon.loop import Daemon
    from gitops_mvd.state.lock import alone

    log_to_stderr(OneLine("%(message)s"))
    wired = connect(config)
    with alone(Path(wired.settings.state)):
        report = Daemon(wired).once()  # logs its summary
    if not report:
        return None, ""
    results = [ResultView(o.app, o.sync, o.health, o.operation, o.why, o.changed) for o in report.outcomes]
    git = wired.history.git_failure()
    return results, git_text(GitView(git.since, git.why, git.is_refused), time.time()) if git else ""
