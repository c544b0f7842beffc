"""How far a consumer group is behind on a topic: asked of its brokers with kafka-python.

It is given an `Asked` on standard input and prints an `Answer`.  Names of brokers that are in `addresses` are looked up
there: those that a broker tells its clients may be known on a network of containers only.  What is the host itself, is
not asked: the host's loopback is none of a container's.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, ClassVar, NotRequired, TypedDict

from kafka import KafkaAdminClient, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import OffsetSpec
from kafka.cluster import get_ip_port_afi
from kafka.net.inet import KafkaNetSocket

LOOPBACK = ("127.0.0.1", "::1")
OWN_NAMES = "names"  # the scheme of a proxy, which is how kafka-python is given sockets of one's own


class Asked(TypedDict):
    bootstrap_servers: list[str]
    topic: str
    group: str
    addresses: dict[str, str]
    ends: float  # when to give up, by the monotonic clock, which is one for all processes
    tls: bool
    sasl: NotRequired[tuple[str, str, str]]  # mechanism, username, password


class Answer(TypedDict):
    """`behind` counts messages and is None for a topic that does not exist; `error` says why nothing could be asked."""

    behind: NotRequired[int | None]
    has_committed: NotRequired[bool]
    error: NotRequired[str]


class Refused(Exception):
    """A broker answered that it will not tell."""


def answer(asked: Asked) -> Answer:
    """Ask the brokers."""
    servers = ", ".join(asked["bootstrap_servers"])
    Sockets.addresses = asked["addresses"]
    try:
        found = [Sockets().dns_lookup(*get_ip_port_afi(server)[:2]) for server in asked["bootstrap_servers"]]
        if not any(found):
            raise kafka_errors.KafkaConnectionError  # the client would try until its time is over
        admin = _connect(asked)
        try:
            return _lag(admin, asked["topic"], asked["group"])
        finally:
            admin.close()
    except Refused as error:
        return {"error": str(error)}
    except (kafka_errors.KafkaTimeoutError, kafka_errors.KafkaConnectionError):
        if Sockets.unknown:
            return {"error": f"the broker {min(Sockets.unknown)} has no address here"}
        if Sockets.connected:
            return {"error": f"{servers} accepts the connection and answers nothing: are `tls` and `sasl` right?"}
        return {"error": f"no broker answers at {servers}"}
    except kafka_errors.KafkaError as error:
        return {"error": f"{servers} cannot tell: {_words(type(error))}"}


class Sockets(KafkaNetSocket):  # type: ignore[misc]
    """The connections of the client: to addresses that are known to the container, and not to the host itself.

    The client makes them by itself, so this class is told the addresses, and remembers how far they got: the client
    only says that its time was over.
    """

    SCHEMES = (OWN_NAMES,)
    addresses: ClassVar[Mapping[str, str]] = {}
    unknown: ClassVar[set[str]] = set()
    connected: ClassVar[bool] = False

    def dns_lookup(self, host: str, port: int, raise_error: bool = False) -> Any:
        name = "localhost" if host in LOOPBACK else host.lower()
        shares_host = self.addresses.get("localhost") in LOOPBACK
        every = super().dns_lookup(self.addresses.get(name, host), port, raise_error)
        found = [each for each in every if shares_host or not _is_host(each[4][0])]
        if not found:
            self.unknown.add(host)
        return found

    async def sock_connect(self, *words: Any, **more: Any) -> Any:
        connection = await super().sock_connect(*words, **more)
        Sockets.connected = True
        return connection


def _connect(asked: Asked) -> KafkaAdminClient:
    milliseconds = max(1, int((asked["ends"] - time.monotonic()) * 1000))
    settings: dict[str, Any] = {
        "security_protocol": ("SASL_" if "sasl" in asked else "") + ("SSL" if asked["tls"] else "PLAINTEXT"),
        "bootstrap_timeout_ms": milliseconds,
        "request_timeout_ms": milliseconds,
    }
    if "sasl" in asked:
        mechanism, username, password = asked["sasl"]
        settings |= {"sasl_mechanism": mechanism, "sasl_plain_username": username, "sasl_plain_password": password}
    return KafkaAdminClient(
        bootstrap_servers=asked["bootstrap_servers"],
        client_id="gitops-mvd",
        proxy_url=f"{OWN_NAMES}://",
        **settings,
    )


def _is_host(address: str) -> bool:
    """Does the address lead to this very host, where a container has no business?"""
    found = ip_address(address.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    return found.is_loopback or found.is_unspecified


def _lag(admin: KafkaAdminClient, topic: str, group: str) -> Answer:
    (described,) = admin.describe_topics([topic])
    if (error := kafka_errors.for_code(described["error_code"])) is kafka_errors.UnknownTopicOrPartitionError:
        return {"behind": None}
    if error is not kafka_errors.NoError:
        raise Refused(f"topic {topic} cannot be looked at: {_words(error)}")
    every = [TopicPartition(topic, partition["partition_index"]) for partition in described["partitions"]]
    first = admin.list_partition_offsets(dict.fromkeys(every, OffsetSpec.EARLIEST))
    end = admin.list_partition_offsets(dict.fromkeys(every, OffsetSpec.LATEST))
    # asked last, so that what is written and read meanwhile does not count as unread
    offsets = admin.list_group_offsets({group: every})[group]
    committed = {at: found.offset for at, found in offsets.items() if found.offset >= 0}
    # what has been deleted since is nothing to catch up with
    behind = sum(max(0, end[at].offset - max(committed.get(at, 0), first[at].offset)) for at in every)
    return {"behind": behind, "has_committed": any(at in committed for at in every)}


def _words(error: type[Exception]) -> str:
    """What Kafka calls an error: `TOPIC_AUTHORIZATION_FAILED` as topic authorization failed."""
    return str(getattr(error, "message", error.__name__)).lower().replace("_", " ")


if __name__ == "__main__":
    logging.disable()
    print(json.dumps(answer(json.load(sys.stdin))))
