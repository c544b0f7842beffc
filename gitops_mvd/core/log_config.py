"""Which logging driver a container gets.  Pure."""

from __future__ import annotations

from gitops_mvd.core.compose import Run


def log_config(run: Run) -> tuple[str, dict[str, str]]:
    """The driver that the manifest names, "" if it names none, and the options for the driver in use."""
    logging = run.get("logging")
    if not logging:
        return "", {}
    options = {key: value for key, value in logging["options"].items() if logging["driver"] or key not in SIZES}
    return logging["driver"], options


SIZES = ("max-size", "max-file", "compress")
