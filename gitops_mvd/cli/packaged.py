"""The Debian package of gitops-mvd on this server: it brings units, groups of the sockets, and completion."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
    command = ["ExecStart=", f"ExecStart={start}"] if start else []
    paths = [f"ReadWritePaths={' '.join(writable)}"] if writable else []
    lines = ["# Written by `mvd install`.", "[Service]", *command, *paths] if command or paths else []
    return "".join(f"{line}\n" for line in lines)
