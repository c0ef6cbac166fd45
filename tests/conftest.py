import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests run two at a time


# The files that take longest, longest first: begun first, so that the two processes end together.
LONGEST = ("scale grow memory readme attention bench bad_input compiled_twice page page_everybody loss bits serve_life page_real speed chat "
           "optim serve_fuzz live stream world_show native_decoder").split()  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {f"test_{name}": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(autouse=True)
def numbers_as_they_are():
    """Growing in this process turns the smallest floats off, which hypothesis can't do without, and may leave threads that wait
    for work by spinning."""
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)
        torch.set_num_threads(1)


@pytest.fixture
def float32(monkeypatch):
    """The decoder's products in float32, also where integers of 16 bits are faster."""
    monkeypatch.setenv("SPROUT_NATIVE_DECODER", "float32")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of shared test data, named by SPROUT_DATA."""
    where = os.environ.get("SPROUT_DATA")
    if not where:
        pytest.skip("SPROUT_DATA does not name the folder of test data")
    return Path(where)


@pytest.fixture(scope="session")
def small_world():
    from sprout.world import WorldConfig, build_world

    return build_world(WorldConfig(people=12, strangers=200, places=4, shops=3, inventions=3))


@pytest.fixture(scope="session")
def tokenizer(small_world):
    import itertools

    from sprout.data import world_problems, world_texts
    from sprout.tokenizer import Tokenizer

    texts = list(itertools.islice(world_texts(small_world, 1), 400))
    for p in itertools.islice(world_problems(small_world, 1), 400):
        texts += [m.content for m in (*p.prompt, *p.reply)]
    return Tokenizer.train(texts, 800)


# ------------------------------------------------------------------------------------------------ a sandbox


def namespaces() -> bool:
    """Whether this system lets us have namespaces, asked of a tool that knows nothing of ours."""
    words = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--mount", "--fork", "true"]
    return shutil.which("unshare") is not None and subprocess.run(words, capture_output=True).returncode == 0


@pytest.fixture
def box() -> None:
    """Tests that use this need a sandbox. Where the system would allow one, its absence is a failure."""
    from sprout.engine.sandbox import why_unavailable

    if reason := why_unavailable():
        (pytest.fail if namespaces() else pytest.skip)(reason)


# ------------------------------------------------------------------------------------------------ a browser

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip


def no_browser(why: str) -> None:
    """Skip, on a person's machine; in CI a browser must be there."""
    if os.environ.get("CI"):
        pytest.fail(f"no browser: {why}")
    pytest.skip(f"no browser: {why}")


@pytest.fixture(scope="module")  # while Playwright is at work, the tests of other modules could run no event loop
def browser():
    """The distribution's Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the page's tests need Playwright")
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        no_browser(f"expected one of {', '.join(CHROMIUM)} to be installed")
    with sync_api.sync_playwright() as play:
        try:
            browser = play.chromium.launch(executable_path=found, args=list(QUIET))
        except sync_api.Error as error:
            no_browser(f"it does not start: {str(error)[:200]}")
        yield browser
        browser.close()


@pytest.fixture
def page(browser, page_url):
    """A fresh browser's page. Whatever a test does, the page must log no error and ask no other machine for anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, base_url=page_url, accept_downloads=True)
    context.set_default_timeout(20_000)
    page, trouble = context.new_page(), []

    def heard(said):
        # What the browser itself writes about an answer that isn't 200: the page can't help it, but for its own files.
        own = "/page/" in said.location.get("url", "")
        if said.type in ("error", "warning") and (own or not said.text.startswith("Failed to load resource")):
            trouble.append(f"console: {said.text}")

    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("console", heard)
    page.on("dialog", lambda dialog: trouble.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: None if request.url.startswith((page_url, "data:", "blob:")) else trouble.append(f"asked {request.url}"))
    yield page
    context.close()
    assert not trouble
