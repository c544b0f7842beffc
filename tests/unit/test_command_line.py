"""Every Compose key, and the words of `docker run` that honour it."""

import csv
import io
import re

import pytest

from gitops_mvd.core.model import File, Service
from gitops_mvd.docker.command_line import FLAGS, equivalent
from gitops_mvd.docker.create import Place

IMAGE = "registry.example/demo/web@sha256:" + "0" * 64

# fmt: off
TABLE = [
    ({"user": "1000:1000"}, ["--user=1000:1000"]),
    ({"working_dir": "/srv"}, ["--workdir=/srv"]),
    ({"hostname": "h", "domainname": "example.org"}, ["--domainname=example.org", "--hostname=h"]),
    ({"mac_address": "92:d0:c6:0a:29:33"}, ["--mac-address=92:d0:c6:0a:29:33"]),
    ({"ipc": "host"}, ["--ipc=host"]),
    ({"pid": "host"}, ["--pid=host"]),
    ({"uts": "host"}, ["--uts=host"]),
    ({"userns_mode": "host"}, ["--userns=host"]),
    ({"cgroup": "private"}, ["--cgroupns=private"]),
    ({"cgroup_parent": "jobs"}, ["--cgroup-parent=jobs"]),
    ({"runtime": "nvidia"}, ["--runtime=nvidia"]),
    ({"platform": "linux/amd64"}, ["--platform=linux/amd64"]),
    ({"stop_signal": "SIGUSR1"}, ["--stop-signal=SIGUSR1"]),
    ({"network_mode": "host"}, ["--network=host"]),
    ({"cpuset": "0-3"}, ["--cpuset-cpus=0-3"]),
    ({"restart": "on-failure:3"}, []),
    ({"privileged": True}, ["--privileged"]),
    ({"privileged": False}, []),
    ({"read_only": True}, ["--read-only"]),
    ({"tty": True, "stdin_open": True}, ["--interactive", "--tty"]),
    ({"oom_kill_disable": True}, ["--oom-kill-disable"]),
    ({"mem_limit": 536870912}, ["--memory=536870912"]),
    ({"memswap_limit": -1}, ["--memory-swap=-1"]),
    ({"mem_reservation": 1048576}, ["--memory-reservation=1048576"]),
    ({"mem_swappiness": 0}, ["--memory-swappiness=0"]),
    ({"shm_size": 67108864}, ["--shm-size=67108864"]),
    ({"cpu_shares": 512}, ["--cpu-shares=512"]),
    ({"cpu_quota": 50000, "cpu_period": 100000}, ["--cpu-period=100000", "--cpu-quota=50000"]),
    ({"cpu_rt_runtime": 9500, "cpu_rt_period": 10000}, ["--cpu-rt-period=10000", "--cpu-rt-runtime=9500"]),
    ({"pids_limit": 100}, ["--pids-limit=100"]),
    ({"oom_score_adj": -500}, ["--oom-score-adj=-500"]),
    ({"cpus": 0.5}, ["--cpus=0.5"]),
    ({"cpus": 2.0}, ["--cpus=2"]),
    ({"cpus": 0.00001}, ["--cpus=0.00001"]),
    ({"cap_add": ["NET_ADMIN"], "cap_drop": ["ALL"]}, ["--cap-add=NET_ADMIN", "--cap-drop=ALL"]),
    ({"security_opt": ["no-new-privileges"]}, ["--security-opt=no-new-privileges"]),
    ({"group_add": ["video", "44"]}, ["--group-add=video", "--group-add=44"]),
    ({"dns": ["9.9.9.9"], "dns_search": ["a.b"], "dns_opt": ["use-vc"]},
     ["--dns=9.9.9.9", "--dns-option=use-vc", "--dns-search=a.b"]),
    ({"device_cgroup_rules": ["c 1:3 mr"]}, ["--device-cgroup-rule=c 1:3 mr"]),
    ({"expose": ["80/tcp"]}, ["--expose=80/tcp"]),
    ({"extra_hosts": ["a:1.2.3.4", "b:::1"]}, ["--add-host=a:1.2.3.4", "--add-host=b:::1"]),
    ({"devices": ["/dev/snd:/dev/snd:rwm"]}, ["--device=/dev/snd:/dev/snd:rwm"]),
    ({"tmpfs": ["/run:size=64m"]}, ["--tmpfs=/run:size=64m"]),
    ({"labels": {"b": "x=y", "a": ""}}, ["--label=a=", "--label=b=x=y"]),
    ({"annotations": {"a": "b"}}, ["--annotation=a=b"]),
    ({"sysctls": {"net.core.somaxconn": "1024"}}, ["--sysctl=net.core.somaxconn=1024"]),
    ({"storage_opt": {"size": "1G"}}, ["--storage-opt=size=1G"]),
    ({"ulimits": {"nofile": {"soft": 1024, "hard": 2048}, "core": {"soft": 0, "hard": -1}}},
     ["--ulimit=core=0:-1", "--ulimit=nofile=1024:2048"]),
    ({"ports": [{"target": 53, "published": "", "host_ip": "", "protocol": "udp"}]}, ["--publish=53/udp"]),
    ({"ports": [{"target": 53, "published": "", "host_ip": "127.0.0.1", "protocol": "tcp"}]},
     ["--publish=127.0.0.1::53/tcp"]),
    ({"ports": [{"target": 53, "published": "5300-5310", "host_ip": "::1", "protocol": "tcp"}]},
     ["--publish=[::1]:5300-5310:53/tcp"]),
    ({"ports": [{"target": 80, "published": "8080", "host_ip": "", "protocol": "tcp"}]}, ["--publish=8080:80/tcp"]),
    ({"volumes": [{"type": "bind", "source": "/a", "target": "/b", "read_only": True,
                   "bind": {"propagation": "rslave"}}]},
     ["--volume=/a:/b:ro,rslave"]),
    ({"volumes": [{"type": "bind", "source": '/a:,"b', "target": "/b", "read_only": False}]},
     ['--mount=type=bind,"source=/a:,""b",target=/b']),
    ({"volumes": [{"type": "bind", "source": "/a", "target": "/b", "read_only": False,
                   "bind": {"create_host_path": False}}]},
     ["--mount=type=bind,source=/a,target=/b"]),
    ({"volumes": [{"type": "bind", "source": "./data/db", "target": "/b", "read_only": False}]},
     ["--volume=/srv/mvd/shop/data/db:/b:rw"]),
    ({"volumes": [{"type": "volume", "source": "app_data", "target": "/d", "read_only": False,
                   "bind": {"selinux": "Z"}, "volume": {"nocopy": True}}]},
     ["--volume=app_data:/d:rw,Z,nocopy"]),
    ({"network_mode": "container:mvd-shop-vpn-01234567"}, ["--network=container:mvd-shop-vpn-01234567"]),
    ({"volumes": [{"type": "bind", "source": "/a", "target": "/b", "read_only": True, "bind": {"selinux": "Z"}}]},
     ["--volume=/a:/b:ro,Z"]),
    ({"volumes": [{"type": "volume", "source": "app_data", "target": "/d", "read_only": False,
                   "volume": {"nocopy": True, "subpath": "x"}}]},
     ["--mount=type=volume,source=app_data,target=/d,volume-nocopy=true,volume-subpath=x"]),
    ({"volumes": [{"type": "volume", "source": "", "target": "/d", "read_only": False}]},
     ["--mount=type=volume,target=/d"]),
    ({"volumes": [{"type": "tmpfs", "source": "", "target": "/t", "tmpfs": {"size": 1024, "mode": 0o1777}}]},
     ["--mount=type=tmpfs,target=/t,tmpfs-mode=1777,tmpfs-size=1024"]),
    ({"healthcheck": {"test": ["CMD", "curl", "-f", "a b"], "interval": 1.5, "timeout": 3.0, "retries": 3}},
     ["--health-cmd=curl -f 'a b'", "--health-interval=1.5s", "--health-timeout=3s", "--health-retries=3"]),
    ({"healthcheck": {"test": ["CMD-SHELL", "a || b"], "start_period": 60.0, "start_interval": 0.001}},
     ["--health-cmd=a || b", "--health-start-period=60s", "--health-start-interval=0.001s"]),
    ({"healthcheck": {"test": ["NONE"]}}, ["--no-healthcheck"]),
    ({"healthcheck": {"disable": True}}, ["--no-healthcheck"]),
    ({"blkio_config": {"weight": 300, "weight_device": [{"path": "/dev/sda", "weight": 400}],
                       "device_read_bps": [{"path": "/dev/sdb", "rate": 12582912}],
                       "device_write_iops": [{"path": "/dev/sdb", "rate": 30}]}},
     ["--blkio-weight=300", "--blkio-weight-device=/dev/sda:400", "--device-read-bps=/dev/sdb:12582912",
      "--device-write-iops=/dev/sdb:30"]),
    ({"gpus": [{"capabilities": ["gpu"]}]}, ["--gpus=count=all"]),
    ({"gpus": [{"driver": "nvidia", "count": 2, "capabilities": ["gpu", "compute", "utility"]}]},
     ['--gpus=count=2,driver=nvidia,"capabilities=compute,utility"']),
    ({"gpus": [{"device_ids": ["0", "3"], "options": {"virtualization": "false"}}]},
     ['--gpus="device=0,3",options=virtualization=false']),
    ({"gpus": [{"driver": "cdi", "device_ids": ["acme.example/npu=0"], "capabilities": ["gpu"]}]},
     ["--device=acme.example/npu=0"]),
]
# fmt: on

# `docker create --help` of 20.10.24
KNOWN_20_10 = set(
    re.findall(
        r"\S+",
        """add-host attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile
cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems device device-cgroup-rule
device-read-bps device-read-iops device-write-bps device-write-iops dns dns-option dns-search domainname entrypoint env
env-file expose gpus group-add health-cmd health-interval health-retries health-start-period health-timeout hostname
init interactive ip ip6 ipc isolation kernel-memory label label-file link link-local-ip log-driver log-opt mac-address
memory memory-reservation memory-swap memory-swappiness mount name network network-alias no-healthcheck
oom-kill-disable oom-score-adj pid pids-limit platform privileged publish publish-all pull read-only restart rm runtime
security-opt shm-size stop-signal stop-timeout storage-opt sysctl tmpfs tty ulimit user userns uts volume
volume-driver volumes-from workdir""",
    )
)


def made(service, **where):
    return equivalent(
        "shop", service, "mvd-shop-web-01234567", Place(**{"files": "/f", "folders": "/srv/mvd", **where})
    )


def options_of(run):
    [[run_, *words]] = made(Service("web", IMAGE, run))
    [[_, *bare]] = made(Service("web", IMAGE))
    assert run_ == "run"
    usual = {word for word in bare if not word.startswith("--label=io.gitops-mvd.digest=")}
    return [word for word in words[: words.index(IMAGE)] if word not in usual and "io.gitops-mvd." not in word]


@pytest.mark.parametrize(("run", "flags"), TABLE, ids=lambda case: " ".join(case) if isinstance(case, dict) else "")
def test_every_key_becomes_its_flags(run, flags):
    assert options_of(run) == flags


def test_the_table_has_every_key_but_those_with_a_test_of_their_own():
    tried = {key for run, _ in TABLE for key in run}
    assert tried | {"command", "entrypoint", "init", "logging", "networks", "stop_grace_period"} == FLAGS.keys()


def test_a_client_of_20_10_knows_every_flag_but_those_that_are_documented():
    used = {flag[2:].partition("=")[0] for _, flags in TABLE for flag in flags}
    assert used - KNOWN_20_10 == {"annotation", "health-start-interval"}


def test_the_whole_command_of_a_routed_service():
    service = Service("web", IMAGE, {"command": ["serve", "--all"]}, kong={"port": 7799})
    assert made(service, port=20000, address="127.0.0.1", follows="systemd") == [
        [
            "run",
            "--detach",
            "--name=mvd-shop-web-01234567",
            "--env-file=/f/env",
            "--log-driver=journald",
            "--log-opt=labels=io.gitops-mvd.app,io.gitops-mvd.service,io.gitops-mvd.revision",
            "--log-opt=tag=shop/web",
            "--stop-timeout=10",
            "--publish=127.0.0.1:20000:7799/tcp",
            "--network=mvd-shop-default-44136fa3",
            "--network-alias=web",
            "--label=io.gitops-mvd.app=shop",
            "--label=io.gitops-mvd.service=web",
            f"--label=io.gitops-mvd.digest={service.digest}",
            "--label=io.gitops-mvd.port=20000",
            "--label=io.gitops-mvd.follows=systemd",
            IMAGE,
            "serve",
            "--all",
        ]
    ]


def test_the_first_word_of_an_entrypoint_is_a_flag_and_the_others_stand_before_the_command():
    [[*words]] = made(Service("web", IMAGE, {"entrypoint": ["/init", "-v"], "command": ["run"]}))
    assert "--entrypoint=/init" in words
    assert words[words.index(IMAGE) + 1 :] == ["-v", "run"]


def test_an_empty_entrypoint_takes_the_one_of_the_image_away():
    assert options_of({"entrypoint": []}) == ["--entrypoint="]


def test_an_init_can_be_refused_and_a_grace_period_is_rounded_up():
    assert options_of({"init": True}) == ["--init"]
    assert options_of({"init": False, "stop_grace_period": 1.2}) == ["--init=false", "--stop-timeout=2"]


def test_logs_are_rotated_unless_a_driver_says_otherwise():
    assert options_of({"logging": {"driver": "local", "options": {"max-size": "1m"}}}) == ["--log-opt=max-size=1m"]
    assert options_of({"logging": {"driver": "syslog", "options": {"tag": "x"}}}) == [
        "--log-driver=syslog",
        "--log-opt=tag=x",
    ]


def test_the_first_network_is_created_with_and_the_others_connected_to():
    run = {
        "networks": {
            "mvd-shop-back": {"aliases": ["web"], "ipv4_address": "10.0.0.2", "link_local_ips": ["169.254.8.8"]},
            "mvd-shop-front": {"aliases": ["web", "www"], "priority": 10, "mac_address": "92:d0:c6:0a:29:33"},
        }
    }
    run_, connect = made(Service("web", IMAGE, run))
    assert [word for word in run_ if "network" in word or "mac" in word] == [
        "--network=mvd-shop-front",
        "--network-alias=web",
        "--network-alias=www",
        "--mac-address=92:d0:c6:0a:29:33",
        "--label=io.gitops-mvd.networks=mvd-shop-front,mvd-shop-back",
    ]
    assert connect == [
        "network",
        "connect",
        "--alias=web",
        "--ip=10.0.0.2",
        "--link-local-ip=169.254.8.8",
        "mvd-shop-back",
        "mvd-shop-web-01234567",
    ]


def test_what_only_a_driver_knows_is_handed_to_it_on_every_network():
    run = {"networks": {"a": {"driver_opts": {"x": "1,2"}, "gw_priority": 1}, "b": {"driver_opts": {"y": "3"}}}}
    run_, connect = made(Service("web", IMAGE, run))
    networks = [word for word in run_ if word.startswith("--network")]
    assert networks == ['--network=name=a,"driver-opt=x=1,2",gw-priority=1']
    assert connect[2:-2] == ["--driver-opt=y=3"]


def test_files_are_mounted_read_only_one_by_one_or_as_folders():
    one, many = File("/etc/app.conf", {"": "x"}), File("/etc/app, d", {"a": "x", "b/c": "y"})
    [[*words]] = made(Service("web", IMAGE, files=(one, many)), files="/etc/files")
    assert [word for word in words if word.startswith("--mount")] == [
        "--mount=type=bind,source=/etc/files/files/0/file,target=/etc/app.conf,readonly",
        '--mount=type=bind,source=/etc/files/files/1,"target=/etc/app, d",readonly',
    ]


def test_labels_of_the_user_can_not_take_the_place_of_ours():
    [[*words]] = made(Service("web", IMAGE, {"labels": {"io.gitops-mvd.app": "bank"}}))
    labels = [word.removeprefix("--label=").partition("=") for word in words if word.startswith("--label=")]
    assert {key: value for key, _, value in labels}["io.gitops-mvd.app"] == "shop"


def test_a_key_that_no_flag_honours_is_refused():
    with pytest.raises(KeyError, match="build"):
        made(Service("web", IMAGE, {"build": "."}))


def test_the_order_of_keys_changes_nothing_as_it_does_not_change_the_digest():
    run = {"networks": {"b": {}, "a": {}}, "labels": {"y": "1", "x": "2"}, "user": "root"}
    back = {"user": "root", "labels": {"x": "2", "y": "1"}, "networks": {"a": {}, "b": {}}}
    assert made(Service("web", IMAGE, run)) == made(Service("web", IMAGE, back))


@pytest.mark.parametrize("path", ["plain", "a,b", 'a"b', '"', ",", "a\nb", " a ", "ü", "a=b"])
def test_a_mount_takes_any_path(path):
    options = {"create_host_path": False}
    [mount] = options_of({"volumes": [{"type": "bind", "source": path, "target": "/t", "bind": options}]})
    [fields] = csv.reader(io.StringIO(mount.removeprefix("--mount="), newline=""))
    assert fields == ["type=bind", f"source={path}", "target=/t"]
