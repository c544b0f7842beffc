"""Which of the hosts that share one Kong judges a canary: one at a time for each service.  Pure.

Kong runs one plugin of a name for a service, so only one host can be told of the requests.  Whose plugin is there has
its turn.  It says for how long: a host that died meanwhile, or that is told nothing, holds up the others no longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from gitops_mvd.kong.counted import counted_by
from gitops_mvd.kong.entities import Entity, tag_value

# Beyond what a share lasts: until Kong uses it, for other apps that have their turn, whose gates may last longer, and
# for clocks of Kong's nodes that differ.  A host that loses its turn to one that waits would begin again and again.
MARGIN_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn of one host, by its plugin in Kong; it `ends` at so many seconds since 1970 by Kong's clock."""

    plugin: Entity
    host: str
    share: int
    ends: float

    def is_over(self, now: float) -> bool:
        """May another host end it?"""
        return now > self.ends + MARGIN_SECONDS

    def __str__(self) -> str:
        at = f" at {self.share} %" if self.share else ""
        until = datetime.fromtimestamp(self.ends, UTC)
        service = tag_value(self.plugin.tags, "service")
        return f"the canary of {service} is being judged on {self.host}{at}, until about {until:%H:%M} UTC"


def turn_of(plugin: Entity) -> Turn:
    """The turn of the host whose plugin that is, as Kong shows it."""
    counted = counted_by(plugin.fields)
    written = plugin.fields.get("updated_at") or plugin.fields.get("created_at") or 0  # Kong 2 has no `updated_at`
    ends = float(str(written)) + counted.get("lasts", 0.0)
    return Turn(plugin, tag_value(plugin.tags, "host"), counted.get("share", 0), ends)
