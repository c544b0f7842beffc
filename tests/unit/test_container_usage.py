"""The usage of containers, from control groups of both versions as the kernel and Docker lay them out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gitops_mvd.metrics import containers
from gitops_mvd.metrics.containers import ContainerUsage, Usage

WEB, DB = "a" * 64, "b" * 64
IDS = {"mvd-shop-web": WEB, "mvd-shop-db": DB}


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    write(tmp_path, cgroup__controllers="cpu memory\n")
    stat = "anon 4096\ninactive_file 1000\nactive_file 500\n"
    write(
        tmp_path / "system.slice" / f"docker-{WEB}.scope",
        cpu__stat="usage_usec 2500000\nuser_usec 1\nsystem_usec 2\n",
        memory__stat=stat,
        memory__current="9000\n",
        memory__max="100000\n",
    )
    write(
        tmp_path / "mvd.slice" / "own.slice" / DB,  # by the driver cgroupfs, below a cgroup_parent
        cpu__stat="usage_usec 10\n",
        memory__stat=stat,
        memory__current="900\n",
        memory__max="max\n",
    )
    return tmp_path


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    group = Path("docker") / ("c" * 64) / "docker" / WEB  # an engine in a container of another one
    write(tmp_path / "cpuacct" / group, cpuacct__usage="1500000000\n")
    write(
        tmp_path / "memory" / group,
        memory__stat="cache 1\ninactive_file 7\ntotal_inactive_file 1000\n",
        memory__usage_in_bytes="9000\n",
        memory__limit_in_bytes="9223372036854771712\n",
    )
    return tmp_path


def test_version_2_is_read_wherever_the_group_is(v2: Path) -> None:
    found = ContainerUsage(v2)(IDS)
    assert found == {"mvd-shop-web": Usage(2.5, 8000, 100000), "mvd-shop-db": Usage(1e-05, 0)}


def test_version_1_is_read_and_its_largest_number_is_no_limit(v1: Path) -> None:
    assert ContainerUsage(v1)(IDS) == {"mvd-shop-web": Usage(1.5, 8000)}


def test_a_container_that_is_gone_has_no_usage_and_has_it_again_once_it_is_started(v2: Path) -> None:
    usage = ContainerUsage(v2)
    assert usage(IDS).keys() == IDS.keys()
    group = v2 / "system.slice" / f"docker-{WEB}.scope"
    shutil.copytree(group, v2 / "kept")
    shutil.rmtree(group)
    assert usage(IDS).keys() == {"mvd-shop-db"}
    shutil.copytree(v2 / "kept", group)
    assert usage(IDS).keys() == IDS.keys()


def test_a_new_container_is_found_and_others_of_the_host_are_nobodys_business(v2: Path) -> None:
    now = [0.0]
    usage = ContainerUsage(v2, lambda: now[0])
    assert usage({"mvd-shop-web": WEB}).keys() == {"mvd-shop-web"}
    now[0] += containers.SEARCH_EVERY_SECONDS
    assert usage(IDS).keys() == IDS.keys()


def test_a_container_that_is_nowhere_is_not_searched_for_at_each_scrape(v2: Path) -> None:
    now = [0.0]
    usage = ContainerUsage(v2, lambda: now[0])
    late = {"late": "d" * 64}
    assert usage(late) == {}
    shutil.copytree(v2 / "system.slice" / f"docker-{WEB}.scope", v2 / ("d" * 64))
    assert usage(late) == {}
    now[0] += containers.SEARCH_EVERY_SECONDS
    assert usage(late).keys() == {"late"}


def test_what_takes_too_long_is_left_out(v2: Path) -> None:
    passed = iter(range(100))
    slow = ContainerUsage(v2, lambda: next(passed) * containers.LONGEST_SECONDS)
    assert slow(IDS) == {}


@pytest.mark.parametrize(("file", "text"), [("memory.max", "a lot"), ("memory.stat", ""), ("cpu.stat", "usage_usec")])
def test_what_cannot_be_read_is_left_out(v2: Path, file: str, text: str) -> None:
    (v2 / "system.slice" / f"docker-{WEB}.scope" / file).write_text(text)
    assert ContainerUsage(v2)(IDS).keys() == {"mvd-shop-db"}


def test_a_host_without_control_groups_has_no_usage(tmp_path: Path) -> None:
    assert ContainerUsage(tmp_path / "nowhere")(IDS) == {}
