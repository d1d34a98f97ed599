"""Values that a model may hold before any load: what can be told of them where no marks were placed.

Zeros, ones and tables of whole numbers are equal in every new model. After the fact nobody can see whether a load wrote
them; their neighbours can speak for them. A loader that restored the other tensors of a module restored these too;
where all others of the smallest module around them were lost, nothing speaks for these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ckpt_doctor.core.coverage import MISSING, RESTORED

from .comparing import Verdict
from .row import Row

if TYPE_CHECKING:
    import torch

    from .marks import Fates

UNTOLD = "all its values are equal, as in a new model: it is unknown whether a load wrote them"
_ALONE = "a new model holds the same values, and nothing else of {} arrived"


def tell(rows: Iterable[Row], fates: Fates | None) -> int:
    """Complete the ``rows`` of one part, in place; returns of how many nobody can tell whether they were loaded."""
    rows = list(rows)
    unsure = [row for row in rows if row.status == RESTORED and _may_be_new(row, fates)]
    if not unsure:
        return 0
    doubted = {id(row) for row in unsure}
    witnesses = _by_module(row for row in rows if id(row) not in doubted)
    untold = 0
    for row in unsure:
        module = next((name for name in _modules(row) if name in witnesses), None)
        if module is not None and not witnesses[module]:
            row.status, row.verdict = MISSING, Verdict.DIFFERENT
            row.detail = _ALONE.format(module or "the checkpoint")
        elif fates is None:
            row.detail, untold = row.detail or UNTOLD, untold + 1
    return untold


def _by_module(rows: Iterable[Row]) -> Mapping[str, bool]:
    """True if anything of a module arrived, by its path in the checkpoint; modules without any row are left out."""
    found: dict[str, bool] = {}
    for row in rows:
        for module in _modules(row):
            found[module] = found.get(module, False) or row.arrived
    return found


def _modules(row: Row) -> list[str]:
    """The modules around a tensor, the innermost first."""
    words = row.wanted.tensor.name.split(".")[:-1]
    return [".".join(words[:end]) for end in range(len(words), -1, -1)]


def _may_be_new(row: Row, fates: Fates | None) -> bool:
    target = row.target
    if (
        target is None
        or target.computed
        or (fates is not None and (fates.followed(target) or fates.untouched(target) is False))
    ):
        return False
    value = target.value()
    return value.device.type != "meta" and bool(value.numel()) and _is_plain(value)


def _is_plain(value: torch.Tensor) -> bool:
    """True if all elements are equal, or whole numbers."""
    if not value.is_floating_point() and not value.is_complex():
        return True
    if value.element_size() == 1:
        return False
    first = value[(0,) * value.dim()]
    # The last one tells most tensors apart before all are read.
    return bool(value[(-1,) * value.dim()] == first) and bool((value == first).all())
