"""Readers that take a report at its word: GitHub's runner, its Markdown, JUnit's readers, the schema of SARIF."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from typing import Any, NamedTuple, NoReturn
from urllib.parse import unquote
from xml.etree import ElementTree

from cmarkgfm.cmark import Options, markdown_to_html_with_extensions
from junitparser import JUnitXml
from lxml import etree

REGISTERED = {"error", "warning", "notice", "set-output", "add-mask", "stop-commands", "save-state", "set-env", "debug"}


class Command(NamedTuple):
    name: str
    properties: dict[str, str]
    message: str


def commands(text: str) -> tuple[list[Command], list[str]]:
    """What a runner makes of the output of a step: the commands, and the other lines."""
    found, rest = [], []
    for line in re.split(r"\r\n|\r|\n", text):
        command = _command(line)
        if command is not None:
            found.append(command)
        elif line:
            assert "##[" not in line, line
            rest.append(line)
    return found, rest


def _command(line: str) -> Command | None:
    start, *middle = line.lstrip().split("::", 2)
    if start or len(middle) < 2:
        return None
    name, _, properties = middle[0].partition(" ")
    if name not in REGISTERED:
        return None
    pairs = [item.split("=", 1) for item in properties.split(",") if item]
    return Command(name, {key: _unescaped(value) for key, value in pairs}, _unescaped(middle[1]))


def _unescaped(text: str) -> str:
    for escape, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(escape, char)
    return text


def junit(text: str) -> etree._Element:
    """The suites, after three parsers have agreed on them."""
    assert text.isascii()
    data = text.encode()
    root = etree.fromstring(data, etree.XMLParser(huge_tree=True))
    assert ElementTree.fromstring(data).attrib == root.attrib
    suites = list(JUnitXml.fromstring(data))
    assert [suite.name for suite in suites] == [suite.get("name") for suite in root]
    for element, suite in zip(root, suites, strict=True):
        cases = element.findall("testcase")
        assert len({(case.get("classname"), case.get("name")) for case in cases}) == len(cases) == suite.tests
        assert suite.failures == len(element.findall("testcase/failure"))
    assert int(root.get("tests")) == len(root.findall("testsuite/testcase"))
    assert int(root.get("failures")) == len(root.findall("testsuite/testcase/failure"))
    return root


def sarif(text: str) -> Any:
    """The run of a document that the schema takes, with texts that every reader can."""
    document = json.loads(text, parse_constant=_refuse)
    if sys.version_info >= (3, 11):
        from sarif_kit.validate import validation_errors

        assert validation_errors(document) == []
    (run,) = document["runs"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert "](" not in result["message"]["text"]
        for location in result["locations"]:
            uri = location["physicalLocation"]["artifactLocation"]["uri"]
            assert re.fullmatch(r"file:///|(file:///)?[A-Za-z0-9._~%-]+(/[A-Za-z0-9._~%-]+)*", uri), uri
            assert ".." not in unquote(uri).split("/"), uri
    fingerprints = [next(iter(result["partialFingerprints"].values())) for result in run["results"]]
    assert len(set(fingerprints)) == len(fingerprints)
    for value in _texts({**run, "tool": None}):
        assert value.isprintable(), value
    return run


def _refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [*value, *(text for item in value.values() for text in _texts(item))]
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []


class Rendered(NamedTuple):
    """What GitHub shows: the cells of each row, the texts in code, and the text outside of it."""

    rows: list[list[str]]
    code: list[str]
    text: str
    tags: set[str]


def markdown(text: str) -> Rendered:
    """The report as GitHub renders it, after a look for what no name may bring about."""
    options = Options.CMARK_OPT_UNSAFE | Options.CMARK_OPT_FOOTNOTES
    html = markdown_to_html_with_extensions(text, options, ["table", "autolink", "strikethrough", "tasklist"])
    page = _Page()
    page.feed(html)
    page.close()
    shown = "".join(page.text)
    # What GitHub looks for in the text of a page that was rendered already.
    for pattern in (r"@\w", r"#\d", r"\bGH-\d", r"://", r"\bwww\.", r"\b[0-9a-f]{7,40}\b", r":\w+:", r"\$"):
        assert not re.search(pattern, shown, re.IGNORECASE), (pattern, shown)
    allowed = {"h2", "h3", "p", "ul", "li", "strong", "br", "code", "pre"}
    assert page.tags <= allowed | {"table", "thead", "tbody", "tr", "th", "td"}, page.tags
    return Rendered(page.rows, page.code, shown, page.tags)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.code: list[str] = []
        self.text: list[str] = []
        self.tags: set[str] = set()
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert {name for name, _ in attrs} <= {"align", "class"}, attrs
        self.tags.add(tag)
        if tag == "br":
            return
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "code":
            self.code.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag != "br":
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self._open or "th" in self._open:
            self.rows[-1][-1] += data
        if "code" in self._open:
            self.code[-1] += data
        else:
            self.text.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(decl)
