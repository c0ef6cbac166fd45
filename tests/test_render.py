"""Markdown as safe HTML: what a reply may look like survives, and nothing in it runs, loads or styles itself."""

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pygments.lexers import get_lexer_by_name

from sprout.serve.render import (
    ATTRIBUTES,
    DEEPEST,
    LANGUAGES,
    LONGEST_CODE,
    LONGEST_TEXT,
    TAGS,
    TOKEN_CLASSES,
    code_css,
    render,
)


class Found(HTMLParser):
    """All elements of a page, with their attributes."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))


def check_harmless(html: str) -> None:
    """Only what is on the list, and links only to where links may go."""
    for tag, attributes in Found(html).elements:
        assert tag in TAGS
        assert set(attributes) <= ATTRIBUTES.get(tag, set()) | ({"target", "rel"} if tag == "a" else set())
        assert re.match("(https?|mailto):", attributes.get("href") or "https:")
        for name in (attributes.get("class") or "").split():
            assert name in TOKEN_CLASSES or name.removeprefix("language-") in LANGUAGES


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a **b** *c* ~~d~~ `e`", "<p>a <strong>b</strong> <em>c</em> <s>d</s> <code>e</code></p>"),
        ("one\ntwo", "<p>one<br>\ntwo</p>"),
        ("# head", "<h3>head</h3>"),
        ("##### head", "<h3>head</h3>"),
        ("# a\n## b\n#### c\n# d", "<h3>a</h3>\n<h4>b</h4>\n<h5>c</h5>\n<h3>d</h3>"),
        ("- a\n- b", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>"),
        ("3. a", '<ol start="3">\n<li>a</li>\n</ol>'),
        ("> a", "<blockquote>\n<p>a</p>\n</blockquote>"),
        ("---", "<hr>"),
        ("|a|\n|-|\n|1|", "<td>1</td>"),
        ("[a](https://b.example/c)", 'href="https://b.example/c"'),
        ("[a](mailto:b@c.example)", 'href="mailto:b@c.example"'),
        ("```python\nif x: pass\n```", '<pre><code class="language-python"><span class="k">if</span>'),
        ("```nonsense\nif x\n```", "<pre><code>if x\n</code></pre>"),
        ("~~~\n<b>\n~~~", "<pre><code>&lt;b&gt;\n</code></pre>"),
        ("2 < 3 & 4 > 1", "2 &lt; 3 &amp; 4 &gt; 1"),
        ("", ""),
    ],
)
def test_what_a_reply_may_look_like(text, html):
    assert html in render(text)
    check_harmless(render(text))


def test_links_open_elsewhere_and_tell_nothing():
    assert 'target="_blank"' in render("<https://a.example>") and 'rel="noopener noreferrer"' in render("<https://a.example>")


HOSTILE = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//x.example></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    '<img src=x onerror="alert(1)">',
    "<svg onload=alert(1)><animate onbegin=alert(1)></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mtext></p><style><!--</style><img src onerror=alert(1)>",
    '<p style="position:fixed;inset:0" class="drawer" id="live" onclick="alert(1)">x</p>',
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    '<a href="javascript:alert(1)">x</a>',
    "<form action=//x.example><button formaction=javascript:alert(1)>x</button></form>",
    "<base href=//x.example><link rel=stylesheet href=//x.example><meta http-equiv=refresh content=0>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](vbscript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](data:image/svg+xml,<svg onload=alert(1)>)",
    "[x](file:///etc/passwd)",
    "[x](//x.example/a)",
    "[x](/v1/models)",
    "[x][y]\n\n[y]: javascript:alert(1)",
    "<javascript:alert(1)>",
    "![x](https://x.example/pixel.png)",
    "![x](data:image/png;base64,AAAA)",
    '[x](https://a.example "\\" onmouseover=alert(1) ")',
    "```html\n<script>alert(1)</script>\n```",
    '```python" onclick="alert(1)\nx\n```',
    "```<script>\nx\n```",
    "`<script>alert(1)</script>`",
    "# <svg onload=alert(1)>",
    "|<script>|\n|:-:|\n|<img src=x onerror=alert(1)>|",
    "> - 1. <iframe src=//x.example>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<!--><script>alert(1)</script>-->",
    "\0<\0script>alert(1)</script>",
    "\ufffd\u202e<script>\ud7ff",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_hostile_does_nothing(text):
    for form in (text, f"- {text}", f"> {text}", f"**{text}**", f"a\n\n{text}\n\nb", f"{text}\n{text}"):
        check_harmless(render(form))


def test_raw_html_is_shown_as_what_was_written():
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in render("<script>alert(1)</script>")


def test_half_a_character_is_no_error():
    assert render("a \ud83c b") == "<p>a ? b</p>\n"


def test_nothing_is_loaded_for_a_picture():
    assert "<img" not in render("![x](https://x.example/pixel.png)") and "src" not in render("![x](https://x.example/p)")


def test_classes_stand_on_highlighted_code_alone():
    html = render("# a\n\nb `c` **d**\n\n| e |\n|:-:|\n| f |\n\n```js\nlet g = 1;\n```\n\n- h")
    assert {tag for tag, attributes in Found(html).elements if "class" in attributes} == {"code", "span"}
    assert "style" not in html


@given(st.text(max_size=300))
@settings(max_examples=100, deadline=None)
def test_whatever_is_written_is_harmless(text):
    check_harmless(render(text))


PIECES = ["<script>", "</script>", "<a href=", "javascript:", '"', "'", ">", "<!--", "-->", "[", "](", ")", "```html\n", "\n", "onerror=", "&#", "`", "|", "*", "<svg ", "data:"]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
@settings(max_examples=200, deadline=None)
def test_whatever_hostile_pieces_make_is_harmless(text):
    check_harmless(render(text))


@pytest.mark.parametrize("piece", ["> ", "- ", "* a\n", "[", "![", "](", "**a ", "`", "|a", "<a ", "&", "_a*b", "\\", "a\n-\n", "~~", "<!--"])
def test_large_and_deep_input_takes_no_time(piece):
    text = (piece * LONGEST_TEXT)[:LONGEST_TEXT]
    began = time.perf_counter()
    html = render(text)
    assert time.perf_counter() - began < 10  # seconds; half of one on an idle machine
    assert html.count("<blockquote>") <= DEEPEST and html.count("<ul>") <= DEEPEST + LONGEST_TEXT * (piece == "* a\n")
    check_harmless(html)


def test_text_beyond_the_limit_is_shown_plain():
    assert render("*a*" + "<b>" * LONGEST_TEXT).startswith("<pre><code>*a*&lt;b&gt;")


LEXERS = {type(get_lexer_by_name(language)): language for language in sorted(LANGUAGES)}  # some have several names


@pytest.mark.parametrize("language", [x if x == "python" else pytest.param(x, marks=pytest.mark.slow) for x in LEXERS.values()])
def test_hostile_code_takes_no_time(language):
    for piece in ("a", "(", '"', "/*", "<", "{", "$(", "#{", "a b ", "a.", "1.", "\\begin{", "<?php "):
        code = (piece * LONGEST_CODE)[: LONGEST_CODE - 1]
        began = time.perf_counter()
        html = render(f"~~~~{language}\n{code}\n~~~~")
        assert time.perf_counter() - began < 10
        check_harmless(html)


def test_long_code_is_not_highlighted():
    html = render("```python\n" + "if x: pass\n" * LONGEST_CODE + "```")
    assert "<span" not in html and html.count("if x: pass") > 1000


def test_the_stylesheet_has_both_themes_and_only_colours():
    css = code_css()
    assert 'code[class] .k {' in css and '[data-theme="dark"] code[class] .k {' in css
    assert "url(" not in css and "@import" not in css and "background: " not in css
    used = set(re.findall(r'class="(\w+)"', render("```python\nclass A:\n    '''b'''\n    def c(self): return 1.5 # d\n```")))
    assert used - {"n", "p", "w"} <= set(re.findall(r"\.(\w+) \{", css))
