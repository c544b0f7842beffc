"""`logging`: that of a service, and what `fleet.yaml` has for those that say nothing.  Pure."""

from __future__ import annotations

from gitops_mvd.config.readers import filled, mapping_of, word
from gitops_mvd.config.tables import Key, Place, Table, accepts, did_you_mean, mapping_schema, record
from gitops_mvd.core.compose import ANY_LOG_OPTIONS, FILE_LOG_OPTIONS, LOG_DRIVER, LOG_OPTIONS, Logging

LOGGING: Table = {
    "driver": Key("The logging driver; left out, that of `fleet.yaml`, else the journal (`journald`).", filled),
    "options": Key("Its options. Without `driver`, those that limit a log file have no effect.", mapping_of(word)),
}


_keys = record(Logging, LOGGING)


def _check_option(at: Place, name: str, logging: Logging) -> None:
    """Report an option that the engine would refuse, and note one that has no effect."""
    driver, options = logging["driver"] or LOG_DRIVER, logging["options"]
    if name in FILE_LOG_OPTIONS and not logging["driver"]:
        at.note("has no effect on the journal, which has its own limits: for files of its own name `driver: local`")
    elif name == "mode" and options.get(name) not in ("blocking", "non-blocking"):
        at.report("must be blocking or non-blocking")
    elif name == "max-buffer-size" and options.get("mode") != "non-blocking":
        at.report("needs `mode: non-blocking` beside it")
    elif name not in {*LOG_OPTIONS.get(driver, options), *ANY_LOG_OPTIONS}:
        hint = did_you_mean(name, LOG_OPTIONS[driver])
        at.report(f"is not an option of the logging driver {driver}{hint}")


@accepts(_keys.schema)
def read_logging(place: Place) -> Logging:
    logging: Logging = {"driver": "", "options": {}, **_keys(place)}
    for name, at in place.entries()["options"].entries().items() if logging["options"] else ():
        _check_option(at, name, logging)
    return logging


@accepts(mapping_schema(LOGGING, ("driver",)))
def read_default_logging(place: Place) -> Logging:
    """That of a whole host, which names its driver."""
    logging = read_logging(place)
    return logging if logging["driver"] else place.fail("has no `driver`, such as journald or gelf")


def with_default(own: Logging | None, default: Logging) -> Logging | None:
    """The `logging` of a service on a host with that default, as if the one stood in a file below the other.

    None if the service says nothing, and the default is what is done anyway.
    """
    driver, options = default["driver"], default["options"]
    if driver == LOG_DRIVER and not options and not (own and own["driver"]):
        return own  # as without a default
    if own and own["driver"] not in ("", driver):
        return own
    if own and own["driver"]:
        return {"driver": driver, "options": {**options, **own["options"]}}
    more = own["options"] if own else {}
    known = {*LOG_OPTIONS.get(driver, more), *ANY_LOG_OPTIONS}
    if driver not in LOG_OPTIONS:
        known -= FILE_LOG_OPTIONS
    merged = {**options, **{name: value for name, value in more.items() if name in known}}
    if driver == LOG_DRIVER:  # of its own accord, a container that the engine writes no journal for has another one
        return {"driver": "", "options": merged} if merged or own else None
    return {"driver": driver, "options": merged}
