"""The talker says its version whatever it is asked, and dies at once when it is told to end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp
import pytest
import requests


@dataclass(frozen=True)
class Talker:
    """One that runs."""

    process: subprocess.Popen[str]
    url: str


@pytest.fixture
def talker() -> Iterator[Talker]:
    command = (sys.executable, "-m", "tests.lab.talker", "chat", "0")
    environment = {**os.environ, "VERSION": "7"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        said = process.stdout.readline()
        assert said.startswith("chat 7 listens on port ")
        try:
            yield Talker(process, f"http://127.0.0.1:{said.split()[-1]}")
        finally:
            process.kill()


def test_it_says_its_name_and_version(talker: Talker) -> None:
    assert requests.get(f"{talker.url}/", timeout=5).text == "chat 7\n"
    assert requests.get(f"{talker.url}/health", timeout=5).text == "ok 7\n"


def test_it_waits_before_it_answers(talker: Talker) -> None:
    began = time.monotonic()
    assert requests.get(f"{talker.url}/slow?seconds=0.5", timeout=5).text == "chat 7\n"
    assert time.monotonic() - began > 0.5


def test_it_streams_to_an_end(talker: Talker) -> None:
    lines = requests.get(f"{talker.url}/stream?seconds=0.5", timeout=5).text.splitlines()
    assert lines == ["chat 7"] * 3 + ["end"]


def test_it_echoes(talker: Talker) -> None:
    async def story() -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{talker.url}/echo") as socket:
            assert await socket.receive_str(timeout=5) == "chat 7"
            await socket.send_str("hello")
            assert await socket.receive_str(timeout=5) == "hello"

    asyncio.run(story())


def test_told_to_end_it_dies_at_once_and_finishes_nothing(talker: Talker) -> None:
    with requests.get(f"{talker.url}/stream?seconds=5", timeout=5, stream=True) as answer:
        lines = answer.iter_lines()
        assert next(lines) == b"chat 7"
        talker.process.send_signal(signal.SIGTERM)
        assert talker.process.wait(2) == 0
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(lines)
