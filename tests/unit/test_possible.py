"""What could not start is refused while the old version serves, and what might start is let through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitops_mvd.core.errors import Lacking, NotNow, StepFailed, Unavailable
from gitops_mvd.docker.possible import DIRECTORY, LINK, Possible, refuse_addresses

FILE, PROGRAM = 0o644, 0o755
NOT_A_DIRECTORY = "mount /srv:/etc/passwd, flags: 0x5000: not a directory"


class Engine:
    """Has the files of one image, by path: a mode, or where a link leads to; and the texts of some."""

    def __init__(self, **files: int | str) -> None:
        self.files = {f"/{path.replace('_', '/')}": mode for path, mode in files.items()}
        self.texts = {"/etc/passwd": "root:x:0:0\nweb:x:7:7\n", "/etc/group": "root:x:0:\nvideo:x:44:\n"}
        self.networks: dict[str, Any] = {}
        self.fails = ""

    def stat(self, container: str, path: str) -> dict[str, Any] | None:
        if self.fails:
            raise Unavailable(self.fails)
        found = self.files.get(path)
        if found is None:
            is_folder = any(it.startswith(f"{path}/") for it in self.files)
            return {"mode": DIRECTORY | 0o755, "mtime": "", "linkTarget": ""} if is_folder else None
        if isinstance(found, str):
            return {"mode": LINK | 0o777, "mtime": "", "linkTarget": found}
        return {"mode": found, "mtime": "", "linkTarget": ""}

    def text(self, container: str, path: str) -> str | None:
        return self.texts.get(path)

    def network(self, name: str) -> Any:
        return self.networks.get(name)

    def info(self) -> dict[str, Any]:
        return {"CDISpecDirs": []}


def container(path: str = "/bin/web", host: Any = None, **config: Any) -> Any:
    mounts = config.pop("mounts", ())
    networks = config.pop("networks", {})
    return {
        "Id": "c1",
        "Name": "/mvd-shop-web-01234567",
        "Path": path,
        "Config": {"Labels": {"io.gitops-mvd.service": "web"}, "Env": ["PATH=/usr/bin:/bin"], **config},
        "HostConfig": {"Runtime": "runc", **(host or {})},
        "NetworkSettings": {"Networks": networks},
        "Mounts": [{"Type": "volume", "Destination": target} for target in mounts],
    }


def refuse(container: Any, engine: Engine | None = None, outside: Callable[..., str] = lambda *words: "") -> None:
    edge: Any = engine or Engine(bin_web=PROGRAM)
    Possible(edge, outside).refuse(container)


# ---- the image -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["/bin/web", "web", "bin/web", "./bin/web"])
@pytest.mark.parametrize("entrypoint", [None, ["x"]])
def test_a_program_that_the_image_has_is_let_through(program: str, entrypoint: list[str] | None) -> None:
    refuse(container(program, Entrypoint=entrypoint))


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("/nope", "web: command: the image has no program /nope"),
        ("nope", r"web: command: the image has no program nope in \$PATH"),
        ("/bin", "web: command: /bin is a folder"),
        ("/etc/web.conf", "web: command: /etc/web.conf cannot be executed"),
        ("/bin/dangling", "web: command: the image has no program /bin/dangling"),
    ],
)
def test_a_program_that_cannot_be_started_is_refused(program: str, told: str) -> None:
    engine = Engine(bin_web=PROGRAM, etc_web=FILE, bin_dangling="/gone/web")
    engine.files["/etc/web.conf"] = FILE
    with pytest.raises(StepFailed, match=told) as caught:
        refuse(container(program), engine)
    assert (type(caught.value), caught.value.service) == (StepFailed, "web")


def test_links_are_followed_inside_the_image() -> None:
    engine = Engine(opt_web=PROGRAM, bin_web="/opt/web", usr_bin="/opt")
    refuse(container("web"), engine)
    refuse(container("/usr/bin/web"), engine)


@pytest.mark.parametrize(
    "one",
    [
        container("/app/web", mounts=["/app"]),
        container("/app/web", mounts=["/"]),
        container("/srv/web", {"Tmpfs": {"/srv": ""}}),
        container("/proc/self/exe"),
        container("/link/web", mounts=["/volume"]),
        container("nvidia-smi", {"Runtime": "nvidia"}),
        container("web", Env=["PATH=:/nowhere"]),
    ],
)
def test_what_a_mount_a_runtime_or_a_link_may_bring_is_let_through(one: Any) -> None:
    refuse(one, Engine(link="/volume"))


@pytest.mark.parametrize(
    ("user", "groups", "told"),
    [
        ("alice", [], "web: user: the image has no user alice"),
        ("web:alice", [], "web: user: the image has no group alice"),
        ("7:alice", [], "web: user: the image has no group alice"),
        ("", ["44", "docker"], "web: group_add: the image has no group docker"),
        ("web", ["video"], ""),
        ("1000:1000", ["999"], ""),
        ("web:video", [], ""),
        ("", [], ""),
    ],
)
def test_a_user_and_groups_are_those_of_the_image(user: str, groups: list[str], told: str) -> None:
    one = container(host={"GroupAdd": groups}, User=user)
    if not told:
        return refuse(one)
    with pytest.raises(StepFailed, match=told) as caught:
        refuse(one)
    assert type(caught.value) is StepFailed
    mounted = container(host={"GroupAdd": groups}, User=user, mounts=["/etc"])
    return refuse(mounted)


def test_a_file_mounted_at_a_folder_is_refused_and_any_other_trouble_with_looking_is_not() -> None:
    engine = Engine()
    engine.fails = f"could not look for /bin/web: {NOT_A_DIRECTORY}"
    with pytest.raises(StepFailed, match="web: volumes: a folder is mounted at a file, or a file at a folder"):
        refuse(container(), engine)
    engine.fails = "Docker does not answer: mount.nfs: timed out"
    refuse(container(), engine)


# ---- the host --------------------------------------------------------------------------------------------------------


def test_a_device_is_one_that_the_host_has() -> None:
    asked: list[str] = []

    def outside(*words: str) -> str:
        asked.extend(words[4:])
        return "seen\n" + "".join(f"{path}\n" for path in words[4:] if path == "/dev/nope")

    devices = [{"PathOnHost": path} for path in ("/dev/null", "/dev/nope")]
    with pytest.raises(StepFailed, match="web: devices: this host has no /dev/nope"):
        refuse(container(host={"Devices": devices}), outside=outside)
    assert asked == ["/dev/null", "/dev/nope"]
    refuse(container(host={"Devices": devices, "Privileged": True}), outside=outside)
    refuse(container(host={"Devices": devices}), outside=lambda *words: ""), "nobody could look"


def test_more_files_than_a_process_of_the_host_may_open_are_refused() -> None:
    refuse(container(host={"Ulimits": [{"Name": "nofile", "Hard": 1024}, {"Name": "memlock", "Hard": -1}]}))
    with pytest.raises(StepFailed, match="web: ulimits: nofile 10000000000 is above "):
        refuse(container(host={"Ulimits": [{"Name": "nofile", "Hard": 10**10}]}))


def test_an_apparmor_profile_is_one_that_is_loaded() -> None:
    def loaded(*words: str) -> str:
        return "docker-default (enforce)\nmine (complain)\n"

    for profile in ("mine", "docker-default", "unconfined"):
        refuse(container(host={"SecurityOpt": [f"apparmor={profile}"]}), outside=loaded)
    with pytest.raises(StepFailed, match="web: security_opt: the AppArmor profile min is not loaded"):
        refuse(container(host={"SecurityOpt": ["apparmor:min"]}), outside=loaded)
    refuse(container(host={"SecurityOpt": ["apparmor=min"]}))


@pytest.mark.parametrize(
    ("name", "mode", "told"),
    [
        ("net.core.somaxconn", "front", ""),
        ("net/core/somaxconn", "front", ""),
        ("kernel.shmmax", "front", ""),
        ("fs.mqueue.msg_max", "front", ""),
        ("vm.swappiness", "front", "vm.swappiness is of the whole host"),
        ("kernel.panic", "front", "kernel.panic is of the whole host"),
        ("net.core.somaxconn", "host", "cannot be set with network_mode: host"),
    ],
)
def test_only_what_a_container_has_of_its_own_can_be_set_in_it(name: str, mode: str, told: str) -> None:
    one = container(host={"Sysctls": {name: "1"}, "NetworkMode": mode})
    if told:
        with pytest.raises(StepFailed, match=f"web: sysctls: {name}") as caught:
            refuse(one)
        assert told in str(caught.value)
    else:
        refuse(one)
    refuse(container(host={"Sysctls": {name: "1"}, "NetworkMode": mode, "Runtime": "sysbox-runc"}))


@pytest.mark.parametrize(
    ("address", "error", "told"),
    [
        ("10.7.0.9", None, ""),
        ("10.9.0.9", StepFailed, "10.9.0.9 is not in 10.7.0.0/24"),
        ("10.7.0.1", StepFailed, "10.7.0.1 is the gateway of the network"),
        ("10.7.0.7", NotNow, "10.7.0.7 is used by the container theirs"),
        ("10.7.0.8", None, ""),  # the instance whose place it takes
    ],
)
def test_an_address_is_a_free_one_of_its_network(address: str, error: type[StepFailed] | None, told: str) -> None:
    engine = Engine(bin_web=PROGRAM)
    held = {
        "c7": {"Name": "theirs", "IPv4Address": "10.7.0.7/24", "IPv6Address": ""},
        "c8": {"Name": "mvd-shop-web-89abcdef", "IPv4Address": "10.7.0.8/24", "IPv6Address": ""},
    }
    pools = [{"Subnet": "10.7.0.0/24", "Gateway": "10.7.0.1"}]
    engine.networks = {"front": {"IPAM": {"Config": pools}, "Containers": held}}
    one = container(networks={"front": {"IPAMConfig": {"IPv4Address": address}}, "back": {"IPAMConfig": None}})
    if error is None:
        return refuse(one, engine)
    with pytest.raises(error, match=f"web: networks.front.ipv4_address: {told}") as caught:
        refuse(one, engine)
    assert type(caught.value) is error
    return None


def test_an_address_of_no_subnet_is_refused_before_a_container_is_made() -> None:
    engine: Any = Engine()
    engine.networks = {"front": {"IPAM": {"Config": [{"Subnet": "10.7.0.0/24"}]}}}
    refuse_addresses(engine, "web", {"back": {"ipv4_address": "10.9.0.9"}, "front": {"ipv4_address": "10.7.0.9"}})
    told = "web: networks.front.ipv4_address: 10.9.0.9 is not in 10.7.0.0/24"
    with pytest.raises(StepFailed, match=told) as caught:
        refuse_addresses(engine, "web", {"front": {"ipv4_address": "10.9.0.9"}})
    assert caught.value.service == "web"


def test_addresses_of_another_driver_are_not_judged() -> None:
    engine = Engine(bin_web=PROGRAM)
    engine.networks = {"front": {"IPAM": {"Config": [{"Subnet": "the moon"}]}}}
    refuse(container(networks={"front": {"IPAMConfig": {"IPv4Address": "10.7.0.9"}}}), engine)


def test_devices_of_a_driver_that_is_not_known_are_let_through() -> None:
    refuse(container(host={"DeviceRequests": [{"Driver": "other", "Capabilities": [["gpu"]]}]}))
    refuse(container(host={"DeviceRequests": []}))


def test_a_device_that_the_host_lacks_is_refused_before_a_first_version_is_started(tmp_path: Path) -> None:
    edge: Any = Engine()
    possible = Possible(edge, lambda *words: "", tmp_path)
    with pytest.raises(Lacking, match="web: gpus: Docker has no driver for GPUs on this host"):
        possible.refuse_devices("web", [{"Driver": "nvidia", "Count": 1, "Capabilities": [["gpu"]]}])
    possible.refuse_devices("web", [])
