"""The files of the host that a manifest refers to."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.secrets.store import Secrets


def write(folder: Path, name: str, content: bytes, mode: int = 0o600) -> Path:
    path = folder / name
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_secret_is_the_text_of_its_file_without_the_end_of_the_line(tmp_path: Path) -> None:
    write(tmp_path, "token", b"s3cret\n")
    write(tmp_path, "pem", b"-----BEGIN\nx\n-----END\r\n")
    assert Secrets(tmp_path).read("token") == "s3cret"
    assert Secrets(tmp_path).read("pem") == "-----BEGIN\nx\n-----END"


@pytest.mark.parametrize(
    ("content", "mode", "sentence"),
    [
        (b"s3cret", 0o644, "can be read by others than its owner"),
        (b"\n", 0o600, "is empty"),
        (b"x" * ((1 << 20) + 1), 0o600, "is not a file, or larger than 1 MiB"),
    ],
)
def test_what_is_no_good_secret_is_named_and_tried_again(
    tmp_path: Path, content: bytes, mode: int, sentence: str
) -> None:
    secrets = Secrets(tmp_path)
    write(tmp_path, "token", content, mode)
    for _ in range(2):
        with pytest.raises(StepFailed, match=f"{tmp_path}/token {sentence}") as refused:
            secrets.require(["token"])
        assert "s3cret" not in str(refused.value)
    write(tmp_path, "token", b"good")
    secrets.refresh()
    assert secrets.read("token") == "good"


def test_what_is_no_text_is_no_value(tmp_path: Path) -> None:
    write(tmp_path, "token", b"\xff\xfes3cret")
    with pytest.raises(StepFailed, match="the secret token is not UTF-8 text") as refused:
        Secrets(tmp_path).read("token")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("name", ["../token", "a/b", ".hidden"])
def test_a_path_is_no_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(StepFailed, match="not a name of a secret"):
        Secrets(tmp_path).read(name)


def test_a_look_tells_whether_anything_changed(tmp_path: Path) -> None:
    secrets, path = Secrets(tmp_path), write(tmp_path, "token", b"one")
    assert secrets.read("token") == "one"
    versions = [secrets.version]
    for change in (lambda: None, lambda: path.write_bytes(b"other"), lambda: None, path.unlink):
        change()
        secrets.refresh()
        versions.append(secrets.version)
    assert versions == [0, 0, 1, 1, 2] or versions == [0, 0, 1, 1, 1]
    with pytest.raises(StepFailed, match="is missing on this host"):
        secrets.read("token")
    write(tmp_path, "token", b"back")
    secrets.refresh()
    assert secrets.read("token") == "back"
