"""What a damage is: a healthy fixture, what is done to a copy of it, and what must be found then."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import ckpt_doctor
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.results import Report
from support.places import HEALTHY

Harm = Callable[[Path], Path | None]
"""Damages the checkpoint at a path, in place. It may return another path to inspect."""


class Contract(NamedTuple):
    """The damage shows only beside a contract of the healthy fixture, which may pin values."""

    values: bool = False


@dataclass(frozen=True)
class Damage:
    """A copy of ``fixture`` after ``harm`` has a finding of this ``code`` and this ``severity``.

    ``options`` are those of ``Policy``.
    """

    code: str
    name: str
    fixture: str
    harm: Harm
    severity: str = "error"
    options: dict[str, Any] = field(default_factory=dict)
    against: Contract | None = None

    def __str__(self) -> str:
        return f"{self.code}-{self.name}".replace(" ", "-")

    @property
    def policy(self) -> Policy:
        return Policy(**self.options)

    def make(self, folder: Path) -> Path:
        """Build the damaged checkpoint in an empty folder. Returns the path to inspect."""
        copy = Path(shutil.copytree(HEALTHY / self.fixture, folder / Path(self.fixture).name))
        return self.harm(copy) or copy

    def inspect(self, folder: Path) -> Report:
        """The report on what ``make`` builds in ``folder``."""
        path = self.make(folder)
        if self.against is not None:
            contract = ckpt_doctor.lock(HEALTHY / self.fixture, values=self.against.values)
            return ckpt_doctor.inspect_against(path, contract, self.policy)
        return ckpt_doctor.inspect(path, self.policy)


def recorder(damages: list[Damage]) -> Callable[..., Callable[[Harm], Harm]]:
    """A decorator that records the decorated function in ``damages``, under its own name."""

    def damage(
        code: str, fixture: str, *, severity: str = "error", against: Contract | None = None, **options: Any
    ) -> Callable[[Harm], Harm]:
        def record(harm: Harm) -> Harm:
            damages.append(Damage(code, harm.__name__, fixture, harm, severity, options, against))
            return harm

        return record

    return damage


def nothing(path: Path) -> None:
    """Harm nothing: the fixture is healthy by itself, and what is asked of it is not."""
