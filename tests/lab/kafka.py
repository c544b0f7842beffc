"""A real Kafka: one broker that is its own controller (KRaft), from its jars.

    lab.kafka.create("orders", partitions=3)
    lab.kafka.produce("orders", 100)

Its three listeners have the same messages: `servers` is for everybody who reaches the lab's network,
`servers_with_login` asks for LOGIN, and what comes over `inside` is told to go on at INSIDE_NAME, as by a broker in a
container that only the containers of its network find.
"""

from __future__ import annotations

import logging
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError

from tests.lab import java, maven
from tests.lab.command import run
from tests.lab.engine import Say
from tests.lab.java import Java

MEGABYTES = 256  # of heap; with the rest it takes about 380 MB
INSIDE_NAME = "kafka:9092"
LOGIN = ("lab", "open-sesame")
ANSWER_MS = 5_000
JAAS = "org.apache.kafka.common.security.plain.PlainLoginModule required"

logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it has much to say about a broker that is not up yet


class Kafka:
    """A broker, for those who reach `address`.  Its topics go with it."""

    def __init__(self, address: str, say: Say) -> None:
        self._address = address
        self._say = say
        self._folder: Path | None = None
        self._ports = dict.fromkeys(("OPEN", "INSIDE", "LOGIN", "CONTROLLER"), 0)

    @property
    def servers(self) -> str:
        return f"{self._address}:{self._ports['OPEN']}"

    @property
    def servers_with_login(self) -> str:
        return f"{self._address}:{self._ports['LOGIN']}"

    @property
    def inside(self) -> tuple[str, int]:
        """The address and the port of the listener that sends on to INSIDE_NAME."""
        return self._address, self._ports["INSIDE"]

    def start(self) -> None:
        """Start it, with the topics it had before `stop`, and wait until it answers.  Raises LabUnavailable."""
        java.install(self._say)
        classpath = maven.classpath(maven.KAFKA, self._say)
        if not self._folder:
            self._folder = Path(tempfile.mkdtemp(prefix="kafka-"))
            self._ports = {name: java.free_port(self._address) for name in self._ports}
            settings = self._folder / "server.properties"
            settings.write_text("".join(f"{key}={value}\n" for key, value in self._settings(self._folder).items()))
            formats = ("kafka.tools.StorageTool", "format", "--cluster-id", uuid.uuid4().hex[:22], "--config")
            run("java", "-cp", classpath, *formats, str(settings))
        words = ("-cp", classpath, "kafka.Kafka", str(self._folder / "server.properties"))
        self._java = Java(words, self._folder / "kafka.log", MEGABYTES)
        self._java.wait_until(self._answers)

    def stop(self) -> None:
        """Stop it; its topics stay for the next `start`."""
        self._java.stop()

    def close(self) -> None:
        """Stop it for good, and remove its topics."""
        self._java.kill()
        if self._folder:
            shutil.rmtree(self._folder)

    def __enter__(self) -> Kafka:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- topics ------------------------------------------------------------------------------------------------------

    def create(self, topic: str, partitions: int = 1) -> None:
        """Make a topic."""
        with self._admin() as admin:
            admin.create_topics([NewTopic(topic, partitions, 1)])
            admin.wait_for_topics([topic])

    def produce(self, topic: str, count: int) -> None:
        """Send so many messages, spread evenly over the partitions."""
        producer = KafkaProducer(bootstrap_servers=self.servers, request_timeout_ms=ANSWER_MS)
        partitions = sorted(producer.partitions_for(topic))
        for number in range(count):
            producer.send(topic, b"message %d" % number, partition=partitions[number % len(partitions)])
        producer.flush(timeout=ANSWER_MS / 1000)
        producer.close()

    def consume(self, topic: str, group: str) -> int:
        """Have a group take all that a topic has; returns how many messages it took."""
        settings = {"bootstrap_servers": self.servers, "group_id": group, "enable_auto_commit": False}
        consumer = KafkaConsumer(**settings, auto_offset_reset="earliest", consumer_timeout_ms=ANSWER_MS)
        every = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(every)
        taken = 0
        ends = consumer.end_offsets(every)
        while any(consumer.position(each) < ends[each] for each in every):
            taken += sum(map(len, consumer.poll(timeout_ms=ANSWER_MS).values()))
        consumer.commit()
        consumer.close()
        return taken

    @contextmanager
    def _admin(self) -> Iterator[KafkaAdminClient]:
        admin = KafkaAdminClient(
            bootstrap_servers=self.servers, bootstrap_timeout_ms=ANSWER_MS, request_timeout_ms=ANSWER_MS
        )
        try:
            yield admin
        finally:
            admin.close()

    def _answers(self) -> bool:
        try:
            # its client leaves a socket behind for each refused connection
            with socket.create_connection((self._address, self._ports["OPEN"]), ANSWER_MS / 1000):
                pass
            with self._admin() as admin:
                admin.list_topics()
        except (OSError, KafkaError):
            return False
        return True

    def _settings(self, folder: Path) -> dict[str, object]:
        ports = self._ports
        listeners = {name: f"{name}://{self._address}:{port}" for name, port in ports.items()}
        advertised = {**listeners, "INSIDE": f"INSIDE://{INSIDE_NAME}"}
        protocols = dict.fromkeys(ports, "PLAINTEXT") | {"LOGIN": "SASL_PLAINTEXT"}
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{self._address}:{ports['CONTROLLER']}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "OPEN",
            "listeners": ",".join(listeners.values()),
            "advertised.listeners": ",".join(advertised[name] for name in ports if name != "CONTROLLER"),
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "listener.name.login.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.login.plain.sasl.jaas.config": f'{JAAS} user_{LOGIN[0]}="{LOGIN[1]}";',
            "log.dirs": folder / "data",
            "auto.create.topics.enable": False,
            "offsets.topic.num.partitions": 1,
            "offsets.topic.replication.factor": 1,
            "group.initial.rebalance.delay.ms": 0,
            "broker.session.timeout.ms": 1000,  # for which a broker that starts again waits for its former self
            "broker.heartbeat.interval.ms": 200,
        }
