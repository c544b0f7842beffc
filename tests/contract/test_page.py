"""The page in a real browser: every page in both themes and three sizes, by keyboard, and as it changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from playwright.sync_api import Page as Window
from playwright.sync_api import expect

from tests.browser import SIZES, THEMES, Eyes, opened
from tests.contract.test_web import Page, serving
from tests.daemon_standin import World, commit, daemon
from tests.page_world import chatbot, going, green, line, server, troubled

PAGES = {
    "overview": "/",
    "app": "/apps/chatbot",
    "sick-app": "/apps/billing",
    "deploys": "/deploys",
    "green-deploy": "/deploys/3f9c2a1",
    "red-deploy": "/deploys/b4d15c0",
    "running-deploy": "/deploys/c0ffee1",
    "unknown-deploy": "/deploys/abcdef1",
    "plan": "/plan",
    "logs": "/logs/chatbot",
    "events": "/events",
    "doctor": "/doctor",
    "missing": "/apps/none",
}


@pytest.fixture(scope="module")
def eyes(pytestconfig: pytest.Config) -> Iterator[Eyes]:
    with opened(pytestconfig) as eyes:
        yield eyes


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page that no test changes."""
    folder = tmp_path_factory.mktemp("shown")
    with daemon(server(), folder), serving(folder) as page:
        yield page


@pytest.fixture
def world() -> World:
    return server()


@pytest.fixture
def page(world: World, tmp_path: Path) -> Iterator[Page]:
    with daemon(world, tmp_path), serving(tmp_path) as page:
        yield page


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
def test_axe_has_nothing_against_any_page_and_none_is_too_wide(eyes: Eyes, shown: Page, size: str, theme: str) -> None:
    found = []
    with eyes.window(size, theme) as window:
        for name, path in PAGES.items():
            window.goto(shown.url + path)
            found += [f"{name}: {it}" for it in eyes.violations(window)]
            eyes.keep(window, f"{name}-{size}-{theme}")
            if window.evaluate("document.documentElement.scrollWidth > innerWidth"):
                found.append(f"{name}: wider than the window")
    assert found == []


@pytest.mark.parametrize("theme", THEMES)
def test_axe_has_nothing_against_a_server_in_trouble_and_an_open_menu(eyes: Eyes, tmp_path: Path, theme: str) -> None:
    world = troubled()
    with serving(tmp_path) as page, eyes.window("phone", theme) as window:
        with daemon(world, tmp_path):
            window.goto(page.url)
            expect(window.get_by_role("alert")).not_to_have_count(0)
            window.get_by_text("Suspend…").click()
            assert eyes.violations(window) == []
            assert not window.evaluate("document.documentElement.scrollWidth > innerWidth")
            eyes.keep(window, f"trouble-phone-{theme}")
        expect(window.get_by_text("does not answer since")).to_be_visible()
        assert eyes.violations(window) == []
        eyes.keep(window, f"silent-phone-{theme}")
        with daemon(world, tmp_path):
            expect(window.get_by_text("does not answer since")).to_be_hidden()


def test_narrow_as_a_small_phone_nothing_is_cut_off(eyes: Eyes, shown: Page) -> None:
    with eyes.window("phone") as window:
        window.set_viewport_size({"width": 360, "height": 740})
        wide = []
        for name, path in PAGES.items():
            window.goto(shown.url + path)
            if window.evaluate("document.documentElement.scrollWidth > innerWidth"):
                wide.append(name)
        assert wide == []


def test_a_deploy_is_watched_live(eyes: Eyes, page: Page, world: World) -> None:
    about = commit(0xABCDEF1, "Watch me")
    with eyes.window() as window:
        window.goto(f"{page.url}/deploys/abcdef1")
        expect(window.get_by_text("Not deployed here (yet).")).to_be_visible()
        world.operations.insert(0, replace(going(50), commit=about))
        world.note()
        expect(window.get_by_role("heading", name="Watch me")).to_be_visible()
        expect(window.locator(".step.busy")).to_have_count(1)
        first = window.locator(".operation h2").inner_text()
        expect(window.locator(".operation h2")).not_to_have_text(first)
        world.operations[0] = replace(green(50), commit=about)
        world.note()
        expect(window.get_by_role("heading", name=re.compile("Succeeded in"))).to_be_visible()
        expect(window).to_have_title(re.compile("^Succeeded: Deploy abcdef1"))
        expect(window.locator("#tells")).to_have_text("The deploy of abcdef1: Succeeded")


def test_what_the_reader_has_opened_and_typed_stays_when_the_page_changes(eyes: Eyes, page: Page, world: World) -> None:
    with eyes.window() as window:
        window.goto(f"{page.url}/apps/chatbot")
        window.get_by_text("Suspend…").click()
        window.get_by_label("Why").fill("the database moves")
        world.show_app(replace(chatbot(), health="Degraded", why="it became sick meanwhile"))
        expect(window.get_by_text("it became sick meanwhile")).to_be_visible()
        expect(window.get_by_label("Why")).to_have_value("the database moves")
        expect(window.get_by_label("Why")).to_be_focused()


def test_suspend_resume_and_retry_are_pressed_by_keyboard_alone(eyes: Eyes, page: Page, world: World) -> None:
    with eyes.window() as window:
        window.goto(f"{page.url}/apps/billing")
        window.keyboard.press("Tab")
        expect(window.get_by_text("Skip to content")).to_be_focused()
        window.keyboard.press("Enter")
        tab_to(window, "summary", "Suspend…")
        window.keyboard.press("Enter")
        window.keyboard.press("Tab")
        window.keyboard.type("by hand only")
        window.keyboard.press("Enter")
        expect(window.get_by_text("billing: suspended")).to_be_visible()
        expect(window.get_by_text("billing is suspended")).to_be_visible()
        assert world.asked[-1][1]["why"] == "by hand only"
        tab_to(window, "button", "Resume")
        window.keyboard.press("Enter")
        expect(window.get_by_text("billing: resumed")).to_be_visible()
        tab_to(window, "button", "Retry")
        window.keyboard.press("Enter")
        expect(window.get_by_text("its failed version is tried again now")).to_be_visible()
        assert "notice=" not in window.url


def tab_to(window: Window, name: str, text: str) -> None:
    """Press Tab until the element of that name with that text has the focus."""
    for _ in range(40):
        window.keyboard.press("Tab")
        if window.evaluate("[document.activeElement.localName, document.activeElement.textContent.trim()]") == [
            name,
            text,
        ]:
            return
    raise AssertionError(f"Tab does not come to {text}")


def test_a_log_is_followed_paused_and_filtered(eyes: Eyes, page: Page, world: World) -> None:
    with eyes.window() as window:
        window.goto(f"{page.url}/logs/chatbot")
        lines = window.locator("#lines > li")
        expect(lines).to_have_count(110)
        world.print(line("<b>one</b> more", cursor="d1"))
        expect(lines).to_have_count(111)
        expect(lines.last).to_contain_text("<b>one</b> more")
        assert window.evaluate("document.getElementById('log').scrollTop > 100"), "it stays at the end"
        window.get_by_role("button", name="Pause").click()
        world.print(line("while paused", cursor="d2"))
        window.wait_for_timeout(1000)
        expect(lines).to_have_count(111)
        window.get_by_role("button", name="Go on").click()
        expect(lines.last).to_contain_text("while paused")
        window.keyboard.press("Escape")
        window.locator("body").press("/")
        window.keyboard.type("PAUSED")
        expect(window.locator("#lines > li:visible")).to_have_count(1)
        world.print(line("not this one", cursor="d3"), line("paused no more", cursor="d4"))
        expect(window.locator("#lines > li:visible")).to_have_count(2)


def test_apps_are_filtered_as_one_types_and_all_is_reached_by_links(eyes: Eyes, shown: Page) -> None:
    with eyes.window() as window:
        window.goto(shown.url)
        window.locator("body").press("/")
        window.keyboard.type("opensearch")
        expect(window.locator(".apps tbody:visible")).to_have_count(1)
        window.get_by_role("link", name="search", exact=True).click()
        expect(window.get_by_role("heading", name="search", exact=True)).to_be_visible()
        window.get_by_role("link", name="Deploys").click()
        window.get_by_role("link", name="b4d15c0").click()
        expect(window.get_by_text("answers 503 Service Unavailable (for 30 s)").first).to_be_visible()
        window.get_by_role("link", name="billing").first.click()
        window.get_by_role("link", name="Logs of api").click()
        expect(window.get_by_role("heading", name="Logs of billing/api")).to_be_visible()


def test_without_script_the_page_is_whole(eyes: Eyes, page: Page) -> None:
    with eyes.window(java_script_enabled=False) as window:
        window.goto(page.url)
        window.get_by_label("Filter apps").fill("degraded")
        window.keyboard.press("Enter")
        expect(window.get_by_role("link", name="billing")).to_be_visible()
        expect(window.get_by_role("link", name="chatbot")).to_have_count(0)
        window.get_by_role("button", name="Sync").click()
        expect(window.get_by_text("the daemon fetches and reconciles now")).to_be_visible()
        window.goto(f"{page.url}/logs/chatbot")
        expect(window.locator("#lines > li")).to_have_count(110)
