"""The status of a wave, beside those of its hosts: the host that ends last posts it, and one that fails at once.  Pure.

No host leads.  Each posts its own end, then what all ends make of the wave, and then looks whether that is still so:
whoever posts last has seen all that others had posted before.
"""

from __future__ import annotations

from collections.abc import Sequence

from gitops_mvd.core.model import CommitStatus, Health, Operation, PostedState, PostedStatus
from gitops_mvd.core.waves import named
from gitops_mvd.status.status_text import SUPERSEDED, context, is_green


def wave_status(own: CommitStatus, posted: Sequence[PostedStatus]) -> CommitStatus | None:
    """What is to be posted for a wave after the `own` end of one of its hosts, by what is posted to the commit.

    It is red if a host is, and green if all are.  None where it is neither yet, and where the forge shows it already.
    """
    found = {it.context: it for it in posted}
    if ended := _ended(own):  # which the forge may not show yet
        found[own.context] = ended
    red = next((it for peer in own.peers if (it := found.get(peer)) and _is_red(it)), None)
    if not red and not all((it := found.get(peer)) and it.state == "green" for peer in own.peers):
        return None
    shown = found.get(own.wave)
    if shown and shown.state == ("red" if red else "green"):
        return None
    if red:
        why = named(red.context.removeprefix(context("")), red.description)
        return CommitStatus(own.wave, Operation.FAILED, Health.DEGRADED, why, red.url)
    return CommitStatus(own.wave, Operation.SUCCEEDED, Health.HEALTHY, f"{len(own.peers)} of {len(own.peers)} green")


def _ended(own: CommitStatus) -> PostedStatus | None:
    """A status as the forge is to show it, if it is success or failure."""
    if own.operation in {Operation.RUNNING, Operation.SUPERSEDED}:
        return None
    state: PostedState = "green" if is_green(own) else "red"
    return PostedStatus(own.context, state, own.description, own.url, 0.0)


def _is_red(posted: PostedStatus) -> bool:
    """What a newer commit has overtaken is red to some forges."""
    return posted.state == "red" and not posted.description.startswith(SUPERSEDED)
