"""A text or a document, changed at random: by bytes, by lines, by values, and by the shape of its YAML."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import yaml

BYTES = (
    *(
        b"\x00",
        b"\xff",
        b"\xfe\xff",
        b"\x1b[2J",
        b"\r",
        b"\r\n",
        b"\t",
        b"\n\n",
        b" ",
        b"\xe2\x80\xae",
        b"\xed\xb2\x80",
    ),
    *(
        b"$",
        b"${",
        b"${A:-",
        b"}",
        b"{",
        b"[",
        b"]",
        b": ",
        b"- ",
        b"&a ",
        b"*a",
        b"<<: *a",
        b"!!binary ",
        b"!x ",
        b"| ",
    ),
    *(
        b"%",
        b"'",
        b'"',
        b"\\",
        b"#",
        b"@",
        b"`",
        b"---\n",
        b"...\n",
        b"%YAML 1.2\n",
        b"? ",
        b"../",
        b"/",
        b"-1",
        b"9" * 400,
    ),
    *("é".encode(), "\u2028".encode(), "\ufeff".encode(), "\U0001f680".encode(), b"\xc3", b"1e999", b"0x", b"~"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, 0.5, float("inf"), float("nan"), 1e308, -0.0),
    *(
        "",
        " ",
        "0",
        "-1",
        "1.5",
        "true",
        "null",
        "~",
        "a" * 70,
        "a" * 5000,
        "..",
        "../x",
        "/",
        "/etc/passwd",
        "a/b",
        "A",
    ),
    *(
        "\n",
        "a\nb",
        "\t",
        "\x00",
        "\x1b[31m",
        "\u2028",
        "\ufeff",
        "é",
        "日本",
        "\U0001f680",
        "\ud800",
        "%n",
        "$A",
        "${A",
        "$$",
    ),
    *(
        "${A:?}",
        "${U:?no}",
        "{file://x}",
        "{file://../x}",
        "{vault://env/x}",
        "10s",
        "1h",
        "999999999h",
        "1d",
        "-5s",
        "64M",
    ),
    *("9" * 30 + "g", "0-65535", "65536", "80:80", "1-0", "[::]", "::1", "10.0.0.0/8", "0.0.0.0/0", "255.255.255.256"),
    *(
        "http://[",
        "http://a:99999",
        "http://[::1]:x",
        "(",
        "[",
        "(?P<",
        "~^(a+)+$",
        "*",
        "?",
        "sha256:" + "a" * 64,
        "@",
        ":",
    ),
    *([], [None], [[]], [""], ["a", "a"], [{}], [1, "1"], {}, {"": ""}, {"a": None}, {"a": {"a": {}}}, {"x-": 1}),
)


def of_bytes(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """A few changes somewhere: bytes put in, taken out, doubled, turned over, or taken from another text."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        at, to = sorted(random.randrange(len(data) + 1) for _ in range(2))
        to = min(to, at + random.choice((1, 4, 40, 4000)))
        match random.randrange(6):
            case 0:
                data = data[:at] + random.choice(BYTES) * random.choice((1, 1, 1, 3, 2000)) + data[at:]
            case 1:
                data = data[:at] + data[to:]
            case 2:
                data = data[:to] + data[at:to] * random.choice((1, 2, 50)) + data[to:]
            case 3:
                data = data[:at] + bytes(byte ^ 1 << random.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :]
            case 4 if others:
                other = random.choice(others)
                since = random.randrange(len(other) + 1)
                data = data[:at] + other[since : since + random.choice((4, 40, 400))] + data[to:]
            case _:
                data = data[:at]
    return data


def of_lines(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Lines swapped, doubled, moved in or out, or taken from another text."""
    lines = data.split(b"\n")
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(lines))
        match random.randrange(5):
            case 0:
                lines.insert(at, random.choice(lines))
            case 1 if len(lines) > 1:
                del lines[at]
            case 2:
                lines[at] = b" " * random.choice((1, 2, 4)) + lines[at]
            case 3:
                lines[at] = lines[at].removeprefix(b"  ")
            case _:
                lines.insert(at, random.choice(random.choice(others or [data]).split(b"\n")))
    return b"\n".join(lines)


def of_shape(random: Random, document: Any) -> Any:
    """A document of mappings, lists and scalars with a few of its values changed, moved, wrapped or doubled."""
    document = copy.deepcopy(document)
    for _ in range(random.randint(1, 3)):
        places = list(_places(document))
        if not places:
            return random.choice(VALUES)
        holder, key = random.choice(places)
        other_holder, other_key = random.choice(places)
        other = copy.deepcopy(other_holder[other_key])
        match random.randrange(7):
            case 0 | 1 | 2:
                holder[key] = copy.deepcopy(random.choice(VALUES))
            case 3:
                holder[key] = other
            case 4:
                holder[key] = random.choice(([holder[key]], {"a": holder[key]}, [holder[key], other]))
            case 5 if isinstance(holder, dict):
                holder[random.choice((other_key, random.choice(VALUES[15:60]), f"{key}x"))] = holder[key]
            case _:
                del holder[key]
    return document


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every value of a document, as what holds it and the key there."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def of_yaml(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """One of all these ways; by its shape only if it can be read as YAML."""
    way = random.randrange(4)
    if way == 0:
        return of_bytes(random, data, others)
    if way == 1:
        return of_lines(random, data, others)
    try:
        document = yaml.safe_load(data)
        shaped = of_shape(random, document) if isinstance(document, dict | list) else random.choice(VALUES)
        return yaml.safe_dump(shaped, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return of_bytes(random, data, others)


def of_json(random: Random, data: bytes) -> bytes:
    """A JSON text, changed by its shape or by its bytes."""
    if random.random() < 0.3:
        return of_bytes(random, data)
    return json.dumps(of_shape(random, json.loads(data))).encode()
