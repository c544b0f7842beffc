"""Each operation as a trace of OpenTelemetry, sent once it is over.

All operations of a commit are one trace, on whichever host: its id is the first half of the commit's.  An operation is
a span, each of its phases is one below, and each step one below the phase in which it began.

What sends them is loaded only if somebody wants them.  A collector that does not answer costs an operation that is not
sent, and a number: no deploy waits, and no more than a few operations are kept for it.
"""

from __future__ import annotations

import importlib.util
import logging
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import Full, Queue
from typing import TYPE_CHECKING

from gitops_mvd.api.views import FAILED, OperationView, PhaseView, StepView
from gitops_mvd.core.errors import Unavailable

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

log = logging.getLogger(__name__)

SENT, REFUSED, DROPPED = "sent", "failed", "dropped"
MOST_WAITING = 20  # operations, of at most a thousand steps each
WITHIN_SECONDS = 5.0  # for one operation to be taken
LARGEST_ANSWER = 1 << 20  # bytes
EXTRA = "opentelemetry.exporter.otlp.proto.http"

Export = Callable[[Sequence["ReadableSpan"]], bool]


class Traces:
    """Sends operations, in a thread of its own.  `export` sends spans, and says if they were taken."""

    def __init__(self, host: str, version: str, endpoint: str) -> None:
        """`version` is that of the daemon.  Raises Unavailable if what it needs is not installed."""
        if not _is_installed():
            raise Unavailable("`traces` in the settings needs OpenTelemetry", "pip install 'gitops-mvd[traces]'")
        self._host = host
        self._version = version
        self._endpoint = endpoint
        self._waiting: Queue[OperationView | None] = Queue(MOST_WAITING)
        self._outcomes: Counter[str] = Counter({SENT: 0, REFUSED: 0, DROPPED: 0})
        self._is_warned = False

    def passed(self, operation: OperationView) -> None:
        """A pass is over; it is sent if it took a step."""
        if operation.steps and operation.commit.commit:
            try:
                self._waiting.put_nowait(operation)
            except Full:
                self._outcomes[DROPPED] += 1

    def outcomes(self) -> Mapping[str, int]:
        """How many operations were sent, failed to be, or were dropped because too many waited."""
        return dict(self._outcomes)

    def run(self, stop: threading.Event, up: Callable[[], None]) -> None:
        """Send what is over until `stop`."""
        export = over_http(self._endpoint)
        up()
        while not stop.is_set():
            if operation := self._waiting.get():
                self._send(export, operation)

    def wake(self) -> None:
        try:
            self._waiting.put_nowait(None)
        except Full:  # then it does not wait
            return

    def _send(self, export: Export, operation: OperationView) -> None:
        is_taken = export(list(spans(operation, self._host, self._version)))
        self._outcomes[SENT if is_taken else REFUSED] += 1
        if not is_taken and not self._is_warned:
            log.warning("traces are not taken at=%s", self._endpoint)
        elif is_taken and self._is_warned:
            log.info("traces are taken again at=%s", self._endpoint)
        self._is_warned = not is_taken


# ---- the spans -------------------------------------------------------------------------------------------------------


def trace_id(commit: str) -> int:
    """The trace of a commit: the first 32 of its hex digits."""
    return int(commit[:32], 16)


def spans(operation: OperationView, host: str, version: str) -> Iterator[ReadableSpan]:
    """The spans of one operation: itself, its phases and its steps."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

    trace = trace_id(operation.commit.commit)
    resource = Resource({"service.name": "gitops-mvd", "service.version": version, "host.name": host})

    def context() -> SpanContext:
        return SpanContext(trace, secrets.randbits(64) or 1, is_remote=False, trace_flags=TraceFlags(1))

    def span(
        name: str,
        own: SpanContext,
        parent: SpanContext | None,
        began: float,
        seconds: float,
        attributes: Mapping[str, str | int | Sequence[str]],
        why: str | None = None,
    ) -> ReadableSpan:
        """`why` is the reason of a failure, None for what has not failed."""
        return ReadableSpan(
            name,
            context=own,
            parent=parent,
            resource=resource,
            attributes=attributes,
            status=Status(StatusCode.OK) if why is None else Status(StatusCode.ERROR, why),
            start_time=_nanoseconds(began),
            end_time=_nanoseconds(began + seconds),
        )

    whole = context()
    yield span(
        f"operation {host}",
        whole,
        None,
        operation.began,
        max(0.0, operation.ended - operation.began),
        {
            "vcs.ref.head.revision": operation.commit.commit,
            "mvd.subject": operation.commit.subject,
            "mvd.operation": operation.id,
            "mvd.causes": operation.causes,
            "mvd.more_steps": operation.more_steps,
        },
        None if operation.is_green else _why(operation),
    )
    of_phase = {phase: context() for phase in operation.phases}
    for phase, own in of_phase.items():
        yield span(phase.name, own, whole, phase.began, phase.seconds, {"mvd.phase": phase.name})
    for step in operation.steps:
        parent = next((own for phase, own in of_phase.items() if _has(phase, step)), whole)
        about = {"mvd.app": step.app, "mvd.service": step.service, "mvd.kind": step.kind, "mvd.name": step.name}
        about |= {"mvd.verb": step.verb, "mvd.state": step.state}
        why = step.why if step.state == FAILED else None
        yield span(f"{step.verb} {step.kind}", context(), parent, step.began, step.seconds, about, why)


def _why(operation: OperationView) -> str:
    return operation.error or next((f"{it.app}: {it.why}" for it in operation.results if it.why), "")


def _has(phase: PhaseView, step: StepView) -> bool:
    return phase.began <= step.began <= phase.began + phase.seconds


def _nanoseconds(at: float) -> int:
    return int(at * 1e9)


# ---- who sends them --------------------------------------------------------------------------------------------------


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec(EXTRA) is not None
    except ModuleNotFoundError:  # not even the packages around it
        return False


def over_http(endpoint: str) -> Export:
    """Sends spans to a collector as OTLP over HTTP, each time within a deadline."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    from gitops_mvd.net.adapter import session
    from gitops_mvd.net.line import limit

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what is worth a line is logged here
    place = f"{endpoint.rstrip('/')}/v1/traces"
    exporter = OTLPSpanExporter(place, timeout=WITHIN_SECONDS, session=session())

    def export(batch: Sequence[ReadableSpan]) -> bool:
        try:
            with limit(WITHIN_SECONDS, LARGEST_ANSWER):
                return exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception as error:  # whatever it is, it is about one operation
            log.debug("a trace was not sent: %s", error)
            return False

    return export
