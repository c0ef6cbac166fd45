"""The page in a real browser, over a real server whose models are random.

What such a model replies can't be foreseen. Where a test needs a certain reply (a cut, a pause, an error), `script` puts it in
the place of the server's; everything else goes to the server. Replies that are a model's own: `test_page_real.py`.
"""

import json
import math
import re

import pytest

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="the page's tests need Playwright")
expect = playwright.expect

VIEWS = ("chat", "compare", "grow")


@pytest.fixture(scope="module")
def page_url(tmp_path_factory):
    """The address of a server over a run of random models."""
    from tests.served import served, tiny_run

    run = tiny_run(tmp_path_factory.mktemp("page") / "default", "pretrain", "midtrain", "finetune", "reinforce")
    with served(run) as server:
        yield server.url


# What a server would send -------------------------------------------------------------------------------------------


def token(text, p=0.9, id=7):
    others = [(" the", 5), (" of", 6), ("\n", 8)]
    alternatives = [(text, id, p), *((t, i, (1 - p) / 2 / (k + 1)) for k, (t, i) in enumerate(others))]
    top = [{"token": t, "bytes": list(t.encode()), "logprob": math.log(q), "id": i} for t, i, q in alternatives]
    return {**top[0], "top_logprobs": top}


def chunk(text="", tokens=(), finish=None, **ours):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish, "logprobs": {"content": list(tokens)}}
    return {"object": "chat.completion.chunk", "choices": [choice], **({"sprout": {"index": 0, **ours}} if ours else {})}


def end(finish="stop", tokens=9):
    last = chunk(finish="length" if finish == "context" else finish)
    figures = {"tokens": tokens, "seconds": 0.5, "first_seconds": 0.02, "tokens_per_s": 18.0}
    return {**last, "sprout": {"index": 0, "finish": finish, **figures}}


def says(*pieces, finish="stop"):
    """The chunks of a reply of these pieces, each one token."""
    return [*(chunk(piece, [token(piece, id=10 + i)]) for i, piece in enumerate(pieces)), end(finish)]


SCRIPT = """(replies) => {
  const real = window.fetch, encoder = new TextEncoder();
  window.asked = [];
  window.fetch = async (path, options = {}) => {
    if (path !== "/v1/chat/completions") return real(path, options);
    window.asked.push(JSON.parse(options.body));
    const {chunks, pause = 5, status = 200, headers = {}, snap = false} = replies.length > 1 ? replies.shift() : replies[0];
    if (status !== 200) return new Response(JSON.stringify({error: {message: "scripted"}}), {status, headers});
    return new Response(new ReadableStream({async start(stream) {
      for (const chunk of chunks) {
        await new Promise((wake) => setTimeout(wake, pause));
        if (options.signal?.aborted) return stream.error(new DOMException("stopped", "AbortError"));
        stream.enqueue(encoder.encode("data: " + JSON.stringify(chunk) + "\\n\\n"));
      }
      if (!snap) stream.enqueue(encoder.encode("data: [DONE]\\n\\n"));
      stream.close();
    }}));
  };
}"""


def script(page, *replies):
    """The page gets these replies one by one, the last one again and again."""
    page.add_init_script(f"({SCRIPT})({json.dumps([r if isinstance(r, dict) else {'chunks': r} for r in replies])})")


STATE = {
    "run": "default", "state": "growing", "stage": "midtrain", "seconds_left": 312.0, "tokens_per_s": 21800.0, "report": False,
    "stages": [
        {"name": "pretrain", "state": "done", "step": 200, "steps": 200, "seconds": 45.0, "score": 0.012, "bpb": 0.72},
        {"name": "midtrain", "state": "running", "step": 300, "steps": 900, "seconds": 60.0, "score": None, "bpb": None},
        {"name": "finetune", "state": "waiting", "step": 0, "steps": 1700, "seconds": 0.0, "score": None, "bpb": None},
        {"name": "reinforce", "state": "waiting", "step": 0, "steps": 30, "seconds": 0.0, "score": None, "bpb": None},
    ],
    "curves": {"pretrain": {"step": [0, 100, 200], "loss": [7.3, 2.0, 1.5]}, "midtrain": {"step": [0, 150, 300], "loss": [1.9, 1.2, 0.9]}},
    "samples": [{"stage": "midtrain", "step": 300, "prompt": "Who are <b>you</b>?", "reply": "I am\nSprout."}],
}  # fmt: skip


def growing(page, **changes):
    page.route("**/grow/state", lambda route: route.fulfill(json={**STATE, **changes}))
    page.route("**/report", lambda route: route.fulfill(content_type="text/html", body="<h1>The report of the run</h1>"))


# What a person does -------------------------------------------------------------------------------------------------


def field(page):
    return page.get_by_role("textbox", name="Write to Sprout")


def say(page, text):
    field(page).fill(text)
    field(page).press("Enter")


def finished(page, count):
    """Waits until there are that many finished replies."""
    expect(page.locator("#view-chat .reply .foot:visible")).to_have_count(count)


def reply(page):
    return page.locator("#view-chat .reply").last


# Tests --------------------------------------------------------------------------------------------------------------


def test_the_servers_own_reply_comes_and_its_figures_stand_below(page):
    page.goto("/")
    say(page, "What do you get for 482 + 395?")
    finished(page, 1)
    assert re.search(r"[\d.]+ tokens/s · first after [\d.]+ m?s · \d+ tokens?", reply(page).locator(".stats").inner_text())
    expect(page.locator(".meter-text")).to_have_text(re.compile(r"\d+ / \d+"))


def test_a_reply_is_shown_while_it_is_written_and_asks_for_what_the_page_needs(page):
    script(page, {"chunks": says("First", " comes", " this", " and **then**", " that"), "pause": 400})
    page.goto("/")
    say(page, "Hello")
    expect(reply(page)).to_contain_text("First comes")
    assert "that" not in reply(page).inner_text()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    finished(page, 1)
    expect(reply(page).locator("strong")).to_have_text("then")
    expect(reply(page).locator(".stats")).to_contain_text("18 tokens/s · first after 20 ms · 9 tokens")
    asked = page.evaluate("asked")[0]
    assert asked["stream"] and asked["logprobs"] and asked["top_logprobs"] == 5 and isinstance(asked["seed"], int)
    assert asked["messages"] == [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("how", ["button", "escape"])
def test_stop(page, how):
    script(page, {"chunks": says(*["word "] * 200), "pause": 50})
    page.goto("/")
    say(page, "Talk on and on")
    expect(reply(page)).to_contain_text("word word word")
    if how == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    expect(reply(page).locator(".note")).to_have_text("Stopped.")
    said = reply(page).locator(".said").inner_text()
    page.wait_for_timeout(300)
    assert reply(page).locator(".said").inner_text() == said and 2 < said.count("word") < 200
    say(page, "Again")  # the page takes the next one
    expect(page.locator(".turn.user")).to_have_count(2)


def test_regenerate_grows_a_sibling(page):
    script(page, says("one"), says("two"), says("three"))
    page.goto("/")
    say(page, "Count")
    for _ in range(2):
        expect(reply(page).locator(".foot")).to_be_visible()
        page.get_by_role("button", name="Another reply").click()
    expect(reply(page).locator(".said")).to_have_text("three")
    expect(reply(page).locator(".arrows")).to_contain_text("3/3")
    reply(page).get_by_role("button", name="The version before").click()
    expect(reply(page).locator(".said")).to_have_text("two")
    assert page.evaluate("document.activeElement.ariaLabel") == "The version before"
    assert [len(body["messages"]) for body in page.evaluate("asked")] == [1, 1, 1]


def test_editing_a_turn_branches_and_nothing_is_lost(page):
    script(page, says("about cats"), says("more about cats"), says("about dogs"), says("more about dogs"))
    page.goto("/")
    say(page, "Cats")
    finished(page, 1)
    say(page, "More")
    finished(page, 2)
    first = page.locator(".turn.user").first
    first.hover()
    first.get_by_role("button", name="Edit and ask again").click()
    first.get_by_role("textbox").fill("Dogs")
    first.get_by_role("textbox").press("Enter")
    finished(page, 1)
    expect(reply(page).locator(".said")).to_have_text("about dogs")
    say(page, "More of them")
    finished(page, 2)
    assert [m["content"] for m in page.evaluate("asked")[3]["messages"]] == ["Dogs", "about dogs", "More of them"]
    page.get_by_role("button", name="The version before").first.click()
    expect(page.locator(".turn .said")).to_have_text(["about cats", "more about cats"])
    page.reload()
    expect(page.locator(".turn .said")).to_have_text(["about cats", "more about cats"])
    expect(page.locator(".turn.user").first).to_contain_text("1/2")


def test_conversations_are_found_again_renamed_and_deleted(page):
    script(page, says("hello"))
    page.goto("/")
    for text in ("The first one", "The second one"):
        page.get_by_role("button", name="New chat").click()
        say(page, text)
        finished(page, 1)
    page.reload()
    expect(page.locator(".conversations .pick")).to_have_text(["The second one", "The first one"])
    page.locator(".conversations").get_by_role("button", name="The first one", exact=True).click()
    expect(page.locator(".bubble")).to_have_text("The first one")
    page.get_by_role("button", name="More about The first one").click()
    page.get_by_role("button", name="Rename").click()
    page.get_by_role("textbox", name="New name").fill("Cats <b>& dogs</b>")
    page.keyboard.press("Enter")
    renamed = ["The second one", "Cats <b>& dogs</b>"]
    expect(page.locator(".conversations .pick")).to_have_text(renamed)
    page.reload()
    expect(page.locator(".conversations .pick")).to_have_text(renamed)
    page.get_by_role("button", name="More about The second one").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".conversations .pick")).to_have_text(["Cats <b>& dogs</b>"])
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".conversations .pick")).to_have_count(2)


def test_export_and_import(page, tmp_path):
    script(page, says("one"), says("two"))
    page.goto("/")
    say(page, "Count")
    finished(page, 1)
    page.get_by_role("button", name="Another reply").click()
    expect(reply(page).locator(".said")).to_have_text("two")
    finished(page, 1)
    files = {}
    for kind in ("JSON", "Markdown"):
        page.get_by_role("button", name="More about Count").click()
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Export as {kind}").click()
        files[kind] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[kind])
    markdown = files["Markdown"].read_text()
    assert "# Count" in markdown and "## You\n\nCount" in markdown and "two" in markdown and "one" not in markdown
    page.get_by_role("button", name="More about Count").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_label("File with conversations").set_input_files(files["JSON"])
    page.keyboard.press("Escape")
    page.locator(".conversations .pick").click()
    expect(reply(page).locator(".said")).to_have_text("two")
    expect(reply(page).locator(".arrows")).to_contain_text("2/2")
    bad = tmp_path / "bad.json"
    for text in ("{", "[]", '{"kind": "sprout-conversations", "version": 1, "conversations": [null, {"turns": [7, {"parent": "root"}]}]}'):
        bad.write_text(text)
        page.get_by_label("File with conversations").set_input_files(bad)
        expect(page.locator("#toast")).to_be_visible()


def test_copying(page):
    script(page, says("Here:\n\n```python\nx = 1\n```\n"))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/")
    say(page, "A program")
    finished(page, 1)
    expect(reply(page).locator("pre .mi")).to_have_text("1")  # highlighted
    page.get_by_role("button", name="Copy the code").click()
    assert page.evaluate("navigator.clipboard.readText()") == "x = 1\n"
    page.get_by_role("button", name="Copy the reply").click()
    assert page.evaluate("navigator.clipboard.readText()") == "Here:\n\n```python\nx = 1\n```"


def test_settings_are_sent_and_kept(page):
    script(page, says("a"))
    page.goto("/")
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_label("System prompt").fill("Answer in capitals.")
    for name, value in (("Temperature", "0.2"), ("Top p", "0.9"), ("Top k", "40"), ("Min p", "0.1"), ("Repetition penalty", "1.2"), ("Longest reply", "50"), ("Seed", "3")):
        page.get_by_role("spinbutton", name=name, exact=True).fill(value)
    page.keyboard.press("Escape")
    say(page, "Hello")
    finished(page, 1)
    asked = page.evaluate("asked")[0]
    assert asked["messages"][0] == {"role": "system", "content": "Answer in capitals."}
    wanted = {"temperature": 0.2, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "repetition_penalty": 1.2, "max_tokens": 50, "seed": 3}
    assert {key: asked[key] for key in wanted} == wanted
    page.reload()
    page.get_by_role("button", name="Settings", exact=True).click()
    expect(page.get_by_role("spinbutton", name="Top k")).to_have_value("40")
    expect(page.get_by_label("System prompt")).to_have_value("Answer in capitals.")
    page.get_by_role("button", name="Back to the defaults").click()
    expect(page.get_by_role("spinbutton", name="Top k")).to_have_value("0")


def test_model_and_tools_are_chosen(page, page_url):
    script(page, says("a"))
    page.goto("/")
    models = page.request.get(f"{page_url}/v1/models").json()["data"]
    select = page.get_by_role("combobox", name="Model")
    expect(select).to_have_value(models[0]["id"])
    tools = [tool["name"] for tool in models[0]["sprout"]["tools"]]
    if tools:
        page.get_by_role("checkbox", name=tools[0], exact=True).uncheck()
    say(page, "Hello")
    finished(page, 1)
    asked = page.evaluate("asked")[0]
    assert asked["model"] == models[0]["id"] and asked["house_tools"] == tools[1:]
    select.select_option(models[-1]["id"])
    say(page, "Hello")
    finished(page, 2)
    assert page.evaluate("asked")[1]["model"] == models[-1]["id"]


CALL = [
    chunk("Let me see.", [token("Let me see.")]),
    chunk("", [token("<|call|>"), token('calculator {"expression": "2 * 21"}')]),
    chunk(call={"name": "calculator", "arguments": '{"expression": "2 * 21"}'}),
    chunk(result="42"),
    chunk("It is 42.", [token("It is 42.")]),
    end(),
]


def test_tool_calls_are_cards_in_the_reply_and_are_sent_back(page):
    script(page, CALL, says("bye"))
    page.goto("/")
    say(page, "What is 2 * 21?")
    finished(page, 1)
    card = reply(page).locator("details.call")
    expect(card.locator("summary")).to_contain_text("calculator")
    expect(card.locator("summary")).to_contain_text("2 * 21 → 42")
    expect(card.get_by_label("Input")).to_be_hidden()
    card.locator("summary").click()
    expect(card.get_by_label("Input")).to_contain_text('"expression": "2 * 21"')
    expect(card.get_by_label("Result")).to_have_text("42")
    assert reply(page).locator(".said > *").evaluate_all("all => all.map((e) => e.tagName)") == ["DIV", "DETAILS", "DIV"]
    say(page, "Thanks")
    finished(page, 2)
    messages = page.evaluate("asked")[1]["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "assistant", "user"]
    assert messages[1]["tool_calls"][0]["function"] == {"name": "calculator", "arguments": '{"expression": "2 * 21"}'}
    assert messages[2]["tool_call_id"] == messages[1]["tool_calls"][0]["id"] and messages[2]["content"] == "42"


def test_a_malformed_call_is_shown(page):
    script(page, [chunk(call=None, raw="calculator {2 *"), chunk(result="Error: no JSON"), chunk("Sorry."), end()])
    page.goto("/")
    say(page, "What is 2 * 21?")
    finished(page, 1)
    expect(reply(page).locator("details.call")).to_contain_text("a call that makes no sense")
    expect(reply(page).locator("details.call")).to_contain_text("calculator {2 *")
    expect(reply(page)).to_contain_text("Sorry.")


def test_looking_inside(page):
    sure, half = token("Hello", 0.99, 11), {**token("\ufffd", 0.05, 12), "bytes": [0xF0, 0x9F]}
    script(page, [chunk("Hello", [sure]), chunk("", [half]), chunk("\n", [token("\n", 0.4, 13)]), chunk("", [token("<|end|>")]), end()])
    page.goto("/")
    say(page, "Hi there")
    finished(page, 1)
    page.get_by_role("button", name="Look inside", exact=True).click()
    tokens = reply(page).locator(".tokens .token")
    expect(tokens).to_have_text(["Hello", "‹f0 9f›", "↵", "<|end|>"])
    assert [c.split()[1] for c in tokens.evaluate_all("all => all.map((t) => t.className)") if "special" not in c] == ["sure", "surprising", "torn"]
    tokens.nth(1).click()
    card = page.get_by_role("dialog", name="Token ‹f0 9f›")
    expect(card).to_contain_text("5.00 %")
    expect(card).to_contain_text("12")
    expect(card).to_contain_text("f0 9f")
    expect(card.locator("li")).to_have_count(5)  # it, three others, and all others
    expect(card.locator("li.chosen")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(card).to_have_count(0)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Token Hello")).to_be_visible()
    page.keyboard.press("Escape")
    mine = page.locator(".turn.user .tokens .token")  # what was typed, cut by the server
    assert mine.count() >= 2 and "".join(mine.all_inner_texts()).replace("\xa0", " ") == "Hi there"
    mine.first.hover()
    expect(page.get_by_role("tooltip")).to_contain_text("bytes")
    page.get_by_role("button", name="Look inside", exact=True).click()
    expect(reply(page).locator(".said")).to_be_visible()
    expect(tokens.first).to_be_hidden()
    page.get_by_role("button", name="Look inside this reply").click()
    expect(tokens.first).to_be_visible()


def test_side_by_side(page, page_url):
    page.goto("/#compare")
    stages = {model["sprout"]["stage"] for model in page.request.get(f"{page_url}/v1/models").json()["data"]}
    columns = page.locator(".column")
    expect(columns).to_have_count(4)
    page.get_by_role("textbox", name="Ask every stage the same").fill("Who are you?")
    page.keyboard.press("Enter")
    expect(page.locator(".asked")).to_have_text("Who are you?")
    expect(page.locator(".column .foot:visible")).to_have_count(len(stages))
    for stats in page.locator(".column .stats").all():
        expect(stats).to_contain_text("tokens/s")


@pytest.mark.parametrize("view", ["chat", "compare"])
def test_who_asks_before_the_models_are_known_is_answered(page, view):
    held = []
    page.route("**/v1/models", lambda route: held.append(route))
    script(page, says("here"))
    page.goto(f"/#{view}")
    page.locator(f"#view-{view}").get_by_role("button", name="Who are you?").click()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    assert page.evaluate("asked") == []
    for route in held:
        route.continue_()
    expect(page.locator(f"#view-{view} .reply .foot:visible").last).to_be_visible()
    asked = page.evaluate("asked")
    assert asked and all(body["model"] for body in asked), asked


def test_side_by_side_is_stopped_at_once(page):
    script(page, {"chunks": says(*["word "] * 200), "pause": 50})
    page.goto("/#compare")
    page.get_by_label("The base model goes on with the text").uncheck()
    page.get_by_role("button", name="Who are you?").click()
    expect(page.locator(".column .said").last).to_contain_text("word word")
    page.get_by_role("button", name="Stop").click()
    notes = page.locator(".column .note:visible")
    expect(notes.first).to_have_text("Stopped.")
    expect(notes).to_have_count(page.locator(".column .reply").count())
    assert len({(body["messages"][0]["content"], body["seed"]) for body in page.evaluate("asked")}) == 1


def test_watching_it_grow(page):
    growing(page)
    page.goto("/")
    page.get_by_role("link", name="Watch it grow").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("“default” is growing")
    expect(page.locator("#view-grow")).to_contain_text("about 5 min 12 s left")
    expect(page.locator(".stage")).to_have_count(4)
    expect(page.locator(".stage").first).to_contain_text("1.2 %")
    expect(page.get_by_role("progressbar", name="Midtrained: steps")).to_have_attribute("aria-valuenow", "33")
    expect(page.locator(".sample")).to_contain_text("Who are <b>you</b>?")
    chart = page.locator(".curve").first
    assert chart.locator("polyline").count() == 2 and chart.locator("text.tick").count() > 6
    expect(chart.locator(".readout")).to_have_text("Midtrained, step 300: loss 0.90")
    chart.locator(".curve-stage").focus()
    page.keyboard.press("Home")
    expect(chart.locator(".readout")).to_have_text("Base, step 0: loss 7.30")
    chart.locator("summary").click()
    expect(chart.locator("tbody tr")).to_have_count(6)
    stages = [{**stage, "state": "done", "step": stage["steps"], "score": 0.95, "bpb": 1.0} for stage in STATE["stages"]]
    growing(page, state="done", stage=None, seconds_left=None, tokens_per_s=None, report=True, stages=stages)
    expect(page.get_by_role("heading", level=1)).to_have_text("“default” is grown")
    expect(page.frame_locator("iframe").get_by_role("heading")).to_have_text("The report of the run")
    expect(page.get_by_role("link", name="Open it by itself")).to_have_attribute("href", "/report")


def test_without_a_run_there_is_nothing_to_watch(page):
    page.route("**/grow/state", lambda route: route.fulfill(status=404, json={"error": {"message": "no run"}}))
    page.goto("/")
    expect(page.get_by_role("combobox", name="Model")).to_be_enabled()
    page.wait_for_timeout(300)
    expect(page.get_by_role("link", name="Watch it grow")).to_be_hidden()
    page.goto("/#grow")
    expect(page.locator("#view-grow")).to_contain_text("not started on a run")


@pytest.mark.parametrize(("finish", "said"), [("length", "reached the limit"), ("context", "context of")])
def test_a_cut_is_said(page, finish, said):
    script(page, says("and so", finish=finish))
    page.goto("/")
    say(page, "Go on")
    expect(reply(page).locator(".note")).to_contain_text(said)


def test_a_server_that_is_away_is_waited_for(page):
    page.route("**/v1/models", lambda route: route.abort())
    page.goto("/")
    banner = page.locator("#banner")
    expect(banner).to_contain_text("The server does not answer")
    page.unroute("**/v1/models")
    banner.get_by_role("button", name="Try again").click()
    expect(banner).to_be_hidden()
    page.route("**/v1/chat/completions", lambda route: route.abort())
    say(page, "Hello")
    expect(reply(page).get_by_role("alert")).to_contain_text("The server does not answer")
    page.unroute("**/v1/chat/completions")
    reply(page).get_by_role("button", name="Try again").click()
    finished(page, 1)
    expect(reply(page).get_by_role("alert")).to_have_count(0)


def test_a_broken_stream_keeps_what_came(page):
    script(page, {"chunks": says("one ", "two ")[:2], "snap": True}, {"chunks": [chunk("three"), {"error": {"message": "it fell over"}}]})
    page.goto("/")
    say(page, "Count")
    expect(reply(page).get_by_role("alert")).to_contain_text("broke off")
    expect(reply(page)).to_contain_text("one two")
    reply(page).get_by_role("button", name="Try again").click()
    expect(reply(page).get_by_role("alert")).to_contain_text("it fell over")
    expect(reply(page)).to_contain_text("three")


def test_a_busy_server_says_when_to_try_again(page):
    script(page, {"status": 429, "headers": {"Retry-After": "2"}}, says("now"))
    page.goto("/")
    say(page, "Hello")
    alert = reply(page).get_by_role("alert")
    expect(alert).to_contain_text("Try again in 2 s")
    again = alert.get_by_role("button", name="Try again")
    expect(again).to_be_disabled()
    expect(again).to_be_enabled()
    again.click()
    expect(reply(page).locator(".said")).to_have_text("now")


def test_a_key_is_asked_for(page):
    locked = {"now": True}

    def gate(route):
        if route.request.url.endswith("/login"):
            locked["now"] = route.request.post_data_json != {"key": "sesame"}
        elif not locked["now"]:
            return route.continue_()
        if locked["now"]:
            return route.fulfill(status=401, json={"error": {"message": "no"}})
        return route.fulfill(json={})

    for path in ("login", "v1/**", "grow/**", "tokenize", "render"):
        page.route(f"**/{path}", gate)
    page.goto("/")
    dialog = page.get_by_role("dialog", name="This server wants a key")
    dialog.get_by_label("Key").fill("guess")
    dialog.get_by_role("button", name="Unlock").click()
    expect(dialog).to_contain_text("does not fit")
    dialog.get_by_label("Key").fill("sesame")
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("combobox", name="Model")).to_be_enabled()


HOSTILE = """<script>window.hacked = 1; alert(1)</script> <img src=x onerror="window.hacked = 1"> <svg onload="window.hacked = 1">
[click](javascript:window.hacked=1) ![pixel](https://evil.example/pixel.png) <iframe src="https://evil.example"></iframe>
<b style="position:fixed" onclick="window.hacked=1">bold</b> <style>body { display: none }</style>"""


def test_a_hostile_reply_does_nothing(page):
    bad = token("<img src=x onerror=window.hacked=1>")
    call = chunk(call={"name": "<img src=x onerror=window.hacked=1>", "arguments": HOSTILE})
    script(page, [chunk(HOSTILE, [bad]), call, chunk(result=HOSTILE), end()])
    page.goto("/")
    say(page, HOSTILE)
    finished(page, 1)
    page.wait_for_timeout(600)
    page.get_by_role("button", name="Look inside", exact=True).click()
    reply(page).locator(".token").first.click()
    page.keyboard.press("Escape")
    page.reload()
    finished(page, 1)
    assert page.evaluate("window.hacked") is None
    assert page.locator("#view-chat").locator("script, iframe, img, style, [onerror], [onclick], [href^=javascript]").count() == 0
    expect(reply(page)).to_contain_text("<script>window.hacked = 1; alert(1)</script>")
