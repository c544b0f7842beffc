"""The Debian package on a server: installed, upgraded, downgraded, broken off, removed, while an app serves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.stories import DAEMON, HEALTH, Story, eventually
from tests.lab import service
from tests.lab.claim import CHECKOUT
from tests.lab.command import Result
from tests.lab.lab import Lab
from tests.lab.stage import SETTINGS

pytestmark = pytest.mark.lab

HOME = "/opt/gitops-mvd"
NEXT = "9.0.0"
PRAGMA = """
import sqlite3, sys
print(*sum(sqlite3.connect(sys.argv[1]).execute(f"PRAGMA user_version {sys.argv[2]}"), ()))
"""
SETTINGS_TEXT = """\
repository: {repository}
host: package
interval: 2s
credentials: {{token_file: /etc/gitops-mvd/token, insecure: true}}
forge: {{kind: github, base_url: "{forge}/api/v3", every_commit: true}}
"""


@pytest.fixture(scope="module")
def package(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lab.builder.build(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def story(lab: Lab, package: Path) -> Iterator[Story]:
    """A server with the package of this checkout, `/this.deb`, and an app; `/next.deb` is that of the next version."""
    server = lab.server("package")
    server.exec("rm", "-rf", f"{HOME}/bin", f"{HOME}/lib", f"{HOME}/pyvenv.cfg")  # of the lab
    server.exec("mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", HOME)
    server.put("/this.deb", package.read_bytes())
    server.exec("dpkg-deb", "--raw-extract", "/this.deb", "/tmp/next")
    server.exec("sed", "-i", f"s/^Version: .*/Version: {NEXT}/", "/tmp/next/DEBIAN/control")
    server.exec("dpkg-deb", "-Znone", "--build", "/tmp/next", "/next.deb")
    repository = lab.forge.create("acme/package")
    repository.commit({"README.md": "A server with the package\n"}, "Begin")
    server.put(SETTINGS, SETTINGS_TEXT.format(repository=repository.clone_url, forge=lab.forge.url))
    server.put("/etc/gitops-mvd/token", f"{lab.forge.token}\n", 0o600)
    server.exec("dpkg", "--install", "/this.deb")
    story = Story(server, repository, gateway="none")
    story.mvd("install")
    image = lab.registry.push("hello", "1", service.web("hello", "1"))
    web = {"image": image, "ports": ["8080:7799"], "volumes": ["data:/data"], "x-mvd": {"health": HEALTH}}
    story.deploy("hello", {"services": {"web": web}, "volumes": {"data": {}}})
    yield story
    server.destroy()


@pytest.fixture
def undisturbed(story: Story) -> Iterator[None]:
    """The app runs in the same process before and after, and serves."""
    before = running(story)
    yield
    assert running(story) == before
    assert story.run("curl", "-sSf", "-m", "5", "http://127.0.0.1:8080/") == "hello 1\n"


def running(story: Story) -> str:
    """The container of the app, its process, and since when it runs."""
    fields = "{{.Id}} {{.State.Pid}} {{.State.StartedAt}}"
    return story.run("docker", "inspect", "--format", fields, *story.containers("hello"))


def daemon(story: Story) -> str:
    """The process of the daemon; "0" if it does not run."""
    return story.run("systemctl", "show", "--property=MainPID", "--value", DAEMON).strip()


def installed(story: Story) -> list[str]:
    """The state and the version of the package."""
    return story.run("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", "gitops-mvd").split()


def test_lintian_finds_no_error(lab: Lab, package: Path) -> None:
    assert lab.builder.errors(package) == []


def test_it_is_the_same_bytes_wherever_it_is_built(lab: Lab, package: Path, tmp_path: Path) -> None:
    assert lab.builder.build(tmp_path, inside="elsewhere").read_bytes() == package.read_bytes()


def test_the_image_of_the_command_checks_a_repository(lab: Lab, tmp_path: Path) -> None:
    image = lab.builder.command()

    def validate(folder: Path) -> Result:
        mount = ("--volume", f"{folder}:/repository:ro")
        return lab.engine.docker("run", "--rm", "--network", "none", *mount, image, check=False)

    assert validate(CHECKOUT / "example-repo").code == 0
    app = tmp_path / "apps/web/compose.yaml"
    app.parent.mkdir(parents=True)
    app.write_text("services:\n  web:\n    image: a:1\n    prots: [80]\n")
    tmp_path.chmod(0o755)
    assert "apps/web/compose.yaml:4: " in validate(tmp_path).out


def test_it_brings_the_command_its_pages_its_completion_and_the_units(story: Story) -> None:
    assert story.mvd("--version").out.startswith("mvd, version ")
    listed = story.run("dpkg", "--listfiles", "gitops-mvd").splitlines()
    assert {f"/usr/share/man/man1/{page}.1.gz" for page in ("mvd", "mvd-plan", "mvd-adopt-volume")} <= {*listed}
    assert "/usr/share/zsh/vendor-completions/_mvd" in listed
    load = ". /usr/share/bash-completion/completions/mvd && complete -p mvd"
    assert "_mvd_completion" in story.run("bash", "-c", load)
    unit, drop_ins = story.run("systemctl", "show", "--property=FragmentPath,DropInPaths", DAEMON).splitlines()
    assert unit.endswith("/lib/systemd/system/gitops-mvd.service")
    assert drop_ins == "DropInPaths="
    assert story.run("getent", "group", "mvd", "mvd-act").count("\n") == 2


def test_an_upgrade_and_a_downgrade_restart_the_daemon_and_nothing_else(story: Story, undisturbed: None) -> None:
    [_, version] = installed(story)
    for file, becomes in (("/next.deb", NEXT), ("/this.deb", version)):
        before = daemon(story)
        story.run("dpkg", "--install", file)
        assert installed(story) == ["installed", becomes]
        assert daemon(story) not in (before, "0")
        story.look_again()
        assert story.mvd("plan").code == 0


def test_a_daemon_that_does_not_run_is_not_started_by_an_upgrade(story: Story, undisturbed: None) -> None:
    with story.without_daemon():
        story.run("dpkg", "--install", "/this.deb")
        assert daemon(story) == "0"


def test_an_upgrade_that_is_killed_half_way_is_done_again(story: Story, undisturbed: None) -> None:
    before = daemon(story)
    half_way = f"""
dpkg --install /next.deb & pid=$!
until find {HOME} -name '*.dpkg-new' | grep -q .; do kill -0 $pid || exit 1; done
kill -KILL $pid
"""
    story.run("bash", "-c", half_way)
    assert installed(story)[0] == "half-installed"
    assert daemon(story) == before
    story.run("dpkg", "--install", "/next.deb")
    assert installed(story) == ["installed", NEXT]
    assert daemon(story) not in (before, "0")
    story.look_again()


def test_an_upgrade_without_room_leaves_the_version_that_runs(story: Story, undisturbed: None) -> None:
    before, version = daemon(story), installed(story)
    story.server.exec("dd", "if=/dev/zero", f"of={HOME}/filler", "bs=1M", check=False)
    failed = story.server.exec("dpkg", "--install", "/this.deb", check=False)
    assert "No space left on device" in failed.err
    assert installed(story) == version
    assert daemon(story) == before
    assert story.mvd("status").code == 0
    story.run("rm", f"{HOME}/filler")
    story.run("dpkg", "--install", "/this.deb")
    story.look_again()


def test_a_state_of_a_newer_version_is_told_in_one_sentence(story: Story, undisturbed: None) -> None:
    file, log = "/var/lib/gitops-mvd/history.db", story.log()
    with story.without_daemon():
        [version] = story.run("python3", "-c", PRAGMA, file, "").split()
        story.run("python3", "-c", PRAGMA, file, "= 99")
    said = f"cannot use the history {file}: a newer gitops-mvd wrote it (format 99"
    eventually("the sentence", lambda: said in story.log().removeprefix(log))
    assert "Traceback" not in story.log().removeprefix(log)
    assert said in story.mvd("status").err
    with story.without_daemon():
        story.run("python3", "-c", PRAGMA, file, f"= {version}")
    story.look_again()


def test_a_package_that_is_removed_leaves_the_apps_and_takes_them_up_again(story: Story, undisturbed: None) -> None:
    story.run("dpkg", "--remove", "gitops-mvd")
    assert daemon(story) == "0"
    assert story.server.exec("ls", f"{HOME}/lib", "/usr/bin/mvd", check=False).out == ""
    story.run("dpkg", "--install", "/this.deb")
    assert daemon(story) == "0"
    story.mvd("install")
    story.look_again()
    assert story.mvd("plan").code == 0


def test_a_package_that_is_purged_forgets_all_but_what_the_apps_run_with(story: Story, undisturbed: None) -> None:
    said = story.server.exec("dpkg", "--purge", "gitops-mvd")
    assert "/etc/gitops-mvd stays, as apps of this server run with its files" in said.err
    assert story.server.exec("ls", "/var/lib/gitops-mvd", check=False).code != 0
    assert story.run("ls", SETTINGS)
