"""A gRPC server with nothing but the standard health service: it says SERVING, and prints what it is asked.

python -m tests.lab.grpc_health 50051
"""

from __future__ import annotations

import socket
import sys
import threading

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError

SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}
CHECK = "/grpc.health.v1.Health/Check"
OK, UNIMPLEMENTED = "0", "12"
AT_ONCE = 65536  # bytes


def serve(port: int) -> None:
    """Answer everybody, for ever."""
    with socket.create_server(("", port)) as listening:
        print(f"listens on port {port}", flush=True)
        while True:
            caller, _ = listening.accept()
            threading.Thread(target=answer, args=(caller,), daemon=True).start()


def answer(caller: socket.socket) -> None:
    """Answer the calls that come over one connection."""
    http = H2Connection(H2Configuration(client_side=False))
    http.initiate_connection()
    paths: dict[int, str] = {}
    try:
        with caller:
            caller.sendall(http.data_to_send())
            while data := caller.recv(AT_ONCE):
                for event in http.receive_data(data):
                    _react(http, event, paths)
                caller.sendall(http.data_to_send())
    except (ConnectionError, ProtocolError) as error:
        print(f"a caller is gone: {error}", flush=True)


def _react(http: H2Connection, event: Event, paths: dict[int, str]) -> None:
    match event:
        case RequestReceived(stream_id=int(stream), headers=headers):
            paths[stream] = dict(headers)[b":path"].decode()
        case StreamEnded(stream_id=int(stream)):
            path = paths.pop(stream)
            print(f"asked {path}", flush=True)
            http.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
            if path == CHECK:
                http.send_data(stream, b"\0" + len(SERVING).to_bytes(4, "big") + SERVING)
            http.send_headers(stream, [("grpc-status", OK if path == CHECK else UNIMPLEMENTED)], end_stream=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
