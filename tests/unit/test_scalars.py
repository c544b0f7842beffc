"""How compose-go 2.16.2 prints unquoted scalars: recorded, and compared with a live one by `make oracle`."""

import pytest

from gitops_mvd.config.scalars import printed

PRINTED = {
    "2.0": "2",
    "1.10": "1.1",
    "1.": "1",
    ".5": "0.5",
    "+5": "5",
    "-0.0": "-0",
    "1e3": "1000",
    "1e6": "1e+06",
    "1048576.0": "1.048576e+06",
    "123456.5": "123456.5",
    "1234567.5": "1.2345675e+06",
    "0.0001": "0.0001",
    "0.00001": "1e-05",
    "0o14": "12",
    "0O14": "12",
    "012": "10",
    "08": "8",
    "019": "19",
    "0x1F": "31",
    "0b11": "3",
    "1_000": "1000",
    "2024_01_02": "20240102",
    "1_": "1",
    "1_000.5": "1000.5",
    ".5_1": "0.51",
    "18446744073709551615": "18446744073709551615",
    "18446744073709551616": "1.8446744073709552e+19",
    "-9223372036854775809": "-9.223372036854776e+18",
    ".inf": "+Inf",
    "-.Inf": "-Inf",
    ".NaN": "NaN",
    "TRUE": "true",
    "False": "false",
    "2024-06-01": "a time",
    "2024-6-1": "a time",
    "2001-12-14t21:59:43.10-05:00": "a time",
    "2001-12-14T21:59:43Z": "a time",
    "2001-12-14 21:59:43": "a time",
}
STRINGS = (
    *("1e400", "0x", "_1", "1.2.3", "1.2.3.4", "12:30:45", "8080:80", "10s", "512m", "-", "--", "..", "1e", "0b12"),
    *("2024-13-01", "2023-02-29", "2024-06", "2001-12-14 21:59:43.10 -5", "2001-12-14T21:59:43", "+.5.", "yes", "on"),
)


@pytest.mark.parametrize("written", PRINTED)
def test_a_number_or_a_time_is_printed_as_compose_prints_it(written: str) -> None:
    assert printed(written) == PRINTED[written]


@pytest.mark.parametrize("written", STRINGS)
def test_a_string_is_printed_as_it_is_written(written: str) -> None:
    assert printed(written) == written
