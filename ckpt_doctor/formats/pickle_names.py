"""The names in a pickle, judged as they are resolved; and what the pickle may still spend."""

from __future__ import annotations

from typing import Any

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.weight_file import Refusal, RefusalCause

from .pickle_values import Global, PickleError
from .torch_objects import default_allows, known_global, refused_name, unsafe_global

MAX_NAME = 500
"""Longest name of a global, in characters."""

MAX_UNSAFE = 1000
"""How many different unsafe names, and how many refusals, are kept."""

_NAME_COST = 64  # characters that looking at one name counts as
_MOST_NAMES = 1000  # that are told apart, where they are on no list
_ONE_OF_MANY = unsafe_global("? ?")


class JudgedNames:
    """The names that one run of the machine met. ``work`` is how many characters, or bytes of pointers, may follow.

    ``unsafe`` maps names to the first position and the number of uses.
    """

    def __init__(self, work: int) -> None:
        self.work = work
        self.globals: dict[str, Global] = {}
        self.unsafe: dict[str, tuple[int, int]] = {}
        self.refusals: dict[tuple[str, str], Refusal] = {}
        self.unjudged: tuple[int, int] | None = None

    def spend(self, amount: int) -> None:
        """Count ``amount`` characters, or bytes of pointers."""
        self.work -= amount
        if self.work < 0:
            raise PickleError(DefectKind.RESOURCE_BOMB, "it expands to far more data than it holds")

    def flag(self, name: str, position: int) -> None:
        """Note something that a loader must not be asked to do."""
        name = name if len(name) <= MAX_NAME else name[:MAX_NAME] + "…"
        first, count = self.unsafe.get(name, (position, 0))
        if count or len(self.unsafe) < MAX_UNSAFE:
            self.unsafe[name] = (first, count + 1)

    def refuses(self, name: str, position: int, cause: RefusalCause) -> None:
        """Note something that ``torch.load``'s default stops at; the first of its kind counts."""
        if len(self.refusals) < MAX_UNSAFE:
            self.refusals.setdefault((name, cause), Refusal(name, position, cause))

    def all_refusals(self) -> tuple[Refusal, ...]:
        """Everything that ``torch.load``'s default stops at, in its order."""
        return tuple(sorted(self.refusals.values(), key=lambda refusal: refusal.position))

    def resolve(self, module: Any, name: Any, position: int) -> Global:
        """The global of this module and name, judged."""
        if type(module) is not str or type(name) is not str:
            self.flag("(a global whose name is not a string)", position)
            return unsafe_global("? ?")
        self.spend(_NAME_COST)
        # No known name is longer; cut, it is still unknown.
        full = f"{module[:MAX_NAME]} {name[:MAX_NAME]}"
        known = self.globals.get(full)
        if known is None:
            # A blank inside would let two different pairs make one name.
            known = known_global(full) if full.count(" ") == 1 else None
            if known is None:
                known = unsafe_global(full) if len(self.globals) < _MOST_NAMES else _ONE_OF_MANY
            if not default_allows(full):
                self.refuses(refused_name(full), position, "getattr" if known.role == "getattr" else "name")
            if len(self.globals) < _MOST_NAMES:
                self.globals[full] = known
        if known.role == "unsafe":
            self.flag(full, position)
        elif known.role == "getattr" and self.unjudged is None:
            self.unjudged = (position, 0)
        return known

    def judged_getattr(self, allowed: bool) -> None:
        """Note that a ``getattr`` was called, in a way that is known or not."""
        if self.unjudged is not None and allowed:
            self.unjudged = (self.unjudged[0], self.unjudged[1] + 1)

    def all_unsafe(self) -> dict[str, tuple[int, int]]:
        """Everything that was flagged; a ``getattr`` that was never called on an enum counts."""
        found = dict(self.unsafe)
        if self.unjudged is not None and not self.unjudged[1] and "builtins getattr" not in found:
            found["builtins getattr"] = (self.unjudged[0], 1)
        return dict(sorted(found.items(), key=lambda item: item[1][0]))
