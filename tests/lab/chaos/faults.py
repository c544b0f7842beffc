"""What goes wrong, each with its begin and its end, and what it may take along.

    with fault.happens(ground, app, random):
        ...             it lasts

A fault is a generator: what is before its `yield` begins it, what is behind ends it.  One that is done `by hand` to an
app is over as soon as it was done; to put it right is the daemon's part.  The clock is left alone: that of a container
is the clock of the machine that the lab runs on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from random import Random

from tests.lab.chaos.commits import App
from tests.lab.chaos.ground import DAEMON, DOCKER, FILES, STATE, Ground
from tests.lab.repository import git
from tests.lab.wire import MOODS

Happens = Callable[[Ground, App, Random], AbstractContextManager[None]]
MAIN_PID = f"$(systemctl show --property=MainPID --value {DAEMON})"
UNITS = "/etc/systemd/system"


@dataclass(frozen=True)
class Fault:
    """`stops_traffic` if requests may fail for it, `restarts` if all containers start again: it is what they need.

    `by_hand` if it is done to one app, and `loses_data` if that app's volume goes.  No commit comes while it lasts if
    it is `alone`.
    """

    name: str
    happens: Happens
    stops_traffic: bool = False
    restarts: bool = False
    by_hand: bool = False
    loses_data: bool = False
    alone: bool = False


FAULTS: dict[str, Fault] = {}


def _fault(name: str, **more: bool) -> Callable[[Callable[..., Iterator[None]]], None]:
    def kept(story: Callable[..., Iterator[None]]) -> None:
        FAULTS[name] = Fault(name, contextmanager(story), **more)

    return kept


# ---- the daemon ------------------------------------------------------------------------------------------------------


@_fault("the daemon is killed, once or more")
def _(ground: Ground, app: App, random: Random) -> Iterator[None]:
    for pause in [random.uniform(0, 3) for _ in range(random.choice((1, 2, 4)))]:
        ground.sh(f"systemctl kill --kill-who=main --signal=KILL {DAEMON}")
        time.sleep(pause)
    yield


@_fault("the daemon is restarted in good order")
def _(ground: Ground, app: App, random: Random) -> Iterator[None]:
    ground.run("systemctl", "restart", DAEMON, timeout=120)
    yield


@_fault("the daemon is stopped with SIGSTOP")
def _(ground: Ground, app: App, random: Random) -> Iterator[None]:
    ground.sh(f"kill -STOP {MAIN_PID}")
    yield
    ground.sh(f"kill -CONT {MAIN_PID}")


@_fault("the daemon is off")
def _(ground: Ground, app: App, random: Random) -> Iterator[None]:
    ground.run("systemctl", "stop", DAEMON, timeout=120)
    yield
    ground.run("systemctl", "start", DAEMON)


@_fault("the daemon has no descriptors left")
def _(ground: Ground, app: App, random: Random) -> Iterator[None]:
    ground.sh(f"prlimit --pid {MAIN_PID} --nofile={random.choice((1, 12, 20))}:")
    yield
    ground.sh(f"prlimit --pid {MAIN_PID} --nofile=1024:")


# ---- disks -----------------------------------------------------------------------------------------------------------


def _disk(name: str, folder: str, begin: str, end: str) -> None:
    @_fault(name)
    def _(ground: Ground, app: App, random: Random) -> Iterator[None]:
        ground.sh(begin.format(folder))
        yield
        ground.sh(end.format(folder))


FILL, EMPTY = "dd if=/dev/zero of={0}/.ballast bs=4k", "rm -f {0}/.ballast"
_disk("the disk of state and mirror is full", STATE, FILL, EMPTY)
_disk("the disk of mounted files is full", FILES, FILL, EMPTY)
_disk("Docker's disk is full", DOCKER, FILL, EMPTY)
_disk(
    *("the disk of state and mirror has no inodes left", STATE),
    "mkdir -p {0}/.ballast && cd {0}/.ballast && seq 7000 | xargs touch",
    "rm -rf {0}/.ballast",
)
_disk("state and mirror are read-only", STATE, "mount -o remount,ro {0}", "mount -o remount,rw {0}")
_disk("mounted files are read-only", FILES, "mount -o remount,ro {0}", "mount -o remount,rw {0}")

# ---- Docker, and the server itself -----------------------------------------------------------------------------------


def _engine(name: str, begin: str, end: str) -> None:
    """Docker sets the rules for published ports anew as it starts: for a second, nobody gets through."""

    @_fault(name, stops_traffic=True)
    def _(ground: Ground, app: App, random: Random) -> Iterator[None]:
        ground.sh(begin)
        yield
        ground.sh(end)


DOCKER_UP = "systemctl reset-failed docker containerd; systemctl start containerd docker.socket docker"
_engine("Docker is stopped", "systemctl stop docker.socket docker", DOCKER_UP)
_engine("Docker is killed", "systemctl kill --kill-who=main --signal=KILL docker", DOCKER_UP)
_engine("Docker is restarted", "systemctl restart docker", DOCKER_UP)
_engine(
    *("Docker is stopped with SIGSTOP", "systemctl kill --kill-who=main --signal=STOP docker"),
    "systemctl kill --kill-who=main --signal=CONT docker",
)
_engine("containerd is killed", "systemctl kill --kill-who=main --signal=KILL containerd", DOCKER_UP)


@_fault("the server reboots", stops_traffic=True, restarts=True)
def _(ground: Ground, app: App, random: Random) -> Iterator[None]:
    ground.stage.server.reboot(within=120)
    ground.is_here_again()
    yield


@_fault("the power is cut", stops_traffic=True, restarts=True)
def _(ground: Ground, app: App, random: Random) -> Iterator[None]:
    ground.stage.server.cut_power()
    yield
    ground.stage.server.start(within=120)
    ground.is_here_again()


@_fault("the network cable is pulled", stops_traffic=True)
def _(ground: Ground, app: App, random: Random) -> Iterator[None]:
    ground.stage.server.disconnect()
    yield
    ground.stage.server.connect()
    ground.is_here_again()


# ---- what it asks ----------------------------------------------------------------------------------------------------


def _wire(what: str, wire: str, mood: str) -> None:
    @_fault(f"{what} {MOODS[mood]}")
    def _(ground: Ground, app: App, random: Random) -> Iterator[None]:
        ground.wires[wire].mood = mood
        yield
        ground.wires[wire].mood = ""


for _mood in MOODS:
    _wire("the Git server", "git", _mood)
    _wire("the forge", "forge", _mood)
    _wire("Kong's Admin API", "kong", _mood)


@_fault("the registry is down", alone=True)  # a commit could not be made: it begins with a push of its image
def _(ground: Ground, app: App, random: Random) -> Iterator[None]:
    ground.lab.registry.stop()
    yield
    ground.lab.registry.start()


@_fault("Kong is killed, and starts again by itself", stops_traffic=True)
def _(ground: Ground, app: App, random: Random) -> Iterator[None]:
    ground.sh("systemctl kill --signal=KILL kong || docker kill kong")
    yield
    ground.sh("systemctl start kong || docker start kong")


@_fault("Kong comes back empty", stops_traffic=True)
def _(ground: Ground, app: App, random: Random) -> Iterator[None]:
    ground.sh("systemctl stop kong && rm -rf /var/lib/kong || docker rm -f kong")
    yield
    ground.stage.server.start_gateway("off", "0.0.0.0:8001")


# ---- the repository --------------------------------------------------------------------------------------------------


@_fault("the branch is gone", alone=True)
def _(ground: Ground, app: App, random: Random) -> Iterator[None]:
    at = ground.stage.repository.path
    git("branch", "--move", "main", "trunk", at=at)
    yield
    git("branch", "--move", "trunk", "main", at=at)


@_fault("the history is rewritten by a force-push", alone=True)
def _(ground: Ground, app: App, random: Random) -> Iterator[None]:
    at = ground.stage.repository.path
    tip, *_, first = git("rev-list", "main", at=at).splitlines()
    git("update-ref", "refs/heads/main", first, at=at)
    yield
    git("update-ref", "refs/heads/main", tip, at=at)


# ---- the state -------------------------------------------------------------------------------------------------------


def _state(name: str, script: str) -> None:
    @_fault(name)
    def _(ground: Ground, app: App, random: Random) -> Iterator[None]:
        ground.sh(script)
        yield


_state("the mirror is deleted", f"rm -rf {STATE}/mirror")
_state("the mirror is damaged", f"find {STATE}/mirror/objects -type f | head -40 | xargs -r -n1 truncate --size=10")
_state("the history is cut off", f"truncate --size=4096 {STATE}/history.db")
_state("the history is garbage", f"head -c 40000 /dev/urandom > {STATE}/history.db")
_state("the history is deleted", f"rm -f {STATE}/history.db*")
_state("the whole state is deleted", f"find {STATE} -mindepth 1 -delete")

# ---- by hand ---------------------------------------------------------------------------------------------------------

# What a colleague types: $U and $C are a unit and its container, $A the app and $V its volume.
NETWORK = "$(docker network ls -q --filter label=io.gitops-mvd.app=$A)"
BY_HAND = {
    "a container is removed": "docker rm -f $C",
    "a container is stopped": "docker stop -t 1 $C",
    "a container is killed": "docker kill $C",
    "a container is restarted": "docker restart -t 1 $C",
    "a container is renamed": "docker rename $C renamed-$A-$RANDOM",
    "the network is gone": f"docker network disconnect -f {NETWORK} $C",
    "a network and its containers are removed": f"docker rm -f $ALL; docker network rm {NETWORK}",
    "a volume and its containers are removed": "docker rm -f $ALL; docker volume rm $V",
    "the images are removed": "docker rmi -f $(docker images -q gitops-mvd.local/app | sort -u)",
    "a unit is stopped": "systemctl stop $U",
    "a unit is disabled": "systemctl disable $U",
    "a unit is stopped and masked at run time": "systemctl stop $U; systemctl mask --runtime $U",
    "a unit file is deleted": f"rm -f {UNITS}/$U; systemctl daemon-reload",
    "a unit file is deleted, and its unit stopped": f"systemctl stop $U; rm -f {UNITS}/$U; systemctl daemon-reload",
    "a unit file is edited": f"sed -i '/^ExecStart=/s/$/ --no-such-flag/' {UNITS}/$U; systemctl daemon-reload",
    "a unit has a drop-in that breaks it": (
        f"mkdir -p {UNITS}/$U.d; printf '[Service]\\nExecStart=\\nExecStart=/bin/sleep 9999\\n' > {UNITS}/$U.d/x.conf; "
        "systemctl daemon-reload; systemctl restart --no-block $U"
    ),
    "the folder of its files is deleted": f"rm -rf {FILES}/mvd-$A-*",
    "its mounted file is emptied": f"find {FILES}/ -path '*mvd-$A-*' -type f -exec truncate --size=0 {{}} +",
    "its routes are deleted from Kong": (
        "curl -s -X POST -H 'Content-Type: application/json' localhost:8001/config -d "
        """'{"config": "{\\"_format_version\\": \\"3.0\\"}"}'"""
    ),
}


# What is told, and left to the colleague to undo.
UNDONE = {"a unit has a drop-in that breaks it": f"rm -r {UNITS}/$U.d"}


def _by_hand(name: str, script: str) -> None:
    @contextmanager
    def happens(ground: Ground, app: App, random: Random) -> Iterator[None]:
        names = sorted(ground.names(app))
        if not names:
            yield
            return
        chosen = random.choice(names)
        words = f"A={app.name}; V={app.volume}; C={chosen}; U={chosen}.service; ALL='{' '.join(names)}'"
        ground.stage.server.exec("bash", "-c", f"{words}; {script}", check=False)
        yield
        if name in UNDONE:
            ground.stage.server.exec("bash", "-c", f"{words}; {UNDONE[name]}", check=False)

    stops = "Kong" in name
    loses = "volume" in name
    FAULTS[name] = Fault(name, happens, stops_traffic=stops, by_hand=True, loses_data=loses)


for _name, _script in BY_HAND.items():
    _by_hand(_name, _script)
