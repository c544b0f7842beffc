"""What systemd refuses because the server goes down is waited for, and held against no version."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.systemd.client import Systemd
from tests.contract import recorded

UNIT = "mvd-shop-web-01234567.service"
# As systemd 257 says it.
DESTRUCTIVE = (
    "org.freedesktop.systemd1.TransactionIsDestructive",
    "s",
    (
        f"Transaction for {UNIT}/start is destructive (systemd-tmpfiles-setup-dev-early.service has 'stop' job queued, "
        "but 'start' is included in transaction).",
    ),
)
STUCK = ("org.freedesktop.systemd1.NoSuchUnit", "s", (f"Unit {UNIT} not found.",))
CALLS: dict[str, Callable[[Systemd], object]] = {
    "StartUnit": lambda systemd: systemd.start([UNIT]),
    "Reload": lambda systemd: systemd.reload(),
}


@pytest.fixture
def refuses(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """What the bus's systemd refuses, by the name of the call."""
    refused: dict[str, object] = {}
    with recorded.systemd({"units": [], "properties": {}, "refuses": refused}, recorded.Played()) as bus:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus)
        yield refused


@pytest.mark.parametrize("call", CALLS)
def test_a_call_amid_a_shutdown_is_no_fault_of_a_version(refuses: dict[str, object], call: str) -> None:
    refuses[call] = DESTRUCTIVE
    with pytest.raises(Unavailable):
        CALLS[call](Systemd())


@pytest.mark.parametrize("call", CALLS)
def test_another_refusal_is(refuses: dict[str, object], call: str) -> None:
    refuses[call] = STUCK
    with pytest.raises(StepFailed, match="not found"):
        CALLS[call](Systemd())
