"""``[[layouts]]``: the tables in which a team describes its own checkpoints, as definitions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ckpt_doctor.core.layout import RESERVED_ROLES, Form, Layout, LayoutPart, LayoutSize
from ckpt_doctor.core.policy import EXPECTATIONS
from ckpt_doctor.layouts import LAYOUTS
from ckpt_doctor.layouts.names import has_weight_ending, is_text_name

from .entry_tables import entries
from .paths import below, relative_path
from .values import Place, flag, one_of, table, tables, text, texts

_LAYOUT_KEYS = ("name", "title", "files", "marker", "folder", "expect", "sizes")
_FILE_KEYS = ("role", "path", "name", "required", "keys", "other-keys", "nested", "hidden-size")
_FOR_ADAPTERS = ("nested", "hidden-size")

# What so many checkpoints have that it tells none of them apart.
_EVERYBODYS = re.compile(r"(adapter_model|adapter_config|model|pytorch_model|diffusion_pytorch_model)[.-][^/]*")


def layouts(value: Any, place: Place) -> tuple[Layout, ...]:
    """The definitions, in their order. Raises ``SettingsError`` with the place of what is wrong."""
    found: list[Layout] = []
    for item, here in tables(value, place):
        definition = _layout(table(item, here, _LAYOUT_KEYS), here)
        if definition.name in (*LAYOUTS, *(other.name for other in found)):
            raise here.at("name").wrong(f"there is a layout {definition.name} already: choose another name")
        found.append(definition)
    return tuple(found)


def _layout(given: Mapping[str, Any], place: Place) -> Layout:
    name = _word(_needed(given, "name", place), place.at("name"))
    parts: list[LayoutPart] = []
    for item, here in tables(_needed(given, "files", place), place.at("files")):
        part = _part(table(item, here, _FILE_KEYS), here)
        _refuse_repetition(part, parts, here.at("path"))
        parts.append(part)
    folder = text(given["folder"], place.at("folder")) if "folder" in given else None
    if folder is not None and "/" in folder:
        raise place.at("folder").wrong("this is the name of a folder: remove the /")
    return Layout(
        name=name,
        parts=tuple(parts),
        markers=_markers(given, parts, place),
        folder=folder,
        title=text(given["title"], place.at("title")) if "title" in given else "",
        expects=one_of(given.get("expect", "any"), place.at("expect"), EXPECTATIONS),
        sizes=_sizes(given.get("sizes", {}), place.at("sizes")),
    )


def _part(given: Mapping[str, Any], place: Place) -> LayoutPart:
    role = _word(_needed(given, "role", place), place.at("role"))
    if role in RESERVED_ROLES:
        raise place.at("role").wrong(f"{role} is reserved for files that no layout names: choose another word")
    beside = role not in ("adapter", "model")
    where = place.at("path")
    paths = tuple(relative_path(path, where, own=not beside) for path in texts(_needed(given, "path", place), where))
    if not paths or len(set(paths)) < len(paths):
        raise where.wrong("name at least one, and each only once")
    form = _form(role, paths, where)
    for key in _FOR_ADAPTERS:
        if key in given and role != "adapter":
            raise place.at(key).wrong("only an adapter can have this")
    if form == "document" and "keys" in given:
        raise place.at("keys").wrong(f"{paths[0]} is a document: only weight files have tensor keys")
    if "other-keys" in given and "keys" not in given:
        raise place.at("other-keys").wrong("this needs keys")
    name = role if role != "adapter" else paths[0].rpartition("/")[2] or role
    if "name" in given:
        name = (_word if role == "adapter" else text)(given["name"], place.at("name"))
    others_allowed = flag(given.get("other-keys", not beside), place.at("other-keys"))
    part = LayoutPart(
        role=role,
        paths=paths,
        form=form,
        name=name,
        required=flag(given.get("required", True), place.at("required")),
        entries=entries(given["keys"], place.at("keys")) if "keys" in given else (),
        complete="keys" in given and not others_allowed,
        nested=flag(given.get("nested", False), place.at("nested")),
        hidden_size=text(given["hidden-size"], place.at("hidden-size")) if "hidden-size" in given else None,
    )
    for path in paths:
        below(part.folder_of(path), where, nested=role == "adapter" and path != "")
    return part


def _form(role: str, paths: Sequence[str], place: Place) -> Form:
    """What the paths name: ``folder``, ``file`` or ``document``. They must all be of one form."""
    weights = [has_weight_ending(path) for path in paths]
    if role == "adapter":
        if any(weights) or any(map(is_text_name, paths)):
            raise place.wrong("an adapter is named by its folder, which holds adapter_config.json and the weights")
        return "folder"
    forms: set[Form] = {"file" if is_weights else "folder" for is_weights in weights}
    if role != "model":
        forms = {"document" if is_text_name(path) else "file" for path in paths}
    if len(forms) > 1:
        raise place.wrong(f"these are alternatives, and cannot be a {' and a '.join(sorted(forms))} at once")
    return forms.pop()


def _refuse_repetition(part: LayoutPart, others: Sequence[LayoutPart], place: Place) -> None:
    for other in others:
        same = [path for path in part.paths if path in other.paths]
        if part.role == other.role == "adapter":
            if part.name == other.name:
                raise place.wrong(f"two adapters are called {part.name}: give one of them another name")
            if same and not (part.nested and other.nested):
                raise place.wrong(
                    f"two adapters are in {same[0] or '.'}: say nested = true for both, as PEFT writes each of them "
                    "into a folder of its name"
                )
        elif same and (part.role == other.role or part.form == other.form == "file"):
            raise place.wrong(f"{same[0] or '.'} is listed twice")


def _markers(given: Mapping[str, Any], parts: Sequence[LayoutPart], place: Place) -> tuple[str, ...]:
    """What tells the layout from others: what the user says, or else every required file that is not everybody's."""
    where = place.at("marker")
    if "marker" in given:
        markers = tuple(relative_path(path, where) for path in texts(given["marker"], where))
    else:
        required = [part for part in parts if part.required and part.form != "document"]
        paths = dict.fromkeys(path for part in required for path in part.paths)
        markers = tuple(path for path in paths if path and not _EVERYBODYS.fullmatch(path))
    if not markers and "folder" not in given:
        raise where.wrong(
            "nothing tells this layout from others. Name a file or folder that lies only in yours, or say with folder "
            "what yours is called"
        )
    return markers


def _sizes(value: Any, place: Place) -> tuple[LayoutSize, ...]:
    found = []
    for dim, source in table(value, place).items():
        here = place.at(dim)
        path, colon, keys = text(source, here).partition(":")
        words = tuple(keys.split("."))
        if not colon or not path.endswith(".json") or not all(words):
            raise here.wrong('this must be a JSON file and a key in it, such as "config.json:hidden_size"')
        path = relative_path(path, here)
        below(path.rpartition("/")[0], here)
        found.append(LayoutSize(dim, path, words))
    return tuple(found)


def _needed(given: Mapping[str, Any], key: str, place: Place) -> Any:
    if key not in given:
        raise place.wrong(f"{key} is missing")
    return given[key]


def _word(value: Any, place: Place) -> str:
    word = text(value, place)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", word):
        raise place.wrong(f"{word!r} must be one word of letters, digits, dots, hyphens and underscores")
    return word
