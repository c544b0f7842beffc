"""Run the stand-in gateway: `python -m tests.lab.kong_standin --database off`."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

from tests.lab.kong_standin.server import STATED_FREQUENCY, WORKERS, Address, Listeners, Where


def address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host or "127.0.0.1", int(port)


def where(text: str) -> Where:
    return Path(text.removeprefix("unix:")) if text.startswith("unix:") else address(text)


async def run(options: argparse.Namespace) -> None:
    listeners = Listeners(
        options.prefix,
        options.database == "postgres",
        options.admin,
        options.proxy,
        declarative=options.declarative_config,
        workers=options.workers,
        frequency=options.worker_state_update_frequency,
        licensed=not options.without_license,
    )
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await listeners.start()
    await ended.wait()
    await listeners.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.kong_standin", description=__doc__)
    parser.add_argument("--database", choices=["off", "postgres"], default="off", help="which mode of Kong to act")
    parser.add_argument("--admin", type=where, default="127.0.0.1:8001", metavar="HOST:PORT | unix:PATH")
    parser.add_argument("--proxy", type=address, default="127.0.0.1:8000", metavar="HOST:PORT")
    parser.add_argument(
        "--prefix", type=Path, default=Path("gateway"), metavar="DIR", help="where its state is kept over a restart"
    )
    parser.add_argument(
        "--declarative-config", type=Path, metavar="FILE", help="what it starts from, whatever it had before"
    )
    parser.add_argument("--workers", type=int, default=WORKERS, metavar="NUMBER")
    parser.add_argument(
        "--worker-state-update-frequency",
        type=float,
        default=STATED_FREQUENCY,
        metavar="SECONDS",
        help="how often each worker looks what was changed in the database; 0 is before every request",
    )
    parser.add_argument(
        "--without-license", action="store_true", help="act a Kong Enterprise without a license, which only reads"
    )
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
