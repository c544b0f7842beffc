"""Readers of durations and sizes: what Compose makes of each, recorded."""

import pytest

from gitops_mvd.config.readers import duration, size
from gitops_mvd.config.tables import Place, Reader
from gitops_mvd.config.yamltree import Sink, parse

DURATIONS = {
    "10s": 10.0,
    "1m30s": 90.0,
    "1.5s": 1.5,
    "1.s": 1.0,
    ".5s": 0.5,
    "1h30m": 5400.0,
    "1d": 86400.0,
    "1d12h": 129600.0,
    "2w": 1209600.0,
    "1w1d1h1m1s1ms1us1ns": 694861.001001001,
    "1µs1μs": 0.000002,
    "0": 0.0,
    "0s": 0.0,
    "90m": 5400.0,
    "100ms": 0.1,
}
SIZES = {"512": 512, "512b": 512, "1k": 1024, "1.5gb": 1610612736, "64KiB": 65536, "2 GB": 2147483648, "1T": 1 << 40}


def read(reader: Reader[float], written: str) -> tuple[float | None, list[str]]:
    sink: Sink = []
    node = parse("a.yaml", f"a: {written}".encode(), sink, compose=True)
    assert node
    assert isinstance(node.value, dict)
    value = Place(node.value["a"], ("a",), sink).attempt(reader)
    return value, [it.problem.message for it in sink]


@pytest.mark.parametrize("written", DURATIONS)
def test_a_duration_is_seconds(written: str) -> None:
    assert read(duration, written) == (DURATIONS[written], [])


@pytest.mark.parametrize(
    "written", ["10", "1x", "1 d", "s", ".s", "1y", "1M", "1mo", "one day", "-1s", "300y", "9999999w"]
)
def test_what_is_no_duration_is_refused(written: str) -> None:
    value, (message,) = read(duration, written)
    assert value is None
    assert message.startswith(("must be a duration such as 10s or 1m30s", "must be less than 292 years"))


@pytest.mark.parametrize("written", SIZES)
def test_a_size_is_bytes(written: str) -> None:
    assert read(size, written) == (SIZES[written], [])
