"""Which subnets overlap, as Python's own look at each pair has it."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd.manifest.subnets import Subnet, Subnets


def subnets() -> st.SearchStrategy[Subnet]:
    """Of few addresses and many lengths, so that many of them overlap; some of the last ones that there are."""
    v4 = st.builds(lambda a, n: ipaddress.ip_network((a, n), strict=False), st.integers(0, 40), st.integers(24, 32))
    v6 = st.builds(
        lambda a, n: ipaddress.ip_network((2**128 - 1 - a, n), strict=False), st.integers(0, 40), st.integers(0, 128)
    )
    ends = st.sampled_from([ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("255.255.255.255/32")])
    return v4 | v6 | ends


@given(st.lists(subnets(), max_size=30), subnets())
def test_those_that_overlap_are_found(known: list[Subnet], wanted: Subnet) -> None:
    collection = Subnets[int]()
    for number, subnet in enumerate(known):
        collection.add(subnet, number, number)
    expected = [n for n, subnet in enumerate(known) if subnet.version == wanted.version and subnet.overlaps(wanted)]
    assert sorted(collection.overlapping(wanted)) == expected


def test_of_two_with_one_key_the_first_is_kept() -> None:
    collection, subnet = Subnets[str](), ipaddress.ip_network("10.0.0.0/8")
    collection.add(subnet, "key", "first")
    collection.add(subnet, "key", "second")
    assert list(collection.overlapping(subnet)) == ["first"]
