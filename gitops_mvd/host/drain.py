"""Whether this host gets no requests from the Kong that it shares with others, as `fleet.yaml` has it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Drain:
    """Set at each pass, as it is of the host and not of a version: a rollback does not end it."""

    is_on: bool = False
