"""The connection to systemd: its bus, its manager, and what its errors mean."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from jeepney import DBusAddress, DBusErrorResponse, HeaderFields, MatchRule, message_bus, new_method_call
from jeepney.auth import AuthenticationError
from jeepney.bus import get_bus
from jeepney.io.blocking import DBusConnection, prep_socket
from jeepney.wrappers import unwrap_msg

from gitops_mvd.core.errors import StepFailed, Unavailable, reading
from gitops_mvd.net.line import Line, limit

ANSWER_WITHIN_SECONDS = 30.0  # a reload with 500 units takes half of a second

MANAGER = DBusAddress(
    "/org/freedesktop/systemd1", bus_name="org.freedesktop.systemd1", interface="org.freedesktop.systemd1.Manager"
)
# No `sender`: signals carry the bus's unique name of systemd, which a local filter would not match.
JOB_REMOVED = MatchRule(
    type="signal", interface="org.freedesktop.systemd1.Manager", member="JobRemoved", path="/org/freedesktop/systemd1"
)
CALLS_AT_ONCE = 50  # small enough that neither end waits for the other to read
SHUTTING_DOWN = {"org.freedesktop.systemd1.TransactionIsDestructive", "org.freedesktop.systemd1.ShuttingDown"}
NO_SUCH_UNIT = {"org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus.Error.FileNotFound"}


def path_of(unit: str) -> str:
    """The object of a unit, whether it is loaded or not: asked for a property, systemd loads it."""
    return "/org/freedesktop/systemd1/unit/" + re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):02x}", unit)


class CallRefused(Exception):
    """systemd refuses a call; `name` is that of the D-Bus error."""

    def __init__(self, error: DBusErrorResponse) -> None:
        super().__init__(error.data[0] if error.data else error.name)
        self.name: str = error.name


class _Bus(DBusConnection):  # type: ignore[misc]  # jeepney has no types
    """A connection on which no call waits for ever, not even the library's first one."""

    def __init__(self, plain: socket.socket, within: float) -> None:
        self._within = within
        try:
            super().__init__(Line.over(plain))
        except BaseException:
            self.close()
            raise

    def send_and_get_reply(self, message: object, *, timeout: float | None = None) -> Any:
        with limit(self._within):
            return super().send_and_get_reply(message, timeout=self._within if timeout is None else timeout)

    def replies(self, messages: Iterable[object]) -> list[Any]:
        """The replies to several messages, in their order; all are sent before the first reply is waited for."""
        found: dict[int, Any] = {}
        with limit(self._within):
            for message in messages:
                serial = next(self.outgoing_serial)
                found[serial] = None
                self.send(message, serial=serial)
            missing = set(found)
            while missing:
                reply = self.receive(timeout=self._within)
                serial = reply.header.fields.get(HeaderFields.reply_serial, -1)
                if serial in missing:
                    missing.remove(serial)
                    found[serial] = reply
        return list(found.values())


class Manager:
    """systemd's manager object, on one connection."""

    def __init__(self, bus: _Bus) -> None:
        self.bus = bus

    def call(self, method: str, signature: str | None = None, body: tuple[Any, ...] = ()) -> Any:
        try:
            return unwrap_msg(self.bus.send_and_get_reply(new_method_call(MANAGER, method, signature, body)))
        except DBusErrorResponse as error:
            if error.name.startswith("org.freedesktop.systemd1.") or error.name in NO_SUCH_UNIT:
                raise CallRefused(error) from error
            raise

    def property(self, path: str, interface: str, name: str) -> Any:
        """One property of an object of systemd's."""
        [value] = self.properties([path], interface, [name])
        return value

    def properties(self, paths: Iterable[str], interface: str, names: Iterable[str]) -> list[Any]:
        """These properties of each of these objects, in their order, asked for many at once."""
        full = f"org.freedesktop.systemd1.{interface}"
        wheres = [
            DBusAddress(path, bus_name=MANAGER.bus_name, interface="org.freedesktop.DBus.Properties") for path in paths
        ]
        asks = (new_method_call(where, "Get", "ss", (full, name)) for where in wheres for name in names)
        values = []
        while together := list(islice(asks, CALLS_AT_ONCE)):
            values += [unwrap_msg(reply)[0][1] for reply in self.bus.replies(together)]
        return values

    def unit(self, name: str) -> str:
        """The object of a loaded unit; "" if it is not loaded."""
        try:
            [path] = self.call("GetUnit", "s", (name,))
        except CallRefused:
            return ""
        return str(path)

    def subscribe(self) -> None:
        self.call("Subscribe")
        unwrap_msg(self.bus.send_and_get_reply(message_bus.AddMatch(JOB_REMOVED)))


@contextmanager
def asking_systemd(doing: str, within: float) -> Iterator[Manager]:
    """A connection for a few calls.  Raises StepFailed if systemd refuses, and Unavailable if it does not answer."""
    try:
        with reading("what answers on D-Bus"), _Bus(prep_socket(get_bus("SYSTEM"), timeout=within), within) as bus:
            yield Manager(bus)
    except CallRefused as refused:
        if refused.name in SHUTTING_DOWN:
            raise Unavailable(f"systemd does not {doing} any more, as the server goes down: {refused}") from refused
        raise StepFailed(f"systemd refused to {doing}: {refused}") from refused
    except TimeoutError as error:
        raise Unavailable(f"systemd did not {doing} within {within:g} s") from error
    except (OSError, AuthenticationError, DBusErrorResponse) as error:
        message = f"systemd cannot be asked to {doing}, as D-Bus does not answer: {_reason(error)}"
        raise Unavailable(message, "Start it: systemctl start dbus") from error


def _reason(error: Exception) -> str:
    match error:
        case DBusErrorResponse(name=name, data=data):
            return str(data[0] if data else name)
        case OSError(strerror=str() as reason):
            return reason.lower()
        case _:
            return str(error)
