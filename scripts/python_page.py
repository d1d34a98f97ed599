"""docs/python.md: the public names with their signatures and docstrings. ``generate_docs.py`` writes it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import ckpt_doctor
import ckpt_doctor.gate
import ckpt_doctor.integrations

_POLICY = re.compile(r"Policy\(.*?\(\)\)")
"""The default of an argument as Python shows it."""
_FUNCTION = re.compile(r"<function (\w+) at 0x[0-9a-f]+>")
_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")


def lines() -> Iterator[str]:
    """The page below its heading."""
    yield from (
        "# Python",
        "",
        "`import ckpt_doctor` imports neither torch nor any other part of the package. Each name is imported when",
        'it is first used. Names marked "Needs `verify`" load models; they need `pip install ".[verify]"`.',
        "",
        "```python",
        "import ckpt_doctor",
        "",
        'report = ckpt_doctor.inspect("fixtures/healthy/peft/lora")',
        "print(report.healthy, [finding.code for finding in report.findings])",
        'checkpoint = ckpt_doctor.open_checkpoint("fixtures/healthy/peft/lora")',
        "print(checkpoint.layout, len(checkpoint.tensors))",
        "```",
    )
    public = {name: getattr(ckpt_doctor, name) for name in ckpt_doctor.__all__ if not name.startswith("__")}
    functions = {name: item for name, item in public.items() if inspect.isfunction(item)}
    errors = {name: item for name, item in public.items() if inspect.isclass(item) and issubclass(item, Exception)}
    values = {name: item for name, item in public.items() if name not in functions and name not in errors}
    assert all(map(inspect.isclass, values.values())), values
    yield from ("", "## Functions")
    for name, item in functions.items():
        yield from _function(f"ckpt_doctor.{name}", item)
    for module in (ckpt_doctor.gate, ckpt_doctor.integrations):
        yield from ("", f"## {module.__name__}", "", _plain(module.__doc__))
        for name in module.__all__:
            item = getattr(module, name)
            if inspect.isfunction(item):
                yield from _function(f"{module.__name__}.{name}", item)
            elif inspect.isclass(item):
                yield from _class(name, item)
    yield from ("", "## Values")
    for name, item in values.items():
        yield from _class(name, item)
    yield from ("", "## Errors", "", "| error | is a | when |", "|---|---|---|")
    for name, item in errors.items():
        yield f"| `{name}` | `{item.__base__.__name__}` | {' '.join(_plain(item.__doc__).split())} |"


def _function(name: str, item: Any) -> Iterator[str]:
    module = item.__module__
    yield from ("", f"### {name}", "")
    if module.startswith("ckpt_doctor.verification"):
        yield from ("Needs `verify`.", "")
    yield from ("```python", _signature(name.rpartition(".")[2], item), "```", "", _plain(item.__doc__))


def _class(name: str, item: type) -> Iterator[str]:
    yield from ("", f"### {name}", "", _plain(item.__doc__))
    members = [(member, value) for member, value in vars(item).items() if _is_public(member, value)]
    if members:
        yield from ("", "| member | what |", "|---|---|")
    for member, value in members:
        function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        shown = member if isinstance(value, property) else f"{member}{_parameters(function)}"
        summary = " ".join(_plain(value.__doc__).split("\n\n")[0].split())
        yield f"| `{shown}` | {summary} |".replace("\n", " ")


def _is_public(name: str, value: Any) -> bool:
    shown = isinstance(value, (property, classmethod, staticmethod)) or inspect.isfunction(value)
    return shown and not name.startswith("_") and bool(value.__doc__)


def _signature(name: str, item: Any) -> str:
    signature = _POLICY.sub("Policy()", str(inspect.signature(item)).replace("'", ""))
    signature = _FUNCTION.sub(r"\1", signature)
    if len(name + signature) <= 100:
        return name + signature
    parameters, _, result = signature[1:].rpartition(") -> ")
    depth, parts, part = 0, [], ""
    for sign in parameters:
        depth += (sign in "[(") - (sign in "])")
        if sign == "," and not depth:
            parts.append(part.strip())
            part = ""
        else:
            part += sign
    return "\n".join([f"{name}(", *(f"    {one}," for one in [*parts, part.strip()]), f") -> {result}"])


def _parameters(function: Any) -> str:
    names = [str(one).partition(":")[0] for one in inspect.signature(function).parameters.values()]
    return f"({', '.join(name for name in names if name not in ('self', 'cls'))})".replace("|", "\\|")


def _plain(text: str | None) -> str:
    """A docstring as Markdown, with its examples as code."""
    blocks = _ROLE.sub(r"`\1`", inspect.cleandoc(text or "")).replace("``", "`").split("\n\n")
    return "\n\n".join(f"```pycon\n{block}\n```" if block.startswith(">>>") else block for block in blocks)
