"""Run the stand-in gateway: `python -m gitops_mvd.lab.gateway --database off`."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

from gitops_mvd.lab.gateway.server import Address, Listeners


def address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host or "127.0.0.1", int(port)


async def run(options: argparse.Namespace) -> None:
    listeners = Listeners(options.prefix, options.database == "postgres", options.admin, options.proxy)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await listeners.start()
    await ended.wait()
    await listeners.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gitops_mvd.lab.gateway", description=__doc__)
    parser.add_argument("--database", choices=["off", "postgres"], default="off", help="which mode of Kong to act")
    parser.add_argument("--admin", type=address, default="127.0.0.1:8001", metavar="HOST:PORT")
    parser.add_argument("--proxy", type=address, default="127.0.0.1:8000", metavar="HOST:PORT")
    parser.add_argument(
        "--prefix", type=Path, default=Path("gateway"), metavar="DIR", help="where its state is kept over a restart"
    )
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
