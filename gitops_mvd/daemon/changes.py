"""A number that grows with everything that is to be seen anew, for whoever waits for that."""

from __future__ import annotations

import threading


class Changes:
    """Anyone notes a change, anyone waits for the next one."""

    def __init__(self) -> None:
        self._number = 1
        self._noted = threading.Condition()

    @property
    def number(self) -> int:
        return self._number

    def note(self) -> None:
        """Something else is to be seen."""
        with self._noted:
            self._number += 1
            self._noted.notify_all()

    def wait(self, after: int, within: float) -> int:
        """The number as soon as it is another one than `after`, or after that many seconds."""
        with self._noted:
            self._noted.wait_for(lambda: self._number != after, within)
            return self._number
