"""Try inputs, by their number and the seed, and keep what goes wrong.

python -m tests.fuzz --minutes=10 --seed=1          as many as come to pass in that time, of all surfaces alike
python -m tests.fuzz --only=kong --number=4711      that one again
"""

from __future__ import annotations

import faulthandler
import json
import logging
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import click

from tests.fuzz.surfaces import SURFACES
from tests.fuzz.verdict import PATIENCE_SECONDS, Input, little_memory, smaller, tried

FOUND = Path(__file__).parents[1] / "unit" / "fuzzed"


@click.command(help=__doc__.partition("\n")[0])
@click.option("--minutes", type=float, default=None, help="How long in all.")
@click.option("--count", type=int, default=None, help="How many inputs of each surface.")
@click.option("--seed", default="1", show_default=True)
@click.option("--only", type=click.Choice(list(SURFACES)), multiple=True, help="This surface alone.")
@click.option("--number", type=int, default=None, help="Begin with that input; without a count, only that.")
def main(minutes: float | None, count: int | None, seed: str, only: tuple[str, ...], number: int | None) -> None:
    """One line for each thing that is wrong, with the command that shows it again; exit code 1 if there is any."""
    logging.disable(logging.NOTSET)
    logging.getLogger().addHandler(logging.NullHandler())
    count = 1 if number is not None and not count else count
    print(f"seed {seed}", flush=True)
    wrong = 0
    names = only or tuple(SURFACES)
    with little_memory():
        for name in names:
            ends = time.monotonic() + (minutes or 10) * 60 / len(names) if count is None else float("inf")
            wrong += surface(name, seed, number or 0, count, ends)
    sys.exit(1 if wrong else 0)


def surface(name: str, seed: str, number: int, count: int | None, ends: float) -> int:
    """Try the inputs of one surface, each kind of mistake once; returns how many kinds there were."""
    seen: Counter[str] = Counter()
    began, first = time.monotonic(), number
    while time.monotonic() < ends and (count is None or number < first + count):
        # Where nothing rings, as in C, this process ends with its stack and the number.
        faulthandler.dump_traceback_later(2 * PATIENCE_SECONDS, exit=True)
        given = SURFACES[name].make(Random(f"{seed} {name} {number}"))
        what = tried(SURFACES[name].read, given)
        faulthandler.cancel_dump_traceback_later()
        if what and not seen[_kind(what)]:
            again = f"python -m tests.fuzz --only={name} --seed={seed} --number={number}"
            print(f"{name}: {what}\n    {again}\n    kept as {keep(name, given, what)}", flush=True)
        seen[_kind(what)] += bool(what)
        number += 1
    took = time.monotonic() - began
    print(f"{name}: {number - first:,} inputs in {took:.0f} s, {sum(seen.values())} wrong", flush=True)
    return len(+seen)


def _kind(what: str) -> str:
    """A mistake without what is special about one input."""
    return what.partition(": ")[0]


def keep(name: str, given: Input, what: str) -> Path:
    """Write the least of an input that goes wrong in that way."""
    least = smaller(given, lambda less: _kind(tried(SURFACES[name].read, less)) == _kind(what))
    FOUND.mkdir(exist_ok=True)
    number = 1 + max((int(it.stem.rpartition("-")[2]) for it in FOUND.glob(f"{name}-*.json")), default=0)
    path = FOUND / f"{name}-{number:02}.json"
    files = {key: data.decode("utf-8", "surrogateescape") for key, data in least.items()}
    path.write_text(json.dumps({"surface": name, "was": what, "input": files}, indent=1) + "\n")
    return path


if __name__ == "__main__":
    main()
