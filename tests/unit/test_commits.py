"""Which commit an instance is of."""

from pathlib import Path

from gitops_mvd.core.model import App, Service
from gitops_mvd.state.commits import Commits
from gitops_mvd.state.history import SqliteHistory

OLD = App("shop", (Service("web", "web@sha256:1"),))
NEW = App("shop", (Service("web", "web@sha256:2"),))
[OLD_WEB], [NEW_WEB] = OLD.services[0].instances("shop"), NEW.services[0].instances("shop")


def test_a_new_instance_is_of_the_commit_that_is_followed(tmp_path: Path) -> None:
    commits = Commits(SqliteHistory(tmp_path / "history.db"))
    assert commits.of("shop", NEW_WEB) == ""
    commits.followed = "c1"
    assert commits.of("shop", NEW_WEB) == "c1"


def test_an_instance_that_is_made_again_is_of_the_commit_with_which_its_version_came(tmp_path: Path) -> None:
    history = SqliteHistory(tmp_path / "history.db")
    commits = Commits(history)
    history.approve(OLD, "c1")
    commits.followed = "c2"
    assert (commits.of("shop", OLD_WEB), commits.of("shop", NEW_WEB)) == ("c1", "c2")


def test_an_instance_that_comes_back_by_a_revert_is_of_the_revert(tmp_path: Path) -> None:
    history = SqliteHistory(tmp_path / "history.db")
    commits = Commits(history)
    history.approve(OLD, "c1")
    history.approve(NEW, "c2")
    commits.followed = "c3"
    assert commits.of("shop", OLD_WEB) == "c3"
    history.approve(OLD, "c3")
    commits.followed = "c4"
    assert commits.of("shop", OLD_WEB) == "c3"
