"""The Debian package of gitops-mvd on this server: it brings units, groups of the sockets, and completion."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

PREFIX = Path("/opt/gitops-mvd")
UNITS = Path("/usr/lib/systemd/system")


def is_packaged() -> bool:
    """Is this the command of the Debian package?"""
    return Path(sys.prefix) == PREFIX and (UNITS / "gitops-mvd.service").exists()


def drop_in(unit: Path) -> Path:
    """Where the settings of this server change a unit of the package; `unit` is where one without a package is."""
    return unit.with_name(f"{unit.name}.d") / "50-mvd-install.conf"


def drop_in_text(start: str, writable: Sequence[str]) -> str:
    """What the unit of the package lacks: `start` as its command, and folders as ReadWritePaths= has them; or ""."""

    def lines() -> Iterator[str]:
        if start:
            yield from ("ExecStart=", f"ExecStart={start}")
        if writable:
            yield f"ReadWritePaths={' '.join(writable)}"

    return "".join(f"{line}\n" for line in ("# Written by `mvd install`.", "[Service]", *lines())) if [*lines()] else ""
