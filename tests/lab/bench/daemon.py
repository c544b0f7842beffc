"""A daemon with a folder of units of its own, and nothing else in its process.

python -m tests.lab.bench.daemon SETTINGS UNITS
"""

from __future__ import annotations

import sys
from pathlib import Path

from gitops_mvd.config import settings
from gitops_mvd.daemon.loop import Daemon
from gitops_mvd.daemon.wiring import wire

if __name__ == "__main__":
    file, units = map(Path, sys.argv[1:])
    Daemon(wire(settings.read(str(file), file.read_bytes()), file, units)).run()
