"""What is GitHub's own: deployments, and the login of an App; and all of it held against GitHub's own description."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest
from hypothesis import example, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from gitops_mvd import forges
from gitops_mvd.config.settings import Settings, read
from gitops_mvd.core import ports
from gitops_mvd.core.errors import MvdError, RateLimited, StepFailed, Unavailable
from gitops_mvd.core.model import CommitStatus, Health, Operation
from gitops_mvd.daemon.connections import connect_forge, repository_account
from gitops_mvd.forges.api import Account
from gitops_mvd.forges.api.github_app import GitHubApp
from gitops_mvd.git.branch import Source
from tests.contract.github_description import FIXTURE, PARTS, complaints, described, distil, operation_of
from tests.lab.app import App, new_key
from tests.lab.forge import Asked, Forge, Repository

TOKEN = "t0ken-of-the-lab"
KEY, PUBLIC = new_key()
OTHER_KEY, OTHER_PUBLIC = new_key()


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    with Forge(tmp_path / "forge", token=TOKEN) as running:
        yield running
        for part in PARTS:
            assert complaints(running.asked, part) == []


@pytest.fixture
def repository(forge: Forge) -> Repository:
    return forge.create("acme/config")


@pytest.fixture
def commits(repository: Repository) -> list[str]:
    return [repository.commit({"fleet.yaml": f"# {number}\n"}, f"Version {number}") for number in range(3)]


@pytest.fixture
def app(forge: Forge, repository: Repository) -> App:
    forge.app = App(4711, [PUBLIC])
    forge.app.install("acme/config", "acme/other")
    return forge.app


def client(forge: Forge) -> ports.Forge:
    return forges.connect("github", Account("acme/config", lambda: TOKEN, f"{forge.url}/api/v3"))


def login(forge: Forge, key: str = KEY, id: str = "4711", name: str = "acme/config", ahead: float = 0) -> GitHubApp:
    return GitHubApp(id, key, name, f"{forge.url}/api/v3", lambda: time.time() + ahead)


def client_of(forge: Forge, token: GitHubApp) -> ports.Forge:
    return forges.connect("github", Account("acme/config", token, f"{forge.url}/api/v3", renew=token.renew))


def status(operation: Operation = Operation.SUCCEEDED, context: str = "mvd/srv1", **more: str) -> CommitStatus:
    return CommitStatus(context, operation, Health.HEALTHY, **{"description": "well", "environment": "prod", **more})


def shown(repository: Repository) -> list[str]:
    return [deployment.state for deployment in repository.deployments]


def costs(forge: Forge) -> list[str]:
    return [f"{asked.method} {asked.path.partition('/deployments')[2].partition('?')[0]}" for asked in forge.asked]


# ---- deployments -----------------------------------------------------------------------------------------------------


def test_an_environment_makes_a_deployment_and_no_commit_status(
    forge: Forge, repository: Repository, commits: list[str]
) -> None:
    told = client(forge)
    told.publish(commits[0], status(Operation.RUNNING, description="0 of 3"))
    told.publish(commits[0], status(url="https://mvd.example.invalid/1"))
    [made] = repository.deployments
    assert (made.commit, made.environment, made.task) == (commits[0], "prod", "deploy:mvd/srv1")
    assert made.payload == {"context": "mvd/srv1"}
    assert [(s.state, s.description, s.target_url) for s in made.statuses] == [
        ("in_progress", "0 of 3", ""),
        ("success", "well", "https://mvd.example.invalid/1"),
    ]
    assert repository.statuses(commits[0]) == []


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("health", Health)
def test_only_what_succeeded_and_is_healthy_shows_success(
    forge: Forge, repository: Repository, commits: list[str], operation: Operation, health: Health
) -> None:
    told = client(forge)
    told.publish(commits[0], status(Operation.RUNNING))
    told.publish(commits[0], dataclasses.replace(status(operation), health=health))
    green = (operation, health) == (Operation.SUCCEEDED, Health.HEALTHY)
    assert (shown(repository) == ["success"]) == green


def test_a_status_costs_one_request_once_its_deployment_is_known(
    forge: Forge, repository: Repository, commits: list[str]
) -> None:
    told = client(forge)
    told.publish(commits[0], status(Operation.RUNNING))
    told.publish(commits[0], status())
    forge.asked.clear()
    for operation in (Operation.RUNNING, Operation.SUCCEEDED, Operation.FAILED, Operation.SUCCEEDED):
        told.publish(commits[0], status(operation))
    assert costs(forge) == [f"POST /{repository.deployments[0].id}/statuses"] * 4


def test_what_was_deployed_before_is_inactive_once_its_successor_has_succeeded_and_not_before(
    forge: Forge, repository: Repository, commits: list[str]
) -> None:
    told = client(forge)
    told.publish(commits[0], status())
    told.publish(commits[1], status(Operation.RUNNING))
    assert shown(repository) == ["success", "in_progress"]
    told.publish(commits[1], status())
    assert shown(repository) == ["inactive", "success"]
    told.publish(commits[2], status())
    assert shown(repository) == ["inactive", "inactive", "success"]


def test_after_a_rollback_what_was_deployed_before_is_still_the_active_one(
    forge: Forge, repository: Repository, commits: list[str]
) -> None:
    told = client(forge)
    told.publish(commits[0], status())
    told.publish(commits[1], status(Operation.RUNNING))
    told.publish(commits[1], status(Operation.ROLLED_BACK))
    assert shown(repository) == ["success", "failure"]
    told.publish(commits[1], status())
    assert shown(repository) == ["inactive", "success"]


def test_each_host_of_an_environment_and_each_environment_of_a_host_has_its_own(
    forge: Forge, repository: Repository, commits: list[str]
) -> None:
    told = client(forge)
    for commit in commits[:2]:
        told.publish(commit, status())
        told.publish(commit, status(context="mvd/srv2"))
        told.publish(commit, status(environment="staging"))
    assert shown(repository) == ["inactive"] * 3 + ["success"] * 3


def test_after_a_restart_the_deployments_are_found_again(
    forge: Forge, repository: Repository, commits: list[str]
) -> None:
    client(forge).publish(commits[0], status())
    client(forge).publish(commits[1], status(Operation.RUNNING))
    client(forge).publish(commits[1], status(Operation.FAILED))
    client(forge).publish(commits[1], status())
    client(forge).publish(commits[1], status())
    assert shown(repository) == ["inactive", "success"]


def test_the_active_one_is_found_behind_more_than_a_page_of_failures(
    forge: Forge, repository: Repository, commits: list[str]
) -> None:
    told = client(forge)
    told.publish(commits[0], status())
    [first] = repository.deployments
    told.publish(commits[1], status(Operation.FAILED))
    failed = repository.deployments[1]
    for number in range(230):
        copy = dataclasses.replace(failed, id=failed.id + 1 + number, statuses=list(failed.statuses))
        repository.deployments.append(dataclasses.replace(copy, commit="0" * 40))
    client(forge).publish(commits[1], status(Operation.SUCCEEDED))
    assert (first.state, failed.state) == ("inactive", "success")


def test_what_recovers_after_a_restart_does_not_look_through_years(
    forge: Forge, repository: Repository, commits: list[str]
) -> None:
    told = client(forge)
    for commit in commits:
        told.publish(commit, status())
    told.publish(commits[-1], status(Operation.FAILED))
    forge.asked.clear()
    client(forge).publish(commits[-1], status())
    replaced, newest = (repository.deployments[number].id for number in (-2, -1))
    assert costs(forge) == ["GET ", f"POST /{newest}/statuses", "GET ", f"GET /{replaced}/statuses"]
    assert shown(repository) == ["inactive", "inactive", "success"]


def test_a_commit_that_comes_back_is_deployed_anew(forge: Forge, repository: Repository, commits: list[str]) -> None:
    for renewed in (False, True):
        told = client(forge)
        repository.deployments.clear()
        for commit in (commits[0], commits[1], commits[0]):
            told = client(forge) if renewed else told
            told.publish(commit, status(Operation.RUNNING))
            told.publish(commit, status())
        assert [made.commit for made in repository.deployments] == [commits[0], commits[1], commits[0]]
        assert shown(repository) == ["inactive", "inactive", "success"]


def test_a_success_that_is_told_late_does_not_take_the_place_of_the_newer_one(
    forge: Forge, repository: Repository, commits: list[str]
) -> None:
    for renewed in (False, True):
        repository.deployments.clear()
        told = client(forge)
        told.publish(commits[0], status(Operation.RUNNING))
        told.publish(commits[1], status())
        (client(forge) if renewed else told).publish(commits[0], status())
        assert shown(repository) == ["inactive", "success"]


def test_what_is_overtaken_is_inactive_and_what_was_never_begun_is_no_deployment(
    forge: Forge, repository: Repository, commits: list[str]
) -> None:
    told = client(forge)
    told.publish(commits[0], status(Operation.RUNNING))
    told.publish(commits[0], status(Operation.SUPERSEDED))
    told.publish(commits[1], status(Operation.SUPERSEDED))
    assert shown(repository) == ["inactive"]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("after", range(7))
def test_wherever_the_forge_fails_the_next_try_leads_to_the_same_end(
    forge: Forge, repository: Repository, commits: list[str], after: int, late: bool
) -> None:
    client(forge).publish(commits[0], status())
    told = client(forge)
    forge.fail_next(1, after=after, late=late)
    failures = 0
    for operation in (Operation.RUNNING, Operation.SUCCEEDED):
        try:
            told.publish(commits[1], status(operation))
        except Unavailable:
            failures += 1
            told.publish(commits[1], status(operation))
    assert failures == 1
    assert [made.commit for made in repository.deployments] == commits[:2]
    assert shown(repository) == ["inactive", "success"]


def test_a_deployment_that_was_made_though_the_answer_got_lost_is_not_made_twice(
    forge: Forge, repository: Repository, commits: list[str]
) -> None:
    told = client(forge)
    forge.fail_next(1, after=1, late=True)
    with pytest.raises(Unavailable, match="502"):
        told.publish(commits[0], status())
    assert len(repository.deployments) == 1
    told.publish(commits[0], status())
    assert shown(repository) == ["success"]


def test_a_deployment_that_somebody_deleted_is_made_anew(
    forge: Forge, repository: Repository, commits: list[str]
) -> None:
    told = client(forge)
    told.publish(commits[0], status())
    repository.deployments.clear()
    told.publish(commits[0], status())
    assert shown(repository) == ["success"]
    repository.deployments.clear()
    told.publish(commits[1], status())
    assert shown(repository) == ["success"]


def test_names_and_words_of_any_length_are_taken_and_stay_apart(
    forge: Forge, repository: Repository, commits: list[str]
) -> None:
    told = client(forge)
    long = "a-very-long-name-" * 30
    told.publish(commits[0], status(context=f"{long}1", environment=f"{long}1", description="many words " * 30))
    told.publish(commits[0], status(context=f"{long}2", environment=f"{long}1"))
    told.publish(commits[0], status(context=f"{long}1", environment=f"{long}2"))
    assert shown(repository) == ["success"] * 3


def test_a_commit_with_red_checks_or_behind_its_branch_is_deployed_all_the_same(
    forge: Forge, repository: Repository, commits: list[str]
) -> None:
    told = client(forge)
    told.publish(commits[0], status(Operation.FAILED, environment=""))
    told.publish(commits[0], status())
    assert shown(repository) == ["success"]


def test_what_github_will_not_deploy_is_told_in_one_clear_line(forge: Forge, commits: list[str]) -> None:
    with pytest.raises(StepFailed, match="does not know the commit"):
        client(forge).publish("f" * 40, status())
    forge.asked.clear()  # of the latter's like, GitHub makes none that is asked for as we do
    told = client(forge)
    told.publish(commits[0], status())
    forge.fail_next(1, 409)
    with pytest.raises(StepFailed, match="makes no deployment of the commit"):
        told.publish(commits[0], status())


def test_a_repository_that_was_renamed_is_one_clear_error(
    forge: Forge, repository: Repository, commits: list[str], app: App
) -> None:
    told, with_app = client(forge), login(forge)
    forge.rename("acme/config", "acme/settings")
    for each in (status(), status(environment="")):
        with pytest.raises(StepFailed, match=r"acme/config has moved \(put its new name into the settings\)"):
            told.publish(commits[0], each)
    with pytest.raises(StepFailed, match="acme/config has moved"):
        told.pull_requests("main")
    with pytest.raises(Unavailable, match="acme/config has moved"):
        with_app()


def test_a_comment_of_ours_is_found_among_empty_ones_and_with_the_lines_of_windows(
    forge: Forge, repository: Repository
) -> None:
    pull_request = repository.propose({"a": "1"}, "One")
    for text in ("", "\n", "<!-- mvd -->\r\nbefore"):
        pull_request.comment(text)
    [found] = client(forge).pull_requests("main")
    client(forge).comment(found, "<!-- mvd -->\nnow", "")
    assert [comment.text for comment in pull_request.comments] == ["", "\n", "<!-- mvd -->\nnow"]


DONE = Operation.SUCCEEDED
TOLD = st.tuples(
    st.integers(0, 2),  # how many commits on
    st.sampled_from([Operation.RUNNING, Operation.SUCCEEDED, Operation.FAILED, Operation.SUPERSEDED]),
    st.none() | st.tuples(st.integers(0, 5), st.booleans()),  # a failure, after so many requests
    st.sampled_from(["again", "later", "never"]),  # when it is told anew, where that failed
    st.booleans(),  # with a restart before that
)


def test_whatever_happens_in_between_there_is_one_that_shows_success_and_no_newer_one_has(tmp_path: Path) -> None:
    with Forge(tmp_path / "forge", token=TOKEN) as forge:
        repository = forge.create("acme/config")
        commits = [repository.commit({"a": f"{number}"}, "One more") for number in range(12)]

        @settings_of_hypothesis(max_examples=60, deadline=None)
        @given(st.lists(TOLD, max_size=6))
        @example(
            [(0, DONE, None, "never", False), (1, DONE, (3, False), "later", True), (1, DONE, None, "never", False)]
        )
        def story(told: list[tuple[int, Operation, tuple[int, bool] | None, str, bool]]) -> None:
            repository.deployments.clear()
            now, at = client(forge), 0
            waiting: list[tuple[str, CommitStatus]] = []
            for further, operation, failure, again, restarted in told:
                at += further
                if failure:
                    forge.fail_next(1, after=failure[0], late=failure[1])
                try:
                    now.publish(commits[at % 12], status(operation))
                except Unavailable:
                    if again != "never":
                        waiting.append((commits[at % 12], status(operation)))
                while forge.next_failure():
                    pass
                now = client(forge) if restarted else now
                while waiting and again == "again":
                    now.publish(*waiting.pop(0))
            for one in waiting:
                now.publish(*one)
            now.publish(commits[(at + 1) % 12], status())
            newest = repository.deployments[-1]
            assert [made for made in repository.deployments if made.state == "success"] == [newest]

        story()


# ---- the login of an App ---------------------------------------------------------------------------------------------


def test_an_app_is_let_in_for_everything_with_one_token(
    forge: Forge, repository: Repository, commits: list[str], app: App
) -> None:
    token = login(forge)
    for commit in commits:
        told = client_of(forge, token)  # as after a restart
        told.publish(commit, status(Operation.FAILED))
        told.publish(commit, status())
        told.publish(commit, status(environment=""))
    pull_request = repository.propose({"a": "1"}, "One")
    [found] = told.pull_requests("main")
    known = told.comment(found, "<!-- mvd -->\none", "")
    told.comment(found, "<!-- mvd -->\ntwo", known)
    assert [(read.context, read.state) for read in told.statuses(commits[0])] == [("mvd/srv1", "green")]
    forge.fail_next(1, 404)  # of a commit, which is then asked for by itself
    with pytest.raises(StepFailed, match="read statuses of acme/config"):
        told.statuses(commits[0])
    assert [comment.text for comment in pull_request.comments] == ["<!-- mvd -->\ntwo"]
    assert len(app.minted) == 1
    assert {operation_of(asked) for asked in forge.asked} == set(described()["parts"][PARTS[0]])


def test_the_token_of_an_app_is_good_for_git(
    forge: Forge, repository: Repository, commits: list[str], app: App, tmp_path: Path
) -> None:
    token = login(forge)
    where = repository.clone_url
    source = Source(where, "main", tmp_path / "mirror", token=token, renew=token.renew, insecure=True)
    assert source.fetch().commit == commits[-1]
    app.revoke()
    assert source.fetch().commit == commits[-1]
    assert len(app.minted) == 2


def test_the_token_reaches_this_repository_alone(forge: Forge, app: App) -> None:
    forge.create("acme/other").commit({"a": "1"}, "Begin")
    token = login(forge)
    with pytest.raises(Unavailable, match="refused the token"):
        forges.connect("github", Account("acme/other", token, f"{forge.url}/api/v3")).pull_requests("main")


def test_a_token_is_used_until_shortly_before_its_end(
    forge: Forge, repository: Repository, commits: list[str], app: App
) -> None:
    for lifetime, minted in ((3600.0, 1), (100.0, 2)):
        app.lifetime = lifetime
        app.minted.clear()
        token = login(forge)
        assert (token() == token()) == (minted == 1)
        assert len(app.minted) == minted


def test_many_threads_get_the_same_token(forge: Forge, app: App) -> None:
    with ThreadPoolExecutor(8) as pool:
        token = login(forge)
        assert len(set(pool.map(lambda _: token(), range(32)))) == 1
    assert len(app.minted) == 1


def test_a_token_that_was_revoked_early_is_replaced_within_the_request_that_met_it(
    forge: Forge, repository: Repository, commits: list[str], app: App
) -> None:
    told = client_of(forge, login(forge))
    told.publish(commits[0], status(environment=""))
    app.revoke()
    told.publish(commits[0], status(environment=""))
    assert len(repository.statuses(commits[0])) == 2
    assert len(app.minted) == 2


def test_an_app_that_was_installed_anew_is_found_again(
    forge: Forge, repository: Repository, commits: list[str], app: App
) -> None:
    told = client_of(forge, login(forge))
    told.publish(commits[0], status(environment=""))
    for repositories in (["acme/config"], ["acme/config", "acme/other"]):
        app.install(*repositories)
        told.publish(commits[0], status(environment=""))
    assert len(repository.statuses(commits[0])) == 3


def test_a_key_that_was_rotated_is_told_until_there_is_the_new_one(
    forge: Forge, repository: Repository, commits: list[str], app: App
) -> None:
    token = login(forge)
    told = client_of(forge, token)
    told.publish(commits[0], status(environment=""))
    app.keys = [OTHER_PUBLIC]
    told.publish(commits[0], status(environment=""))  # the token is good for as long as it is
    app.revoke()
    with pytest.raises(Unavailable, match="does not take this key for GitHub App 4711"):
        told.publish(commits[0], status(environment=""))
    client_of(forge, login(forge, OTHER_KEY)).publish(commits[0], status(environment=""))
    app.keys = [PUBLIC, OTHER_PUBLIC]  # as it is in between
    told.publish(commits[0], status(environment=""))


def test_whatever_is_wrong_with_an_app_is_unavailable_and_says_what_to_do(forge: Forge, app: App) -> None:
    forge.create("acme/absent")
    wrong = {
        "does not take this key": lambda: login(forge, OTHER_KEY),
        "knows no GitHub App 1": lambda: login(forge, id="1"),
        r"is not installed in acme/absent .*\(install it": lambda: login(forge, name="acme/absent"),
        "finds the clock of this server wrong": lambda: login(forge, ahead=3600),
        "finds the clock of this server wrong .*": lambda: login(forge, ahead=-3600),
    }
    for sentence, make in wrong.items():
        with pytest.raises(Unavailable, match=sentence) as raised:
            make()()
        assert "PRIVATE" not in str(raised.value)
    app.is_suspended = True
    with pytest.raises(Unavailable, match="is suspended in acme/config"):
        login(forge)()


def test_a_clock_that_is_a_little_off_does_no_harm(forge: Forge, app: App) -> None:
    for ahead in (-500, -55, 0, 55):
        assert login(forge, ahead=ahead)() in app.minted


def test_a_github_that_is_down_is_asked_again_later_and_no_token_is_given_up_before_its_end(
    forge: Forge, app: App
) -> None:
    for code in (500, 502, 503):
        forge.fail_next(1, code)
        with pytest.raises(Unavailable, match=str(code)):
            login(forge)()
    forge.allow(0, 300)
    with pytest.raises(RateLimited):
        login(forge)()
    forge.allow(99, 300)
    app.lifetime = 60
    token = login(forge)
    known = token()
    forge.api_down = True
    assert token() == known


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("", "is not a PEM private key"),
        ("not a key", "is not a PEM private key"),
        (PUBLIC, "is not a PEM private key"),
        (KEY[:400], "is not a PEM private key"),
    ],
)
def test_what_is_no_key_is_told_before_anybody_is_asked(key: str, sentence: str) -> None:
    with pytest.raises(Unavailable, match=sentence) as raised:
        GitHubApp("4711", key, "acme/config")
    assert key == "" or key not in str(raised.value)


def test_the_proof_of_being_the_app_is_never_told(forge: Forge, app: App) -> None:
    token = login(forge, OTHER_KEY)
    with pytest.raises(MvdError) as raised:
        token()
    proof = jwt.encode({"iss": "4711"}, OTHER_KEY, algorithm="RS256").partition(".")[0]
    assert proof not in f"{raised.value!r} {token!r}"


def settings(forge: Forge, tmp_path: Path, more: str = "") -> Settings:
    (tmp_path / "app.pem").write_text(KEY)
    text = f"""
repository: {forge.url}/acme/config.git
credentials: {{insecure: true, github_app: {{id: 4711, key_file: {tmp_path}/app.pem}}}}
forge: {{kind: github, base_url: {forge.url}/api/v3{more}}}
"""
    return read("config.yaml", text.encode())


def test_the_settings_make_one_login_for_git_and_for_the_forge(
    forge: Forge, repository: Repository, commits: list[str], app: App, tmp_path: Path
) -> None:
    wanted = settings(forge, tmp_path)
    account = repository_account(wanted)
    told = connect_forge(wanted.forge, wanted, account)
    assert told
    told.publish(commits[0], status(environment=""))
    app.revoke()
    told.publish(commits[0], status(environment=""))
    assert [account.token()] == app.minted[1:]


def test_a_forge_with_a_token_or_a_repository_of_its_own_is_let_in_by_that(
    forge: Forge, repository: Repository, commits: list[str], app: App, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    forge.create("acme/other").propose({"a": "1"}, "One")
    for more, tokens in ((f", token_file: {tmp_path}/token", 0), (", repository: acme/other", 1)):
        wanted = settings(forge, tmp_path, more)
        told = connect_forge(wanted.forge, wanted, repository_account(wanted))
        assert told
        told.pull_requests("main")
        assert len(app.minted) == tokens


def test_a_key_file_that_can_not_be_read_is_told(forge: Forge, tmp_path: Path) -> None:
    wanted = settings(forge, tmp_path)
    (tmp_path / "app.pem").unlink()
    with pytest.raises(Unavailable, match=r"cannot read .*app\.pem"):
        repository_account(wanted)


# ---- GitHub's own description ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.environ.get("ACCEPT"), reason="rewrites the fixture, from the network")
def test_the_description_is_distilled_anew(tmp_path: Path) -> None:
    distil(tmp_path)


@pytest.mark.parametrize(
    ("method", "path", "body", "what"),
    [
        ("GET", "/api/v3/repos/a/b/deployment", b"", "there is no such operation"),
        ("GET", "/api/v3/repos/a/b/pulls?bass=main", b"", "there is no query parameter bass"),
        ("GET", "/api/v3/repos/a/b/pulls?state=shut", b"", "is not one of"),
        ("GET", "/api/v3/repos/a/b/pulls?page=two", b"", "is not of type 'integer'"),
        ("POST", "/repos/a/b/statuses/f00", b'{"state": "success", "colour": "green"}', "'colour' was unexpected"),
        ("POST", "/repos/a/b/statuses/f00", b"{}", "'state' is a required property"),
        ("POST", "/repos/a/b/deployments/1/statuses", b"", "has no body"),
        ("POST", "/repos/a/b/deployments/1/statuses", b'{"state": "superseded"}', "is not one of"),
    ],
)
def test_a_request_that_is_not_as_described_is_found(method: str, path: str, body: bytes, what: str) -> None:
    for part in PARTS:
        [found] = complaints([Asked("github", method, path, body, 201 if body else 422)], part)
        assert what in found


def test_the_fixture_says_where_it_is_from() -> None:
    assert FIXTURE.stat().st_size < 100_000
    assert described()["package"] == "@octokit/openapi"
    assert "MIT License" in described()["licence"]
