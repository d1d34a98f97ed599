"""What the name of a tensor in an adapter file says: which module, which adapter parameter, which adapter name.

PEFT saves ``base_model.model.<module>.<parameter>`` and leaves the adapter's name out; a state dict that was saved in
another way still has it between the parameter's first component and its rest (``lora_A.weaver.weight``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .peft_types import PEFT_TYPES, TRAINABLE_TOKENS_SUFFIXES, PeftType

ROOT = "base_model.model."
_SHORT_ROOT = "base_model."
# Components that wrappers of PEFT put between a module's own name and the adapter parameter.
_WRAPPERS = ("base_layer", "modules_to_save", "original_module", "token_adapter")


class AdapterKey(NamedTuple):
    """A tensor name taken apart.

    ``module`` is the path of the module in the base model, without PEFT's prefix. ``parameter`` is the adapter's
    parameter as PEFT saves it (``lora_A.weight``); it is ``None`` for a tensor of the base model. ``adapter_name`` is
    the name that still stands in the key, if one does. ``shared`` marks what belongs to no module.
    """

    name: str
    rooted: bool
    module: str
    parameter: str | None
    adapter_name: str | None = None
    shared: bool = False

    @property
    def as_saved(self) -> str:
        """The name under which PEFT saves this: without the adapter's name. Only for an adapter's parameter."""
        root = ROOT if self.name.startswith(ROOT) else _SHORT_ROOT if self.rooted else ""
        return root + ".".join(filter(None, (self.module, self.parameter)))


def parse_all(names: Iterable[str], kind: PeftType | None) -> list[AdapterKey]:
    """Take names apart by the parameters of this type, or of any type where it is ``None``."""
    kinds = [kind] if kind else list(PEFT_TYPES.values())
    of_modules: dict[str, list[list[str]]] = {}
    shared: dict[str, list[str]] = {}
    for each in kinds:
        for suffix in (*each.module_suffixes, *TRAINABLE_TOKENS_SUFFIXES):
            words = suffix.split(".")
            of_modules.setdefault(words[0], []).append(words)
        for suffix in each.shared_suffixes:
            shared.setdefault(suffix.partition(".")[0], suffix.split("."))
    return [_parse(name, of_modules, shared) for name in names]


def _parse(name: str, of_modules: dict[str, list[list[str]]], shared: dict[str, list[str]]) -> AdapterKey:
    rooted = name.startswith(_SHORT_ROOT)
    bare = name.removeprefix(ROOT if name.startswith(ROOT) else _SHORT_ROOT)
    words = bare.split(".")
    if words[0] in shared and words[: len(shared[words[0]])] == shared[words[0]]:
        return AdapterKey(name, rooted, "", bare, shared=True)
    for start, word in enumerate(words):
        for match in (_as_saved, _with_adapter_name):
            for wanted in of_modules.get(word, ()):
                found = match(wanted[1:], words[start + 1 :])
                if found is not None:
                    return AdapterKey(name, rooted, ".".join(words[:start]), ".".join((word, *found[0])), found[1])
    for start, word in enumerate(words):
        if word in shared and words[start : start + len(shared[word])] == shared[word]:
            return AdapterKey(name, rooted, ".".join(words[:start]), ".".join(words[start:]), shared=True)
    return AdapterKey(name, rooted, bare, None)


def _as_saved(wanted: list[str], rest: list[str]) -> tuple[list[str], str | None] | None:
    """What follows a parameter's first word, where it is as PEFT saves it."""
    return (rest, None) if _agrees(wanted, rest) else None


def _with_adapter_name(wanted: list[str], rest: list[str]) -> tuple[list[str], str | None] | None:
    """The same where an adapter's name stands in front; that part of the name, and the adapter's."""
    if not wanted and rest[-1:] == ["weight"]:
        # DoRA's vector has been a module with a weight in some versions.
        rest = rest[:-1]
    if _agrees(wanted, rest):
        return rest, None
    return (rest[1:], rest[0]) if rest and _agrees(wanted, rest[1:]) else None


def _agrees(wanted: list[str], rest: list[str]) -> bool:
    """True if a name is the wanted one; ``*`` matches a number."""
    return len(wanted) == len(rest) and all(
        part == word or (part == "*" and word.isdecimal()) for part, word in zip(wanted, rest, strict=True)
    )


def base_module(module: str) -> str:
    """The module's path without the components that PEFT's own wrappers add."""
    return ".".join(word for word in module.split(".") if word not in _WRAPPERS)
