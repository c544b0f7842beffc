"""A broker of Kafka as far as the probe asks one, in the messages of kafka-python; tests/integration has a real one.

with broker({"orders": [Partition(first=0, end=10, committed=4)]}) as port: ...
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any

from kafka.errors import TopicAuthorizationFailedError, UnknownTopicOrPartitionError
from kafka.protocol.consumer import ListOffsetsRequest, ListOffsetsResponse, OffsetFetchRequest, OffsetFetchResponse
from kafka.protocol.metadata import (
    ApiVersionsRequest,
    ApiVersionsResponse,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
    MetadataRequest,
    MetadataResponse,
)

GROUP = "workers"
EARLIEST = -2
ASKED = {  # each with the newest version that is spoken
    ApiVersionsRequest: 0,
    MetadataRequest: 5,
    FindCoordinatorRequest: 1,
    OffsetFetchRequest: 5,
    ListOffsetsRequest: 2,
}


@dataclass(frozen=True)
class Partition:
    """The offsets of its first message and of the next one, and what GROUP has committed; -1 is nothing."""

    first: int = 0
    end: int = 0
    committed: int = -1


Topics = Mapping[str, Sequence[Partition] | None]  # None is a topic that nobody may look at


@contextmanager
def broker(topics: Topics, advertised: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a broker that tells its clients to go on at that address; with `tls` it speaks nothing else."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        answers = Answers(topics, advertised, port, tls)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    Thread(target=answers.serve, args=[server.accept()[0]], daemon=True).start()

        thread = Thread(target=serve)
        thread.start()
        try:
            yield port
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


class Answers:
    """What the broker answers."""

    def __init__(self, topics: Topics, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self.topics = topics
        self.tls = tls
        self.at = {"node_id": 1, "host": host, "port": port}

    def serve(self, plain: socket.socket) -> None:
        with plain, suppress(OSError), self.secured(plain) as connection, connection.makefile("rb") as stream:
            while size := stream.read(4):
                frame = stream.read(struct.unpack(">i", size)[0])
                key, version, number = struct.unpack_from(">hhi", frame)
                kind = next(kind for kind in ASKED if key == kind.API_KEY)
                if version > ASKED[kind]:  # as a real one: the versions that it speaks, in the oldest form
                    answer = self.versions(error=35)
                    version = 0
                else:
                    answer = self.answer(kind.decode(frame, version=version, header=True))
                answer.API_VERSION = version
                answer.with_header(correlation_id=number)
                connection.sendall(answer.encode(header=True, framed=True))

    def secured(self, plain: socket.socket) -> socket.socket:
        return self.tls.wrap_socket(plain, server_side=True) if self.tls else plain

    def answer(self, asked: Any) -> Any:
        match asked:
            case ApiVersionsRequest():
                return self.versions()
            case MetadataRequest():
                named = self.topics if asked.topics is None else [topic.name for topic in asked.topics]
                broker = MetadataResponse.MetadataResponseBroker(**self.at, rack=None)
                return MetadataResponse(
                    throttle_time_ms=0,
                    brokers=[broker],
                    cluster_id="test",
                    controller_id=1,
                    topics=[self.topic(name) for name in named],
                )
            case FindCoordinatorRequest():
                return FindCoordinatorResponse(throttle_time_ms=0, error_code=0, error_message="", **self.at)
            case OffsetFetchRequest():
                return OffsetFetchResponse(
                    throttle_time_ms=0, error_code=0, topics=[self.committed(topic) for topic in asked.topics]
                )
            case ListOffsetsRequest():
                return ListOffsetsResponse(throttle_time_ms=0, topics=[self.offsets(topic) for topic in asked.topics])

    def versions(self, error: int = 0) -> Any:
        spoken = [
            ApiVersionsResponse.ApiVersion(api_key=kind.API_KEY, min_version=0, max_version=most)
            for kind, most in ASKED.items()
        ]
        return ApiVersionsResponse(error_code=error, api_keys=spoken)

    def topic(self, name: str) -> Any:
        shape, found = MetadataResponse.MetadataResponseTopic, self.topics.get(name, ())
        error = TopicAuthorizationFailedError if found is None else UnknownTopicOrPartitionError
        partitions = [
            shape.MetadataResponsePartition(
                error_code=0, partition_index=number, leader_id=1, replica_nodes=[1], isr_nodes=[1], offline_replicas=[]
            )
            for number in range(len(found or ()))
        ]
        return shape(
            error_code=0 if found else error.errno, name=name, topic_id=None, is_internal=False, partitions=partitions
        )

    def committed(self, topic: Any) -> Any:
        shape, found = OffsetFetchResponse.OffsetFetchResponseTopic, self.topics[topic.name] or ()
        partitions = [
            shape.OffsetFetchResponsePartition(
                partition_index=number,
                committed_offset=found[number].committed,
                committed_leader_epoch=-1,
                metadata="",
                error_code=0,
            )
            for number in topic.partition_indexes
        ]
        return shape(name=topic.name, partitions=partitions)

    def offsets(self, topic: Any) -> Any:
        shape, found = ListOffsetsResponse.ListOffsetsTopicResponse, self.topics[topic.name] or ()
        partitions = []
        for asked in topic.partitions:
            at = found[asked.partition_index]
            offset = at.first if asked.timestamp == EARLIEST else at.end
            partitions.append(
                shape.ListOffsetsPartitionResponse(
                    partition_index=asked.partition_index, error_code=0, timestamp=-1, offset=offset, leader_epoch=-1
                )
            )
        return shape(name=topic.name, partitions=partitions)
