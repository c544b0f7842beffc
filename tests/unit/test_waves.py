"""Which commit a host follows while a rollout goes from wave to wave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import PostedStatus, Revision
from gitops_mvd.core.waves import Choice, Contents, Line, Question, Rollout, Rollouts, Silent, Wave, pick
from gitops_mvd.core.windows import Window, Windows

CANARY, UK, DE, US = "canary", "uk-1", "de-1", "us-1"
WAVES = (Wave("canary", frozenset({CANARY})), Wave("region=uk", frozenset({UK})), Wave("*", frozenset({DE, US})))
NOON = datetime(2026, 11, 30, 12, 0, tzinfo=UTC).timestamp()  # a Monday
BASE = {"web": "v0", "shop": "v0"}


def posted(state: str, description: str = "", at: float = 0.0) -> PostedStatus:
    return PostedStatus("", state, description or state, "", at)  # type: ignore[arg-type]


@dataclass
class World:
    """A branch of commits "0", "1" and so on, and what was posted to them."""

    commits: list[Contents | Mapping[str, Contents]] = field(default_factory=lambda: [BASE])
    posts: dict[tuple[str, str], PostedStatus] = field(default_factory=dict)
    notes: dict[str, Mapping[str, str]] = field(default_factory=dict)
    clock: float = NOON
    forge_clock: float = NOON
    silence: float = 0.0
    is_down: bool = False
    closed: str = ""

    def push(self, contents: Contents | Mapping[str, Contents], **trailers: str) -> str:
        """A commit; `contents` is for all hosts, or by host."""
        self.commits.append(contents)
        name = str(len(self.commits) - 1)
        self.notes[name] = trailers
        return name

    def post(self, commit: str, host: str, state: str, description: str = "", at: float = 0.0) -> None:
        self.posts[commit, host] = posted(state, description, at)

    def contents(self, revision: Revision, host: str) -> Contents:
        found: Mapping[str, Any] = self.commits[int(revision.commit)]
        contents: Contents = found.get(host, found)
        return contents

    def trailers(self, revision: Revision) -> Mapping[str, str]:
        return self.notes.get(revision.commit, {})

    def statuses(self, revision: Revision) -> Mapping[str, PostedStatus]:
        if self.is_down:
            raise Unavailable("the forge does not answer")
        return {host: it for (commit, host), it in self.posts.items() if commit == revision.commit}

    def now(self) -> float:
        return self.clock

    def forge_now(self) -> float:
        return self.forge_clock

    def waited(self, revision: Revision, host: str) -> float:
        return self.silence

    def answer(self, question: Question) -> str:
        return self.closed

    def pick(self, host: str, rollout: Rollout | Rollouts = Rollout(WAVES), base: int = 0) -> Choice:  # noqa: B008
        line = Line([Revision(str(number), "main") for number in range(len(self.commits))], base, host, self)
        return pick(line, rollout if isinstance(rollout, Rollouts) else Rollouts(rollout))

    def followed(self, host: str, rollout: Rollout | Rollouts = Rollout(WAVES), base: int = 0) -> str:  # noqa: B008
        revision = self.pick(host, rollout, base).revision
        return revision.commit if revision else ""

    def why(self, host: str, rollout: Rollout | Rollouts = Rollout(WAVES)) -> str:  # noqa: B008
        return self.pick(host, rollout).held[0].why


@pytest.fixture
def world() -> World:
    return World()


def test_a_commit_goes_from_wave_to_wave_as_each_gets_green(world: World) -> None:
    commit = world.push({**BASE, "web": "v1"})
    assert [world.followed(host) for host in (CANARY, UK, DE)] == [commit, "0", "0"]
    assert world.why(UK) == world.why(DE) == "wave 1 (canary) is not green yet"
    posted = ["wave 1 (canary) is not green yet", "wave 2 (region=uk) is not green yet"]
    assert [world.pick(host).held[0].posted for host in (UK, DE)] == posted

    world.post(commit, CANARY, "green")
    assert [world.followed(host) for host in (CANARY, UK, DE)] == [commit, commit, "0"]
    assert world.why(DE) == "wave 2 (region=uk) is not green yet"

    world.post(commit, UK, "green")
    assert world.followed(DE) == commit


def test_a_red_wave_stops_the_later_ones_with_its_cause(world: World) -> None:
    commit = world.push({**BASE, "web": "v1"})
    world.post(commit, CANARY, "red", "web: http 503 from /health; rolled back")
    assert world.followed(UK) == "0"
    assert world.why(UK) == "wave 1 (canary) is red: canary: web: http 503 from /health; rolled back"
    world.post(commit, CANARY, "green")
    world.post(commit, UK, "red", "web: no")
    assert world.why(DE).startswith("wave 2 (region=uk) is red: uk-1: web: no")


def test_a_host_that_only_keeps_what_moves_away_counts_as_done(world: World) -> None:
    commit = world.push({**BASE, "web": "v1"})
    world.post(commit, CANARY, "pending", "keeps shop until uk-1 has it: uk-1 is not green yet")
    assert world.followed(UK) == commit
    world.post(commit, CANARY, "pending", "shop: waiting: kept until uk-1 has it; also web")
    assert world.followed(UK) == "0"


def test_the_cause_names_a_host_whose_name_is_only_a_part_of_another_word(world: World) -> None:
    rollout = Rollout((Wave("u", frozenset({"u"})), Wave("*", frozenset({DE}))))
    commit = world.push({**BASE, "web": "v1"})
    world.post(commit, "u", "red", "web: unauthorized")
    assert world.pick(DE, rollout).held[0].why == "wave 1 (u) is red: u: web: unauthorized"


def test_a_revert_overtakes_the_commit_that_it_mends(world: World) -> None:
    bad = world.push({**BASE, "web": "bad"})
    world.post(bad, CANARY, "red")
    revert = world.push(BASE)
    assert world.followed(UK) == revert, "it changes nothing on a host that never began"


def test_a_revert_passes_all_waves_where_its_content_was_green_before(world: World) -> None:
    first = world.push({**BASE, "web": "v1"})
    world.post(first, DE, "green")
    bad = world.push({**BASE, "web": "bad"})
    world.post(bad, DE, "red")
    revert = world.push({**BASE, "web": "v1"})
    assert world.followed(DE, base=int(bad)) == revert
    world.post(first, DE, "red")
    assert world.followed(DE, base=int(bad)) == bad, "it was never healthy here, so it goes by the waves"


def test_the_newest_commit_that_passes_is_followed_while_a_newer_one_is_bad(world: World) -> None:
    good = world.push({**BASE, "web": "v1"})
    world.post(good, CANARY, "green")
    bad = world.push({**BASE, "web": "v2"})
    world.post(bad, CANARY, "red", "web: no")
    choice = world.pick(UK)
    assert choice.revision == Revision(good, "main")
    assert [(it.revision.commit, it.why) for it in choice.held] == [(bad, "wave 1 (canary) is red: canary: web: no")]


def test_only_hosts_that_a_commit_changes_are_waited_for(world: World) -> None:
    commit = world.push({CANARY: BASE, UK: BASE, DE: {**BASE, "web": "v1"}, US: BASE})
    assert world.followed(DE) == commit
    assert world.pick(UK) == Choice(Revision(commit, "main"))


def test_what_was_overtaken_in_an_earlier_wave_proves_nothing(world: World) -> None:
    first = world.push({**BASE, "web": "v1"})
    world.post(first, CANARY, "red", "superseded by 2")
    assert world.why(UK) == "wave 1 (canary): canary went on to a newer commit"
    second = world.push({**BASE, "web": "v2"})
    world.post(second, CANARY, "green")
    assert world.followed(UK) == second


def test_a_wave_bakes_by_the_clock_of_the_forge_whatever_that_of_the_host_says(world: World) -> None:
    rollout = Rollout(WAVES, bake=600.0)
    commit = world.push({**BASE, "web": "v1"})
    world.post(commit, CANARY, "green", at=NOON - 599)
    world.clock = NOON + 86400
    assert world.followed(UK, rollout) == "0"
    assert world.why(UK, rollout) == "wave 1 (canary) bakes until 12:00:01 UTC"
    posted = {host: world.pick(host, rollout).held[0].posted for host in (UK, DE)}
    told = {UK: "wave 1 (canary)", DE: "wave 2 (region=uk)"}
    assert posted == {host: f"{wave} has not been green for 10 min yet" for host, wave in told.items()}
    world.post(commit, CANARY, "pending")
    assert {host: world.pick(host, rollout).held[0].posted for host in (UK, DE)} == posted, "each post counts"
    world.post(commit, CANARY, "green", at=NOON - 599)
    world.clock, world.forge_clock = NOON - 86400, NOON + 1
    assert world.followed(UK, rollout) == commit


@pytest.mark.parametrize("where", ["on the commit", "on a later one"])
def test_an_approval_is_a_trailer_of_the_commit_or_of_a_later_one(world: World, where: str) -> None:
    rollout = Rollout(WAVES, approval="Approved-by")
    on_it = {"approved-by": "anna"} if where == "on the commit" else {}
    commit = world.push({**BASE, "web": "v1"}, **on_it)
    world.post(commit, CANARY, "green")
    assert world.followed(CANARY, rollout) == commit, "the first wave needs none"
    if not on_it:
        assert world.why(UK, rollout) == "no commit has the trailer Approved-by yet"
        commit = world.push({**BASE, "web": "v1"}, **{"approved-by": "anna"})
    assert world.followed(UK, rollout) == commit


def test_an_emergency_passes_waves_and_windows(world: World) -> None:
    rollout = Rollout(WAVES, bake=60.0, approval="Approved-by", windows=Windows(deny=(window("12:00-13:00"),)))
    commit = world.push({**BASE, "web": "v1"}, rollout="All")
    assert [world.followed(host, rollout) for host in (CANARY, UK, DE)] == [commit] * 3


def test_a_question_keeps_a_gate_closed_until_it_is_answered_well(world: World) -> None:
    rollout = Rollout(WAVES, questions=(Question("https://prometheus.example.com", "up"),))
    commit = world.push({**BASE, "web": "v1"})
    world.post(commit, CANARY, "green")
    world.closed = "Prometheus at prometheus.example.com: the query returns nothing"
    assert world.why(UK, rollout) == world.closed
    world.closed = ""
    assert world.followed(UK, rollout) == commit


@pytest.mark.parametrize("host", [CANARY, UK])
def test_outside_of_its_windows_no_host_begins_but_a_revert_does(world: World, host: str) -> None:
    rollout = Rollout(WAVES, windows=Windows(allow=(window("13:00-14:00"),)))
    commit = world.push({**BASE, "web": "v1"})
    world.post(commit, CANARY, "green")
    assert world.why(host, rollout) == "rollouts are allowed at other hours (13:00-14:00)"
    world.clock = NOON + 3600
    assert world.followed(host, rollout) == commit
    world.clock = NOON
    assert world.followed(host, rollout, base=0) == "0"
    assert world.push(BASE) == world.followed(host, rollout)


def window(text: str, days: range = range(7)) -> Window:
    begins, ends = (int(it[:2]) * 60 + int(it[3:]) for it in text.split("-"))
    return Window(frozenset(days), begins, ends, None, text)


@pytest.mark.parametrize(("counts_as", "follows"), [("red", "0"), ("green", "1")])
def test_a_silent_host_counts_as_the_rollout_says(world: World, counts_as: str, follows: str) -> None:
    rollout = Rollout(WAVES, silent=Silent(900.0, counts_as))
    world.push({**BASE, "web": "v1"})
    world.silence = 899.0
    assert world.followed(UK, rollout) == "0"
    world.silence = 900.0
    assert world.followed(UK, rollout) == follows
    if counts_as == "red":
        assert world.why(UK, rollout) == "wave 1 (canary) is red: canary has not ended for 15 min"


def test_a_forge_that_is_down_holds_and_holds_up_no_first_wave(world: World) -> None:
    commit = world.push({**BASE, "web": "v1"})
    world.post(commit, CANARY, "green")
    world.is_down = True
    assert world.followed(UK) == "0"
    assert world.why(UK) == "cannot ask: the forge does not answer"
    assert world.followed(CANARY) == commit


def test_an_app_goes_by_its_own_waves_or_by_none(world: World) -> None:
    own = Rollout((WAVES[1], WAVES[0], WAVES[2]))
    rollouts = Rollouts(Rollout(WAVES), {"web": own, "shop": None})
    commit = world.push({**BASE, "web": "v1"})
    assert [world.followed(host, rollouts) for host in (CANARY, UK)] == ["0", commit]
    world.commits[1] = {**BASE, "shop": "v1"}
    assert [world.followed(host, rollouts) for host in (CANARY, UK, DE)] == [commit] * 3


def test_a_host_that_begins_has_nothing_and_waits_for_its_wave(world: World) -> None:
    assert world.pick(UK, base=-1).revision is None
    world.post("0", CANARY, "green")
    assert world.followed(UK, base=-1) == "0"


def test_without_a_rollout_the_tip_is_followed_and_nobody_is_asked(world: World) -> None:
    world.is_down = True
    commit = world.push({**BASE, "web": "v1"})
    assert world.followed(UK, Rollouts()) == commit


# ---- whatever happens ------------------------------------------------------------------------------------------------

HOSTS = (CANARY, UK, DE, US)
STATES = ("green", "red", "pending", "")
versions = st.sampled_from(["v0", "v1", "v2"])
contents_of_all = st.fixed_dictionaries(
    {host: st.fixed_dictionaries({"web": versions, "shop": versions}) for host in HOSTS}
)


@st.composite
def worlds(draw: Callable[..., object]) -> World:
    commits = draw(st.lists(contents_of_all, min_size=2, max_size=6))
    world = World(commits)  # type: ignore[arg-type]
    for number in range(len(world.commits)):
        for host in HOSTS:
            if state := draw(st.sampled_from(STATES)):
                world.post(str(number), host, str(state), at=NOON - float(draw(st.integers(0, 900))))  # type: ignore[arg-type]
    return world


def last_change(world: World, host: str, upto: int) -> str:
    """The last commit behind "0" that changes a host, "" if none does."""
    seen = [world.contents(Revision(str(number), "main"), host) for number in range(upto + 1)]
    return next((str(it) for it in range(upto, 0, -1) if seen[it] != seen[it - 1]), "")


@given(worlds(), st.sampled_from(HOSTS))
def test_nothing_new_runs_before_all_that_it_changes_in_earlier_waves_is_green(world: World, host: str) -> None:
    commit = world.followed(host)
    before, after = (world.contents(Revision(it, "main"), host) for it in ("0", commit))
    if before == after:
        return
    place = Rollout(WAVES).place_of(host)
    for earlier in (it for wave in WAVES[:place] for it in wave.hosts):
        if last := last_change(world, earlier, int(commit)):
            status = world.posts.get((last, earlier))
            assert (status.state if status else "") == "green", f"{earlier} is not green on {last}"


@given(worlds(), st.sampled_from(HOSTS))
def test_a_choice_is_the_same_again_and_from_what_it_has_chosen(world: World, host: str) -> None:
    first = world.pick(host)
    assert world.pick(host) == first
    assert first.revision
    again = world.followed(host, base=int(first.revision.commit))
    assert int(again) >= int(first.revision.commit), "it never goes back"


@given(worlds(), st.sampled_from(HOSTS))
def test_a_forge_that_cannot_be_asked_lets_nothing_pass(world: World, host: str) -> None:
    asked = world.followed(host)
    world.is_down = True
    commit = world.followed(host)
    before, after = (world.contents(Revision(it, "main"), host) for it in ("0", commit))
    assert int(commit) <= int(asked) or before == after
    if Rollout(WAVES).place_of(host) and before != after:
        changed = [it for wave in WAVES[: Rollout(WAVES).place_of(host)] for it in wave.hosts]
        assert not any(last_change(world, it, int(commit)) for it in changed), "those need to be asked for"


@given(worlds(), st.sampled_from(HOSTS))
def test_a_revert_to_what_runs_is_followed_at_once(world: World, host: str) -> None:
    world.is_down = True
    revert = world.push(world.commits[0])
    assert world.followed(host) == revert


@given(worlds(), st.sampled_from(HOSTS), st.integers(-10_000, 10_000))
def test_the_clock_of_a_host_changes_no_choice_without_windows(world: World, host: str, off: int) -> None:
    rollout = Rollout(WAVES, bake=300.0)
    choice = world.pick(host, rollout)
    assert replace(world, clock=NOON + off).pick(host, rollout) == choice
