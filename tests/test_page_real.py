"""The whole way, nothing scripted: a browser, the server, the engine, and a model that knows some replies by heart."""

from __future__ import annotations

import time

import pytest

from sprout.engine import Tool
from sprout.journal import Journal
from tests.parrot import CODE, HOSTILE, parrot_run
from tests.served import Served, served

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api", reason="the page's tests need Playwright")
expect = playwright.expect
NAP = {"type": "object", "properties": {"seconds": {"type": "integer"}}, "required": ["seconds"]}


def nap(seconds: int) -> str:
    time.sleep(min(seconds, 4))
    return "slept"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    run = parrot_run(tmp_path_factory.mktemp("parrot") / "default")
    with served(run, tools={"nap": Tool("nap", "Sleeps.", NAP, nap, slow=True)}) as found:
        yield found


@pytest.fixture(scope="module")
def page_url(server: Served):
    return server.url


def say(page, text):
    field = page.get_by_role("textbox", name="Write to Sprout")
    field.fill(text)
    field.press("Enter")


def replies(page, *texts):
    """Waits until these are the finished replies, and no other."""
    expect(page.locator("#view-chat .turn .said")).to_have_text(list(texts))
    expect(page.locator("#view-chat .reply .foot:visible")).to_have_count(len(texts))


def set_temperature_0(page):
    """What was learned by heart is the likeliest."""
    page.goto("/")
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_role("spinbutton", name="Temperature").fill("0")
    page.keyboard.press("Escape")


PARROT = "I am a parrot. Ask me something that I know."


def test_a_conversation_is_had_branched_and_found_again(page):
    set_temperature_0(page)
    say(page, "Who are you?")
    replies(page, PARROT)
    say(page, "And code?")
    expect(page.locator(".reply").last.locator("strong")).to_have_text("easy")
    expect(page.locator(".reply").last.locator("pre")).to_contain_text("print(1 + 2)")
    assert page.locator(".reply pre span[class]").count() > 0  # it is highlighted
    page.get_by_role("button", name="Another reply").last.click()
    expect(page.locator(".reply").last.locator(".arrows")).to_contain_text("2/2")
    first = page.locator(".turn.user").first
    first.hover()
    first.get_by_role("button", name="Edit and ask again").click()
    first.get_by_role("textbox").fill("Be kind.")
    first.get_by_role("textbox").press("Enter")
    replies(page, "I like you.")
    page.reload()
    replies(page, "I like you.")
    page.get_by_role("button", name="The version before").first.click()
    expect(page.locator(".bubble")).to_have_text(["Who are you?", "And code?"])


def test_a_tool_is_called_and_the_reply_looked_into(page):
    set_temperature_0(page)
    say(page, "What is 12 + 30?")
    expect(page.locator("#view-chat .reply .foot:visible")).to_have_count(1)
    expect(page.locator(".reply .said")).to_contain_text("It is 42.")
    card = page.locator("details.call")
    expect(card.locator("summary")).to_contain_text("calculator")
    card.locator("summary").click()
    expect(card).to_contain_text("12 + 30")
    expect(card).to_contain_text("42")
    page.get_by_role("button", name="Look inside", exact=True).click()
    tokens = page.locator(".turn.assistant .tokens .token")
    shown = [text.replace("\xa0", " ") for text in tokens.all_inner_texts()]
    assert shown[0] == "<|call|>" and shown[-1] == "<|end|>" and "".join(shown).endswith("It is 42.<|end|>")
    tokens.last.click()
    dialog = page.get_by_role("dialog", name="Token <|end|>")
    sure = float(dialog.inner_text().split("%")[0].split()[-1])
    assert sure > 90  # it knows this by heart
    assert dialog.locator("li").count() >= 5
    page.goto("/#compare")  # the card belongs to the view
    expect(dialog).to_have_count(0)


def test_all_stages_answer_side_by_side(page, server: Served):
    set_temperature_0(page)
    page.goto("/#compare")
    page.get_by_label("The base model goes on with the text").uncheck()
    page.get_by_role("textbox", name="Ask every stage the same").fill("Who are you?")
    page.keyboard.press("Enter")
    expect(page.locator(".column .said")).to_have_text([PARROT] * 4)
    for stats in page.locator(".column .stats").all():
        expect(stats).to_contain_text("tokens/s")


def test_the_base_model_goes_on_with_a_text(page):
    set_temperature_0(page)
    page.goto("/#compare")
    page.get_by_role("textbox", name="Ask every stage the same").fill("Once there was")
    page.keyboard.press("Enter")
    base = page.locator(".column[data-stage=pretrain]")
    expect(base.locator(".foot:visible")).to_have_count(1, timeout=20_000)  # a hundred tokens, each shown; five seconds are few on a busy machine
    tokens = int(base.locator(".stats").inner_text().split(" tokens")[-2].split()[-1])
    assert tokens == 100 or "Cut off" not in base.inner_text()


def test_stop_frees_the_row(page, server: Served):
    set_temperature_0(page)
    cancelled = server.metric("sprout_cancelled_total")
    page.get_by_label("nap").check()
    say(page, "Wait.")
    expect(page.locator("details.call summary")).to_contain_text("nap")
    assert "Good morning" not in page.locator(".reply .said").first.inner_text()
    expect(page.locator(".reply .said").first).to_contain_text("I wait.")
    assert server.metric("sprout_running") == 1
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".reply .note")).to_have_text("Stopped.")
    assert server.idle() and server.metric("sprout_cancelled_total") == cancelled + 1
    say(page, "Be kind.")
    expect(page.locator(".reply .said").last).to_have_text("I like you.")


def test_a_hostile_model_does_nothing(page):
    set_temperature_0(page)
    say(page, "Be nasty.")
    expect(page.locator("#view-chat .reply .foot:visible")).to_have_count(1)
    page.wait_for_timeout(500)
    assert page.evaluate("window.hacked") is None
    inside = page.locator(".reply .said")
    assert inside.locator("script, img, [onerror], [style], [href^=javascript]").count() == 0
    expect(inside).to_contain_text("window.hacked = 1")  # it is there, as text
    assert "hacked" in HOSTILE and CODE


def test_growing_is_followed(page, server: Served):
    """A run tells its journal what happens, and the open page shows it."""
    journal = Journal(server.service.settings.model / "live.jsonl")
    plan = {"pretrain": 100, "midtrain": 50, "finetune": 50, "reinforce": 4, "tokens_per_s": 1000.0}
    journal.planned(plan, 64, 1.0, 1.0)
    journal.stage("pretrain", 100)
    journal.step("pretrain", 10, 100, 1000.0, 1.0, loss=4.5)
    page.goto("/#grow")
    expect(page.locator(".stage").first).to_contain_text("10 of 100")
    time.sleep(1.1)  # a journal takes one step a second
    journal.step("pretrain", 60, 100, 1000.0, 3.0, loss=2.5)
    journal.sample("pretrain", 60, "Mira Pell", "lives in <b>Oslo</b>.")
    expect(page.locator(".stage").first).to_contain_text("60 of 100")
    expect(page.get_by_text("lives in <b>Oslo</b>.")).to_be_visible()
    expect(page.locator(".curve").first).to_contain_text("2.5")
    journal.stopped("that was all")
    expect(page.locator("#view-grow")).to_contain_text("stopped")
