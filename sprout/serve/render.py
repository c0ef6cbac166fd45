"""Markdown that a model wrote, as HTML that a page may show.

Three steps, each of which would do on its own: markdown-it reads the text with raw HTML switched off, Pygments marks
code with short class names, and nh3 (an HTML parser with an allow list) throws out whatever is not on the list below.
Nothing comes out that runs, loads, or styles itself: no script, no event handler, no image, no style attribute, no link
but to http, https and mailto, and no class but those of highlighted code.
"""

from __future__ import annotations

import html
import re
from collections.abc import MutableMapping, Sequence
from functools import cache
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES

LONGEST_TEXT = 50_000  # characters; what is longer is shown as it is, without markup
LONGEST_CODE = 5_000  # characters of a block of code; what is longer is not highlighted
DEEPEST = 20  # quotes and lists inside each other; below that the text is dropped
LIGHT, DARK = "xcode", "github-dark"  # Pygments styles with enough contrast on the page (WCAG AA)

TAGS = set(
    "p br hr h3 h4 h5 h6 strong em s code pre span blockquote ul ol li a table thead tbody tr th td".split()
)  # fmt: skip
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}, "span": {"class"}, "code": {"class"}}
TOKEN_CLASSES = {name for name in STANDARD_TYPES.values() if name}
LANGUAGES = frozenset(
    "bash c c++ cpp css diff go haskell html java javascript js json kotlin latex lua markdown md "
    "perl php py python r ruby rust scala sh shell sql swift tex toml ts typescript xml yaml yml".split()
)  # a list, not all 500: each of these was tried on hostile text, see tests/test_render.py


def render(text: str) -> str:
    """Markdown as safe HTML. Line breaks are kept, headings begin at h3 (a reply stands below the page's own)."""
    text = text.encode(errors="replace").decode()  # half a surrogate pair, which JSON can carry, is no character
    if len(text) > LONGEST_TEXT:
        return f"<pre><code>{html.escape(text)}</code></pre>"
    return nh3.clean(
        _markdown().render(text),
        tags=TAGS,
        attributes=ATTRIBUTES,
        attribute_filter=_attribute,
        url_schemes={"http", "https", "mailto"},
        url_relative="deny",
        set_tag_attribute_values={"a": {"target": "_blank"}},
        link_rel="noopener noreferrer",
    )


@cache
def _markdown() -> MarkdownIt:
    """CommonMark with tables and strike-through; no raw HTML and no pictures."""
    options = {"html": False, "breaks": True, "linkify": False, "typographer": False, "maxNesting": DEEPEST}
    markdown = MarkdownIt("commonmark", options).enable(["table", "strikethrough"]).disable("image")
    markdown.add_render_rule("heading_open", _heading)
    markdown.add_render_rule("heading_close", _heading)
    markdown.add_render_rule("fence", _fence)
    return markdown


def _heading(
    self: RendererHTML, tokens: Sequence[Token], i: int, options: OptionsDict, env: MutableMapping[str, Any]
) -> str:
    """None is more than one level below the one before, so that the page's outline stays one."""
    if tokens[i].nesting == -1:
        return f"</h{env['level']}>\n"
    env["level"] = min(int(tokens[i].tag[1:]) + 2, env.get("level", 2) + 1, 6)
    return f"<h{env['level']}>"


def _fence(
    self: RendererHTML, tokens: Sequence[Token], i: int, options: OptionsDict, env: MutableMapping[str, Any]
) -> str:
    """A block of code; `language-...` on it tells the page what to write above it."""
    code, language = tokens[i].content, (tokens[i].info.split() or [""])[0].lower()
    if language not in LANGUAGES:
        return f"<pre><code>{html.escape(code)}</code></pre>\n"
    marked = html.escape(code) if len(code) > LONGEST_CODE else highlight(code, _lexer(language), _plain_formatter())
    return f'<pre><code class="language-{language}">{marked}</code></pre>\n'


@cache
def _lexer(language: str) -> Any:
    return get_lexer_by_name(language, stripnl=False)


@cache
def _plain_formatter() -> HtmlFormatter:
    return HtmlFormatter(nowrap=True)  # spans with classes, nothing around them


def _attribute(tag: str, name: str, value: str) -> str | None:
    """Keeps a class only where it is one of highlighted code."""
    if name != "class":
        return value
    if tag == "code":
        return value if value.removeprefix("language-") in LANGUAGES else None
    return value if value and set(value.split()) <= TOKEN_CLASSES else None


@cache
def code_css() -> str:
    """The stylesheet of highlighted code, for light and, below [data-theme="dark"], for dark pages. The colours of the
    code's box are the page's own."""
    light = _rules(LIGHT, "code[class]")
    dark = _rules(DARK, '[data-theme="dark"] code[class]')
    return f"/* Pygments, {LIGHT} and {DARK}. */\n{light}\n{dark}\n"


def _rules(style: str, below: str) -> str:
    """The rules for kinds of tokens alone: not for line numbers, the page's background or errors, which a half-written
    block is full of."""
    rules = HtmlFormatter(style=style).get_style_defs(below).splitlines()
    kind = re.compile(re.escape(below) + r" \.(\w+) \{")
    return "\n".join(rule for rule in rules if (m := kind.match(rule)) and m[1] in TOKEN_CLASSES - {"err"})
