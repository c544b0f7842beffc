"""What is left of a journal once the Docker client's own chatter is out of it."""

from __future__ import annotations

from gitops_mvd.systemd.programs import plain

NAME = "mvd-chat-web-3f9c2a1b"
DRIVER = f"driver failed programming external connectivity on endpoint {NAME} ({'9' * 64})"


def test_a_start_that_failed_again_and_again_is_told_once_by_its_cause() -> None:
    attempt = [
        "a" * 64,
        'time="2026-11-22T04:33:53Z" level=error msg="error waiting for container: context canceled"',
        f"Error response from daemon: {DRIVER}: Bind for 0.0.0.0:9999 failed: port is already allocated",
        NAME,
        f"Error: No such container: {NAME}",
        f"Error response from daemon: No such container: {'a' * 64}",
    ]
    assert plain(attempt * 3, NAME) == ["Bind for 0.0.0.0:9999 failed: port is already allocated"]


def test_a_program_that_the_engine_does_not_find_is_told_without_the_way_to_it() -> None:
    cause = 'exec: "no-such-program": executable file not found in $PATH: unknown'
    for way in (
        "OCI runtime create failed: container_linux.go:380: starting container process caused: ",
        "failed to create task for container: failed to create shim task: OCI runtime create failed: "
        "runc create failed: unable to start container process: ",
    ):
        printed = [f"Error response from daemon: {way}{cause}", f"Error: failed to start containers: {NAME}"]
        assert plain(printed, NAME) == [cause]


def test_a_client_that_follows_a_container_anew_says_nothing() -> None:
    adopted = [
        f"Error response from daemon: You cannot remove a running container {'a' * 64}. "
        "Stop the container before attempting removal or force remove",
        f'Error response from daemon: cannot remove container "{NAME}": container is running: '
        "stop the container before removing or force remove",
        f'Error response from daemon: Conflict. The container name "/{NAME}" is already in use by container '
        f'"{"a" * 64}". You have to remove (or rename) that container to be able to reuse that name.',
    ]
    assert plain(adopted, NAME) == []


def test_what_the_container_printed_stays_as_it_is() -> None:
    said = ["listening", "GET /", "GET /health", "GET /", "no such host: mvd-chat-web"]
    assert plain(said, NAME) == said
