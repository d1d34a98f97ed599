"""Write the pages under docs/ that say what the code says: rules, commands, Python, JSON, rooms.

    python scripts/generate_docs.py [--check]

With ``--check`` nothing is written, and the exit code is 1 where a page is not up to date.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

REPOSITORY = Path(__file__).parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "scripts")]

import json_schemas  # noqa: E402
import python_page  # noqa: E402
import rooms  # noqa: E402
import terminal_picture  # noqa: E402

from ckpt_doctor.cli.root import cli  # noqa: E402
from ckpt_doctor.core.results import RuleInfo  # noqa: E402
from ckpt_doctor.rules import RULES  # noqa: E402

MARK = "<!-- Written by scripts/generate_docs.py from the code. -->"
FIXES = {"none": "none", "safe": "safe", "unsafe": "unsafe, on request"}
GROUPS = {
    "0": "Loading",
    "1": "File",
    "2": "Layout",
    "3": "Keys",
    "4": "Aliasing",
    "5": "Config and shape",
    "6": "Values",
    "7": "Shards",
    "8": "Training state and contracts",
    "9": "Security",
}
"""What the first digit of a code stands for."""
ARCHITECTURE = Path("docs/architecture.md")
ROOMS_BEGIN, ROOMS_END = "<!-- rooms: written from scripts/rooms.py -->", "<!-- end -->"
REFERENCE = re.compile(r"(?<![\w/])([\w.-]+/[\w.-]+)#(\d+)")


def pages() -> dict[Path, str]:
    """Every generated page by its path, relative to the repository."""
    rules = [rule.info() for rule in RULES]
    found = {Path("docs/rules") / f"{rule.code}.md": "\n".join(rule_page(rule)) for rule in rules}
    found[Path("docs/rules/README.md")] = "\n".join(rule_table(rules))
    found[Path("docs/commands.md")] = "\n".join(command_page())
    found[Path("docs/python.md")] = "\n".join((MARK, "", *python_page.lines()))
    found[ARCHITECTURE] = with_rooms((REPOSITORY / ARCHITECTURE).read_text(encoding="utf-8"))
    found.update(json_schemas.pages())
    found.update(terminal_picture.pages(REPOSITORY))
    return {path: text.rstrip("\n") + "\n" for path, text in found.items()}


def with_rooms(page: str) -> str:
    """The page about the architecture, with its table of rooms as the imports are held to it."""
    before, begin, rest = page.partition(ROOMS_BEGIN)
    _, end, after = rest.partition(ROOMS_END)
    assert begin and end, "the page has no place for the rooms"
    return "\n".join((before + begin, *rooms.table(), end + after))


def rule_page(rule: RuleInfo) -> Iterator[str]:
    """What ``explain`` says, with links."""
    yield from (MARK, "", f"# {rule.code} {rule.name}", "")
    facts = [f"Severity: {rule.severity.value}", f"needs: {rule.needs}", f"fix: {FIXES[rule.fix]}"]
    yield " · ".join(facts)
    yield ""
    yield REFERENCE.sub(r"[\1#\2](https://github.com/\1/issues/\2)", rule.documentation)


def rule_table(rules: list[RuleInfo]) -> Iterator[str]:
    """All rules by group."""
    yield from (
        MARK,
        "",
        "# Rules",
        "",
        f"{len(rules)} rules. `ckpt-doctor explain CODE` shows a page in the terminal.",
    )
    for digit, title in GROUPS.items():
        group = [rule for rule in rules if rule.code[3] == digit]
        if group:
            yield from ("", f"## {title}", "", "| code | name | severity | fix | what |", "|---|---|---|---|---|")
        for rule in group:
            fix = "" if rule.fix == "none" else rule.fix
            summary = rule.summary.replace("|", "\\|")
            yield f"| [{rule.code}]({rule.code}.md) | {rule.name} | {rule.severity.value} | {fix} | {summary} |"


def command_page() -> Iterator[str]:
    """What ``--help`` says of every command."""
    yield from (MARK, "", "# Commands", "")
    yield "| command | does |\n|---|---|"
    context = click.Context(cli, info_name="ckpt-doctor")
    commands = [(name, cli.get_command(context, name)) for name in cli.list_commands(context)]
    for name, command in commands:
        assert command is not None
        yield f"| [`{name}`](#{name}) | {command.short_help} |"
    for name, command in commands:
        assert command is not None
        own = click.Context(command, info_name=name, parent=context)
        yield from ("", f"## {name}", "", "```", own.get_usage().removeprefix("Usage: "), "```", "")
        yield from paragraphs(command)
        records = [record for item in command.params if (record := item.get_help_record(own)) and record[1]]
        yield from ("", "| option | meaning |", "|---|---|")
        for option, meaning in records:
            yield f"| `{cell(option)}` | {cell(' '.join(meaning.split()))} |"


def paragraphs(command: click.Command) -> Iterator[str]:
    """The text of the help; an indented block behind a form feed or backspace stays as it is."""
    text = inspect.cleandoc(command.help or "").partition("\f")[0]
    for number, block in enumerate(text.split("\n\n")):
        if number:
            yield ""
        if block.startswith("\b"):
            yield from ("```", block.removeprefix("\b").strip("\n"), "```")
        else:
            yield " ".join(block.split())


def cell(text: str) -> str:
    """``text`` in a cell of a table."""
    return text.replace("|", "\\|")


def main() -> None:
    """Write or compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    wanted = pages()
    generated = ((REPOSITORY / "docs" / "rules").glob("*.md"), (REPOSITORY / "docs" / "schema").glob("*.json"))
    old = {path.relative_to(REPOSITORY) for folder in generated for path in folder} - wanted.keys()
    stale = [path for path, text in wanted.items() if not is_current(path, text)]
    if options.check:
        for path in sorted([*stale, *old]):
            print(f"{path} is not up to date: python scripts/generate_docs.py", file=sys.stderr)
        sys.exit(bool(stale or old))
    for path in stale:
        (REPOSITORY / path).parent.mkdir(parents=True, exist_ok=True)
        (REPOSITORY / path).write_text(wanted[path], encoding="utf-8")
    for path in old:
        (REPOSITORY / path).unlink()


def is_current(path: Path, text: str) -> bool:
    """Whether the page is as it should be."""
    file = REPOSITORY / path
    return file.is_file() and file.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    main()
