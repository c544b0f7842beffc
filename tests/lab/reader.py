"""A queue worker that runs in a container: it reads a topic of Kafka as a consumer group, and commits what it has read.

While there is a file /tmp/idle in its container it goes on running, and does nothing.  It waits for brokers that are
away.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from kafka import KafkaConsumer
from kafka.errors import KafkaError

IDLE = Path("/tmp/idle")
PAUSE_SECONDS = 0.2


def read(servers: str, topic: str, group: str) -> None:
    """Read until it has to be idle, or until the brokers are gone.  Raises KafkaError."""
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=servers,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    try:
        while not IDLE.exists():
            if taken := consumer.poll(timeout_ms=int(PAUSE_SECONDS * 1000)):
                consumer.commit()
                print(f"read {sum(map(len, taken.values()))} messages", flush=True)
    finally:
        consumer.close()


def main(servers: str, topic: str, group: str) -> None:
    """Work until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        try:
            if not IDLE.exists():
                read(servers, topic, group)
        except KafkaError as error:
            print(f"cannot read: {error}", flush=True)
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main(*sys.argv[1:])
