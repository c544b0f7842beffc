"""A collection of subnets that finds those that overlap with another one, without a look at each.  Pure."""

from __future__ import annotations

import ipaddress
from bisect import bisect_left, bisect_right, insort
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
T = TypeVar("T")

_Place = tuple[int, int, int]  # version, first address, length of the prefix


@dataclass(frozen=True)
class Subnets(Generic[T]):
    """Values by the subnet and a key; of two at equal ones, the first is kept.

    Two subnets overlap only if one is in the other.  So what may overlap is at most one wider subnet for each length,
    and the narrower ones, which stand side by side once they are sorted.
    """

    _values: dict[_Place, dict[Hashable, T]] = field(default_factory=dict)
    _sorted: list[_Place] = field(default_factory=list)
    _lengths: set[int] = field(default_factory=set)

    def add(self, subnet: Subnet, key: Hashable, value: T) -> None:
        place = _place(subnet)
        if place not in self._values:
            self._values[place] = {}
            self._lengths.add(subnet.prefixlen)
            insort(self._sorted, place)
        self._values[place].setdefault(key, value)

    def overlapping(self, subnet: Subnet) -> Iterator[T]:
        """The values whose subnet shares an address with this one."""
        version, first, length = place = _place(subnet)
        for wider in sorted(self._lengths):
            if wider <= length:
                hosts = subnet.max_prefixlen - wider
                yield from self._values.get((version, first >> hosts << hosts, wider), {}).values()
        begin = bisect_right(self._sorted, place)
        end = bisect_left(self._sorted, (version, int(subnet.broadcast_address) + 1, -1))
        for narrower in self._sorted[begin:end]:
            yield from self._values[narrower].values()


def is_within(part: Subnet, whole: Subnet) -> bool:
    """Are all addresses of the one in the other?"""
    if isinstance(part, ipaddress.IPv4Network):
        return isinstance(whole, ipaddress.IPv4Network) and part.subnet_of(whole)
    return isinstance(whole, ipaddress.IPv6Network) and part.subnet_of(whole)


def _place(subnet: Subnet) -> _Place:
    return subnet.version, int(subnet.network_address), subnet.prefixlen
