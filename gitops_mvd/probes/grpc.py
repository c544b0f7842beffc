"""`grpc`: healthy once the standard health service, grpc.health.v1, says that a service is SERVING.

It speaks HTTP/2 without TLS, to the container's own address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

from gitops_mvd.config.readers import text
from gitops_mvd.config.tables import Key
from gitops_mvd.core.model import Health, Instance
from gitops_mvd.net.line import Line, dial
from gitops_mvd.probes import PORT, TIMEOUT, TRY_SECONDS, Answer, ProbeTools, ProbeType, always

if TYPE_CHECKING:
    from h2.connection import H2Connection

SERVING = "SERVING"
SETTINGS_FRAME = b"\4"  # the type, fourth byte, of the frame with which every HTTP/2 server begins
STATUSES = ("UNKNOWN", SERVING, "NOT_SERVING", "SERVICE_UNKNOWN")
CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
REASONS = {"NOT_FOUND": ": it knows no such service", "UNIMPLEMENTED": ": it has no health service"}


class HungUp(Exception):
    """The other side ended the call before it was answered."""


class Spec(TypedDict):
    service: str
    port: int
    timeout: NotRequired[float]


def check(at: Instance, spec: Spec, tools: ProbeTools) -> Answer:
    from h2.exceptions import H2Error  # 2 MB that a daemon without such a probe does not need

    port, within = spec["port"], spec.get("timeout", TRY_SECONDS)
    try:
        with dial(at.ip, port, within) as line:
            headers, message = _call(line, _address(at.ip, port), _request(spec["service"]))
    except TimeoutError:
        return Health.PROGRESSING, f"grpc does not answer on port {port} within {within:g} s"
    except ConnectionRefusedError:
        return Health.PROGRESSING, f"grpc refuses the connection on port {port}"
    except (ConnectionError, HungUp):
        return Health.PROGRESSING, f"grpc hangs up on port {port} without an answer"
    except H2Error:
        return Health.PROGRESSING, f"grpc gets an answer on port {port} that is not HTTP/2"
    except OSError as error:
        return Health.UNKNOWN, f"grpc cannot be asked on port {port}: {error.strerror or error}"
    status = _status(headers, message)
    return (Health.HEALTHY, "") if status == SERVING else (Health.PROGRESSING, f"grpc {status}")


def _call(line: Line, address: str, message: bytes) -> tuple[dict[bytes, bytes], bytes]:
    """One call of Health/Check: its headers and trailers, and the answer."""
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import (
        ConnectionTerminated,
        DataReceived,
        ResponseReceived,
        StreamEnded,
        StreamReset,
        TrailersReceived,
    )
    from h2.exceptions import ProtocolError

    connection = H2Connection(H2Configuration(client_side=True))
    _ask(connection, address, message)
    headers: dict[bytes, bytes] = {}
    answer = start = b""
    while True:
        if waiting := connection.data_to_send():
            line.sendall(waiting)
        received = line.recv(1 << 16)
        if not received:
            raise HungUp
        start += received[: 4 - len(start)]
        if start[3:4] not in {b"", SETTINGS_FRAME}:  # h2 itself would wait for all of what it takes for a long frame
            raise ProtocolError
        for event in connection.receive_data(received):
            match event:
                case ResponseReceived() | TrailersReceived():
                    headers.update(event.headers)
                case DataReceived():
                    answer += event.data  # 64 KiB at most, as nobody lets it send more
                case StreamEnded():
                    return headers, answer
                case StreamReset() | ConnectionTerminated():
                    raise HungUp


def _ask(connection: H2Connection, address: str, message: bytes) -> None:
    connection.initiate_connection()
    stream = connection.get_next_available_stream_id()
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": address,
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "gitops-mvd",
    }
    connection.send_headers(stream, list(headers.items()))
    connection.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)


def _address(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _request(service: str) -> bytes:
    """A HealthCheckRequest: field 1, a text with its length in front, seven bits a byte."""
    name = service.encode()
    if not name:
        return b""
    length, rest = bytearray(), len(name)
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return b"\x0a" + bytes(length) + bytes([rest]) + name


def _status(headers: dict[bytes, bytes], message: bytes) -> str:
    """What the answer means, in gRPC's words.  A HealthCheckResponse is field 1, a number, and 0 if left out."""
    code = headers.get(b"grpc-status", b"").decode("ascii", "replace")
    if not code:
        return f"gets http {headers.get(b':status', b'')[:3].decode('ascii', 'replace')}, and no answer of gRPC"
    if code == "0":
        status = message[6] if message[5:6] == b"\x08" and len(message) > 6 else 0
        return STATUSES[status] if status < len(STATUSES) else f"status {status}"
    word = CODES[int(code)] if code in map(str, range(len(CODES))) else "status of no known code"
    return word + REASONS.get(word, "")


PROBE = ProbeType(
    key=Key('The service that `grpc.health.v1` must call SERVING; `""` for the server as a whole.', text),
    argument="service",
    options={"port": PORT, "timeout": TIMEOUT},
    summary=lambda spec: f"{spec['service']} {spec['port']}".strip(),
    connects=True,
    is_monitored=always,
    passes_ended=False,
    only_waits=False,
    check=check,
    at_port=lambda spec, port: {**spec, "port": port},
)
