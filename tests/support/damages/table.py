"""Every damage that the files of this folder list, in the order of the codes."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import support.damages
from support.damages.loads import LoadDamage
from support.damages.record import Damage


def _listed() -> list[Damage | LoadDamage]:
    names = (module.name for module in iter_modules(support.damages.__path__))
    modules = [import_module(f"support.damages.{name}") for name in names if name != "table"]
    return [damage for module in modules for damage in getattr(module, "DAMAGES", ())]


_ALL = sorted(_listed(), key=lambda damage: damage.code)
LOAD_DAMAGES = tuple(damage for damage in _ALL if isinstance(damage, LoadDamage))
"""Those that a load shows."""

DAMAGES = tuple(damage for damage in _ALL if isinstance(damage, Damage))
"""Those that an inspection shows, some of them only beside a contract."""

INSPECTED = tuple(damage for damage in DAMAGES if damage.against is None)
"""Those that an inspection shows without a contract."""
