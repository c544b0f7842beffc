"""Every metric, one a row: its name, what it is, and its labels.  Pure.

States are one series each, 1 for the one that holds and 0 for all others, as kube-state-metrics has them: an alert
rule names the one it is about, needs no join, and no series comes or goes when a state changes.
Rules for names: https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

from dataclasses import dataclass

GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric; `buckets` are the upper limits of a histogram, in its unit."""

    name: str
    kind: str
    what: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_PHASES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_GATES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_MERGES = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)

_APP = ("app",)
_SERVICE = ("app", "service")
_CONTAINER = ("app", "service", "container")

# ---- this server -----------------------------------------------------------------------------------------------------

BUILD = Metric("mvd_build_info", GAUGE, "The daemon and the server that it keeps; always 1.", ("host", "version"))
HOST_SYNC = Metric("mvd_host_sync", GAUGE, "Is the server equal to Git? 1 for the state that holds.", ("sync",))
HOST_HEALTH = Metric("mvd_host_health", GAUGE, "The worst health of all apps. 1 for the state that holds.", ("health",))
HOST_SUSPENDED = Metric("mvd_host_suspended", GAUGE, "1 if somebody has suspended the whole server.")
HOST_DRAINED = Metric("mvd_host_drained", GAUGE, "1 if `fleet.yaml` has the server drained.")
DEPLOYING = Metric("mvd_deploying", GAUGE, "1 while something is being changed.")
REVISION = Metric("mvd_revision_info", GAUGE, "The newest commit that is known; always 1.", ("revision",))
REVISION_TIME = Metric("mvd_revision_timestamp_seconds", GAUGE, "When the newest commit that is known was made.")
GIT_FAILING = Metric(
    "mvd_git_failing_since_timestamp_seconds",
    GAUGE,
    "Since when Git does not answer, or the newest commit is refused; 0 if all is well.",
    ("reason",),
)
PASS_TIME = Metric("mvd_last_pass_timestamp_seconds", GAUGE, "When a pass last looked at all apps; 0 before the first.")
SUCCESS_TIME = Metric(
    "mvd_last_success_timestamp_seconds", GAUGE, "When a pass last found every app synced and healthy; 0 before."
)
PASSES = Metric("mvd_passes_total", COUNTER, "Passes: complete, or given up, as if Docker did not answer.", ("result",))
PHASES = Metric("mvd_phase_duration_seconds", HISTOGRAM, "How long each phase of a pass took.", ("phase",), _PHASES)
GATES = Metric("mvd_gate_duration_seconds", HISTOGRAM, "How long gates were waited at, passed or not.", (), _GATES)
MERGES = Metric(
    "mvd_merge_to_healthy_seconds",
    HISTOGRAM,
    "From the time of a commit to the end of the operation after which all that it changed was healthy.",
    (),
    _MERGES,
)
STEPS = Metric("mvd_steps_total", COUNTER, "Steps that were carried out.", ("verb", "state"))
REPAIRS = Metric("mvd_drift_repairs_total", COUNTER, "Resources made or changed though no commit asked for it.")
PRUNED = Metric("mvd_pruned_resources_total", COUNTER, "Resources that were deleted.")
FAILURES = Metric("mvd_failures_total", COUNTER, "Failures of apps, by what the daemon does about them.", ("class",))
DELIVERIES = Metric(
    "mvd_status_deliveries_total", COUNTER, "Statuses that the forge was asked to take.", ("forge", "outcome")
)
WAITING = Metric("mvd_statuses_waiting", GAUGE, "Statuses that the forge has not taken yet.")
LIMIT = Metric("mvd_forge_rate_limit_requests", GAUGE, "Requests that the forge allows in a while.", ("forge",))
LIMIT_LEFT = Metric(
    "mvd_forge_rate_limit_remaining_requests", GAUGE, "Requests that the forge still allows in this while.", ("forge",)
)
LIMIT_RESET = Metric(
    "mvd_forge_rate_limit_reset_timestamp_seconds", GAUGE, "When the forge counts requests anew.", ("forge",)
)
THREADS_DOWN = Metric("mvd_threads_down", GAUGE, "Threads of the daemon that do not run now.")
THREAD_RESTARTS = Metric(
    "mvd_thread_restarts_total", COUNTER, "How often a thread of the daemon had to be started again.", ("thread",)
)
TRACES = Metric("mvd_traces_total", COUNTER, "Operations that were to be sent as traces.", ("outcome",))

# ---- an app ----------------------------------------------------------------------------------------------------------

APP = Metric("mvd_app_info", GAUGE, "The commit whose version of the app runs; always 1.", ("app", "revision"))
APP_SYNC = Metric("mvd_app_sync", GAUGE, "Is the app as Git wants it? 1 for the state that holds.", ("app", "sync"))
APP_HEALTH = Metric("mvd_app_health", GAUGE, "The worst health of its services. 1 for what holds.", ("app", "health"))
APP_OPERATION = Metric(
    "mvd_app_operation", GAUGE, "How its last deploy ended. 1 for the state that holds.", ("app", "operation")
)
APP_SUSPENDED = Metric("mvd_app_suspended", GAUGE, "1 if somebody has suspended the app.", _APP)
APP_DEPLOYED = Metric("mvd_app_deployed_timestamp_seconds", GAUGE, "When the version that runs was deployed.", _APP)
OPERATIONS = Metric("mvd_operations_total", COUNTER, "How operations on an app ended.", ("app", "operation"))

# ---- a service and its containers ------------------------------------------------------------------------------------

SERVICE = Metric(
    "mvd_service_info",
    GAUGE,
    "The image that the manifest names, the digest that runs, and the commit that it is of; always 1.",
    (*_SERVICE, "image", "digest", "revision"),
)
SERVICE_HEALTH = Metric(
    "mvd_service_health", GAUGE, "The health of a service. 1 for the state that holds.", (*_SERVICE, "health")
)
DESIRED = Metric("mvd_service_desired", GAUGE, "Instances that a service should have.", _SERVICE)
READY = Metric("mvd_service_ready", GAUGE, "Instances that run and are healthy.", _SERVICE)
RESTARTS = Metric(
    "mvd_container_restarts_total",
    COUNTER,
    "Starts of a container after it had ended, as Docker told them since the daemon's start.",
    _CONTAINER,
)
CPU = Metric("mvd_container_cpu_seconds_total", COUNTER, "CPU time that a container has used.", _CONTAINER)
MEMORY = Metric(
    "mvd_container_memory_bytes",
    GAUGE,
    "Memory of a container, without the file cache that can be dropped.",
    _CONTAINER,
)
MEMORY_LIMIT = Metric(
    "mvd_container_memory_limit_bytes",
    GAUGE,
    "Memory that a container may have at most; none without a limit.",
    _CONTAINER,
)

METRICS = tuple(it for it in list(globals().values()) if isinstance(it, Metric))
