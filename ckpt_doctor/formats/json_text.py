"""Parsing JSON with what the standard parser lets pass kept visible: names that an object repeats.

``json.loads`` keeps the last of two equal names and says nothing, while a program in another language may keep the
first: both a shard index and a safetensors header can say two things at once that way.
"""

from __future__ import annotations

import json
import sys
from typing import Any

_TOO_DEEP = "it is nested too deeply"


class JsonError(ValueError):
    """Text that is not JSON, or JSON that this program will not take apart; the message says where and why."""


class RepeatingObject(dict[str, Any]):
    """A JSON object that names something twice: holds the last value of each name, and the names in ``repeated``."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        seen: set[str] = set()
        again = []
        for name, _ in pairs:
            if name in seen:
                again.append(name)
            seen.add(name)
        self.repeated: tuple[str, ...] = tuple(dict.fromkeys(again))


def repeated(value: object) -> tuple[str, ...]:
    """The names that a parsed object holds more than once.

    >>> repeated(parse('{"a": 1, "b": 2, "a": 3}')), repeated(parse("{}"))
    (('a',), ())
    """
    return value.repeated if isinstance(value, RepeatingObject) else ()


def parse(text: str, *, strict: bool = False, depth: int | None = None) -> Any:
    """Parse ``text``; raises :class:`JsonError`. ``strict`` refuses NaN, Infinity and -0 as the JSON of Rust does.

    -0 is a float there, and so is no size of a tensor; the standard parser makes it the integer 0. ``depth`` is how
    many levels of objects and lists there may be, so that whoever walks through them may do it recursively.
    """
    options: dict[str, Any] = {}
    if strict:
        options["parse_constant"] = _refuse_constant
        if "-0" in text:  # rarely there, and calling back for each integer of a large header takes time
            options["parse_int"] = _integer
    try:
        value = json.loads(text, object_pairs_hook=_object, **options)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise JsonError(f"{error.msg.removesuffix(' at')} at {place}") from None
    except RecursionError:
        raise JsonError(_TOO_DEEP) from None
    except JsonError:
        raise
    except ValueError:  # the interpreter converts only integers of up to sys.get_int_max_str_digits() digits
        raise JsonError("it holds an integer with thousands of digits") from None
    if depth is not None and _is_deeper(value, depth):
        raise JsonError(_TOO_DEEP)
    return value


def _is_deeper(value: object, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
            if isinstance(child, (dict, list))
        ]
    return bool(level)


def rust_refuses(value: object, depth: int) -> str | None:
    """Why serde_json, which the safetensors crate uses, would refuse a value that stands ``depth`` levels deep.

    Its limits: 127 levels, numbers within a double, strings that are Unicode (no unpaired surrogate escapes).
    """
    queue = [(value, depth)]
    while queue:
        item, level = queue.pop()
        if isinstance(item, str):
            if has_lone_surrogate(item):
                return "it holds an unpaired surrogate escape"
        elif isinstance(item, (int, float)):
            if abs(item) > sys.float_info.max:
                return "it holds a number that is out of range"
        elif isinstance(item, (list, dict)):
            if level > 127:
                return _TOO_DEEP
            queue += [(below, level + 1) for below in (item.values() if isinstance(item, dict) else item)]
            queue += [(name, level + 1) for name in (item if isinstance(item, dict) else ())]
    return None


def has_lone_surrogate(text: str) -> bool:
    r"""True if ``text`` cannot be written as UTF-8: JSON's ``\ud800`` makes such a string.

    >>> has_lone_surrogate(parse(r'"\ud800"')), has_lone_surrogate(parse(r'"\ud83d\ude00"'))
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    return plain if len(plain) == len(pairs) else RepeatingObject(pairs)


def _refuse_constant(name: str) -> Any:
    raise JsonError(f"{name} is not JSON")


def _integer(digits: str) -> int | float:
    return -0.0 if digits == "-0" else int(digits)
