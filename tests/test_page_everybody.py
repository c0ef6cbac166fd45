"""The page for everybody: by keyboard, by ear, on a phone, in the dark; and under its own content policy."""

import re

import pytest

from tests.test_page import (  # noqa: F401
    CALL,
    VIEWS,
    chunk,
    end,
    expect,
    field,
    finished,
    growing,
    page_url,
    reply,
    say,
    says,
    script,
    token,
)

pytestmark = pytest.mark.slow


def test_keyboard_alone(page):
    script(page, says("one"), says("two"))
    page.goto("/")
    expect(field(page)).to_be_focused()
    page.keyboard.type("first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    page.keyboard.press("Enter")
    finished(page, 1)
    assert page.evaluate("asked")[0]["messages"][0]["content"] == "first line\nsecond line"
    seen = []
    for _ in range(12):
        page.keyboard.press("Shift+Tab")
        seen.append(page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", seen[-1]
    for name in ("Another reply", "Copy the reply", "Edit and ask again", "New chat"):
        assert name in seen, seen
    while page.evaluate("document.activeElement.ariaLabel") != "Another reply":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(reply(page).locator(".arrows")).to_contain_text("2/2")


def test_the_first_stop_skips_to_the_content(page):
    page.goto("/#compare")
    expect(page.get_by_role("heading", name="Side by side")).to_be_visible()
    page.keyboard.press("Tab")
    link = page.get_by_role("link", name="Skip to the content")
    expect(link).to_be_focused()
    expect(link).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    assert page.url.endswith("#compare")


def test_screen_readers_hear_a_reply_once(page):
    script(page, {"chunks": says("one ", "two ", "three"), "pause": 50})
    page.goto("/")
    page.evaluate("""() => { window.heard = []; new MutationObserver(() => heard.push(document.getElementById("live").textContent))
      .observe(document.getElementById("live"), {childList: true, characterData: true, subtree: true}); }""")
    say(page, "Count")
    finished(page, 1)
    page.wait_for_timeout(100)
    assert page.evaluate("heard") == ["Sprout is writing.", "Sprout: one two three"]
    assert page.locator("#view-chat [aria-live]").count() == 0


@pytest.mark.parametrize("view", VIEWS)
def test_phone(page, view):
    page.set_viewport_size({"width": 360, "height": 740})
    growing(page)
    script(page, [chunk("A " + "long" * 60 + "\n\n```python\nx = '" + "y" * 90 + "'\n```\n\n|" + "cell|" * 12 + "\n|" + "-|" * 12 + "\n", [token("A long")]), *CALL])
    page.goto(f"/#{view}")
    if view == "chat":
        say(page, "w" * 100)
        finished(page, 1)
    if view == "compare":
        page.get_by_label("The base model goes on with the text").uncheck()
        page.get_by_role("button", name="Who are you?").click()
        expect(page.locator(".column .foot:visible").first).to_be_visible()
    if view == "grow":
        expect(page.locator(".stage")).to_have_count(4)
    for inside in (False, True):
        if inside:
            page.get_by_role("button", name="Look inside", exact=True).click()
        wide = page.evaluate("""() => [...document.querySelectorAll("html, body, .top, .scroll, .dock, .reply, .column, .stage, .curve")]
          .filter((e) => e.scrollWidth > e.clientWidth + 1 && e.clientWidth).map((e) => e.className || e.tagName)""")
        assert wide == []
        for button in page.locator("button:visible, a:visible, textarea:visible").all():
            box = button.bounding_box()
            inner = button.evaluate("(e) => Boolean(e.closest('.wide, .skip, pre') || e.matches('.skip'))")
            assert inner or (box["x"] >= 0 and box["x"] + box["width"] <= 361), button.evaluate("(e) => e.outerHTML")
    if view == "chat":
        page.get_by_role("button", name="Conversations").click()
        expect(page.get_by_role("button", name="New chat")).to_be_in_viewport()
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="New chat")).to_be_hidden()


def test_dark_and_light(page):
    def shows(theme):
        expect(page.locator("html")).to_have_attribute("data-theme", theme)
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    page.emulate_media(color_scheme="light")
    page.goto("/")
    light = shows("light")
    page.emulate_media(color_scheme="dark")
    assert shows("dark") != light
    switch = page.get_by_role("button", name="Dark colours")
    expect(switch).to_have_attribute("aria-pressed", "true")
    switch.click()
    assert shows("light") == light
    page.reload()
    shows("light")  # kept, against the system
    switch.click()
    shows("dark")
    page.emulate_media(color_scheme="light")
    shows("light")  # follows the system again


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", [*VIEWS, "settings", "phone"])
def test_no_barriers(page, view, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()

    def check():
        page.wait_for_timeout(350)  # what fades has faded
        found = axe.run(page).response["violations"]
        assert not found, [(v["id"], v["help"], [n["html"][:200] + str(n["any"][:1])[:300] for n in v["nodes"][:3]]) for v in found]

    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    growing(page)
    markdown = "# Head\n\ntext `code` [link](https://a.example)\n\n```python\n# why\ndef f(x): return 'a' + 1.5\n```\n\n|a|b|\n|-|-|\n|1|2|\n\n> q"
    many = [token(f" {p}", p) for p in (0.99, 0.7, 0.4, 0.2, 0.01)]
    script(page, [chunk(markdown, many), *CALL[1:-1], end("length")], {"status": 500})
    if view == "phone":
        page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"/#{view}")
    if view in ("chat", "phone"):
        check()
        say(page, "Hello there")
        finished(page, 1)
        say(page, "And now go wrong")
        finished(page, 2)
        page.locator("details.call summary").click()
        check()
        page.get_by_role("button", name="Look inside", exact=True).click()
        page.locator(".turn.assistant .token").nth(2).click()
        check()
        page.keyboard.press("Escape")
        if view == "phone":
            page.get_by_role("button", name="Conversations").click()
        page.get_by_role("button", name="More about Hello there").click()
        check()
    if view == "compare":
        check()
        page.get_by_label("The base model goes on with the text").uncheck()
        page.get_by_role("button", name="Who are you?").click()
        expect(page.locator(".column .foot:visible").first).to_be_visible()
        check()
    if view == "grow":
        expect(page.locator(".stage")).to_have_count(4)
        page.locator(".curve summary").first.click()
        check()
        growing(page, state="done", report=True)
        expect(page.locator("iframe")).to_be_visible()
        check()
    if view == "settings":
        page.get_by_role("button", name="Settings", exact=True).click()
        check()


def test_everything_is_checked_by_the_content_policy(page):
    answer = page.goto("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
    html = answer.text()
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=|https?://", html)
