"""`mvd notify`: the receivers of notifications, and a test of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from gitops_mvd.cli.output import as_json, counted, print_json, print_table, when
from gitops_mvd.cli.server import read_settings
from gitops_mvd.config.settings.notify import NotifySettings


@click.command(epilog="Example: mvd notify --test")
@click.option("--test", "is_test", is_flag=True, help="Send a test message.")
@click.argument("name", default="")
@as_json
@click.pass_obj
def notify(config: Path, is_test: bool, name: str, machine: bool) -> int:
    """Show who is notified, or send a test message.

    To every receiver of the settings, or to the one called NAME.  Exit code 1: one does not take its messages.
    """
    settings = read_settings(config)
    chosen = [it for it in settings.notify if name in ("", it.name)]
    if not chosen:
        known = ", ".join(it.name for it in settings.notify)
        why = f"no receiver is called {name!r}: there is {known}" if known else "nobody is notified: set `notify`"
        raise click.ClickException(f"{why}, in {config}. See `mvd docs settings`.")
    if is_test:
        told = _tried(settings.swarm or settings.host or socket.gethostname(), chosen)
    else:
        told = [_state(Path(settings.state), it) for it in chosen]
    rows = [(it.name, *how) for it, how in zip(chosen, told, strict=True)]
    if machine:
        print_json([dict(zip(("name", "result", "why"), row, strict=True)) for row in rows])
    else:
        print_table(("RECEIVER", "RESULT", ""), rows)
    return 1 if any(result == "failed" for _, result, _ in rows) else 0


def _tried(host: str, receivers: Sequence[NotifySettings]) -> list[tuple[str, str]]:
    """How a test message went to each of them: `sent` or `failed`, and why."""
    from gitops_mvd.core.errors import MvdError
    from gitops_mvd.daemon.notifying import ByApprise
    from gitops_mvd.status.notice_text import trial

    send = ByApprise()

    def tried(receiver: NotifySettings) -> tuple[str, str]:
        try:
            send(receiver, trial(host, receiver.name))
        except MvdError as error:
            return "failed", str(error)
        return "sent", ""

    with ThreadPoolExecutor(len(receivers)) as pool:
        return list(pool.map(tried, receivers))


def _state(folder: Path, receiver: NotifySettings) -> tuple[str, str]:
    """How the last message of the daemon went, and what waits."""
    from gitops_mvd.state.notices import Notices

    state = Notices(folder / "notices.db").receiver(receiver.name)
    waiting = [f"{counted(state.waiting, 'notice')} waiting"] if state.waiting else []
    if state.failing_since is not None:
        return "failed", "; ".join([f"since {when(state.failing_since, time.time())}: {state.why}", *waiting])
    return ("sent" if state.sent else "none yet"), "; ".join([counted(state.sent, "message"), *waiting])
