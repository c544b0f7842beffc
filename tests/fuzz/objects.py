"""Real Git objects with odd modes, names and shapes, written one by one as no `git add` would.

An input is a list of objects, oldest first: ["blob", TEXT], ["tree", [[MODE, NAME, NUMBER], ...]] and, last,
["commit", HEADERS AND MESSAGE, NUMBER], where a number is the place of an earlier object in the list.  Texts are bytes
as Latin-1.
"""

from __future__ import annotations

import hashlib
import subprocess
import zlib
from pathlib import Path
from random import Random
from typing import Any

FILE, FOLDER = "100644", "40000"
MODES = (FILE, "100755", "120000", "160000", FOLDER, "040000", "100664", "100600", "0", "7777777", "60000")
NAMES = (
    *("compose.yaml", "compose.yml", "docker-compose.yml", "environment", ".env", "fleet.yaml", "kong", "apps", ".git"),
    *("compose.region-uk.yaml", "a", "A", "-", "--help", "..", ".", "a b", "a\nb", "\x1b[31m", "\xff\xfe", "a\\b", "~"),
    *(
        "x" * 255,
        "x" * 5000,
        "\xc3\xa9",
        "e\xcc\x81",
        "CON",
        "a:b",
        "a/b",
        "%n",
        "$A",
        "*",
        ".gitmodules",
        ".gitattributes",
    ),
)
WHO = "author a <a@example.org> 1700000000 +0000\ncommitter a <a@example.org> 1700000000 +0000\n"
HEADS = (
    WHO,
    WHO.replace("1700000000", "99999999999999999999"),
    WHO.replace("+0000", "+99999"),
    WHO.replace("a <a", "\xff\x1b <a"),
    WHO + "encoding latin-1\n",
    WHO + "gpgsig -----BEGIN PGP SIGNATURE-----\n \n -----END\n",
    WHO.replace("committer a <a@example.org> 1700000000 +0000\n", "committer \n"),
    "author\ncommitter\n",
)
MESSAGES = ("m", "", "\n\n\n", "\xff\xfe", "\x1b[2J\x07", "x" * 100_000, "\xe2\x80\xaex", "a\0b", "\r", "#\n")
GOOD = "services: {web: {image: nginx}}\n"

Objects = list[list[Any]]


def made(random: Random, text: bytes) -> Objects:
    """The objects of one commit; one of its files is that text."""
    written: Objects = [["blob", GOOD], ["blob", text.decode("latin-1")], ["blob", ""]]
    mounts = "services: {web: {image: n, volumes: ['./a:/x:ro', './compose.yaml:/y:ro'], env_file: environment}}\n"
    written.append(["blob", mounts])
    for _ in range(random.choice((1, 3, 8, 30))):
        width = random.choice((0, 1, 2, 5, 300))
        numbers = [random.choice((0, 1, 2, 3, len(written) - 1, random.randrange(len(written)))) for _ in range(width)]
        written.append(["tree", [_entry(random, number, written) for number in numbers]])
    depth = random.choice((0, 0, 2, 50, 400))
    for _ in range(depth):
        written.append(["tree", [[FOLDER, random.choice(("a", "apps")), len(written) - 1]]])
    apps = [_entry(random, random.randrange(len(written)), written) for _ in range(random.randint(1, 4))]
    written.append(["tree", [[FILE, "compose.yaml", random.choice((0, 1, 3))]]])
    written.append(["tree", [[FOLDER, "good", len(written) - 1], *apps]])
    written.append(["tree", [[FOLDER, "apps", len(written) - 1], *(_entry(random, 1, written) for _ in range(2))]])
    written.append(["commit", f"{random.choice(HEADS)}\n{random.choice(MESSAGES)}", len(written) - 1])
    return written


def _entry(random: Random, number: int, written: Objects) -> list[Any]:
    fitting = FOLDER if written[number][0] == "tree" else FILE
    mode = fitting if random.random() < 0.9 else random.choice(MODES)
    return [mode, random.choice(NAMES), number]


class Bare:
    """A bare repository at `place`."""

    def __init__(self, place: Path) -> None:
        self.place = place
        subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", place], check=True)

    def write(self, objects: Objects, *parents: str) -> str:
        """Write them, and have main lead to the last one, which is a commit.  Returns its id."""
        ids: list[str] = []
        for kind, text, *more in objects:
            if kind == "tree":
                data = b"".join(
                    f"{mode} {name}\0".encode("latin-1") + bytes.fromhex(ids[at]) for mode, name, at in text
                )
            elif kind == "commit":
                heads = "".join(f"parent {parent}\n" for parent in parents)
                data = f"tree {ids[more[0]]}\n{heads}{text}".encode("latin-1")
            else:
                data = text.encode("latin-1")
            ids.append(self._object(kind, data))
        (self.place / "refs" / "heads" / "main").write_text(f"{ids[-1]}\n")
        return ids[-1]

    def good(self, *parents: str) -> str:
        """A commit with the one app `good`."""
        folders: Objects = [["tree", [[FOLDER, name, number]]] for number, name in ((1, "good"), (2, "apps"))]
        app = ["tree", [[FILE, "compose.yaml", 0]]]
        return self.write([["blob", GOOD], app, *folders, ["commit", f"{WHO}\nGood", 3]], *parents)

    def _object(self, kind: str, data: bytes) -> str:
        content = f"{kind} {len(data)}\0".encode() + data
        oid = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        path = self.place / "objects" / oid[:2] / oid[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(content, 1))
        return oid
