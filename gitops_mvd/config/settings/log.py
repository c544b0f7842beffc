"""`log`: how the daemon writes its own log.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gitops_mvd.config.readers import one_of
from gitops_mvd.config.settings.section import section
from gitops_mvd.config.tables import Key

TEXT, ECS = "text", "ecs"
OUTCOME = "gitops_mvd.outcome"  # the logger of what each app came to: an event for programs


@dataclass(frozen=True, slots=True)
class LogSettings:
    format: str = TEXT


LOG_SECTION = section(
    LogSettings,
    {
        "format": Key(
            "`text` for people, or `ecs`: each line is a JSON object in the Elastic Common Schema.", one_of(TEXT, ECS)
        ),
    },
)
