"""Adapters that the loader merged into the weights of the base, as ``merge_and_unload`` does.

Then no parameter holds a tensor of the adapter any more. So the same is done once more with PEFT's own code, on another
copy of the base: where the weights of the loaded model are those, and no longer those of the base, the adapter arrived.
It takes the memory of a second model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.coverage import RESTORED
from ckpt_doctor.verification.hosting.isolation import run
from ckpt_doctor.verification.model.live import LiveModel, Target, plain_name
from ckpt_doctor.verification.values.comparing import Verdict
from ckpt_doctor.verification.values.row import Row

from .by_name import JudgedPart
from .evidence import Evidence, Reference

if TYPE_CHECKING:
    import torch
    from torch import nn

_PREFIX = "base_model.model."
# What a result of other arithmetic may differ by, relative to the weight: two units in the last place.
_TOLERANCE = {"bfloat16": 2**-7, "float16": 2**-9, "float32": 1e-5, "float64": 1e-5}


def find_merged(evidence: Evidence, parts: Iterable[JudgedPart]) -> Iterator[str]:
    """Complete the rows of merged adapters, in place; yields why that could not be tried."""
    for part in parts:
        if evidence.reference is None or not part.match.unadapted or part.arrived == len(part.rows):
            continue
        folder = str(evidence.checkpoint.root / part.match.part.directory)
        unknown = _find(evidence.live, folder, part.rows, evidence.reference)
        if unknown is not None:
            yield unknown


def _find(loaded: LiveModel, folder: str, rows: list[Row], reference: Reference) -> str | None:
    """Complete the ``rows`` of one adapter in place; returns why that could not be tried, if so.

    ``folder`` is the adapter's.
    """
    names = [row.wanted.tensor.name for row in rows]
    live = {plain_name(name): value for name, value in loaded.tensors.items()}
    base: dict[str, torch.Tensor] = {}
    for dtype in (None, *_other_dtypes(loaded.module)):
        if base and all(value.dtype == dtype for value in base.values()):
            continue  # the first time was in that dtype
        # Who casts before merging gets other roundings than who casts afterwards.
        outcome = run(partial(_merge, folder, reference, names, dtype))
        if isinstance(outcome.error, (AttributeError, NotImplementedError)):
            return None  # PEFT cannot merge this type of adapter, and so no loader did
        if outcome.error is not None:
            return f"it is unknown whether the adapter was merged: merging it here ended with {outcome.failure}"
        modules, base, merged = outcome.result
        for prefix in _prefixes(live, base):
            inner = {name.removeprefix(prefix): value for name, value in live.items() if name.startswith(prefix)}
            found = {path: _changes(path, base, merged, inner) for path in set(modules.values())}
            if any(changes and all(changes.values()) for changes in found.values()):
                _complete(rows, modules, found, inner, prefix)
                return None
    return None


def _complete(
    rows: list[Row],
    modules: dict[str, str],
    found: dict[str, dict[str, bool | None]],
    live: dict[str, torch.Tensor],
    prefix: str,
) -> None:
    for row in rows:
        changes = found[modules[row.wanted.tensor.name]]
        if changes and None not in changes.values():
            name, info = min(changes), row.wanted.tensor
            value = partial(_itself, live[name])
            names = tuple(prefix + item for item in changes)
            shown = f"{prefix}{name} (merged)"
            row.target = Target(shown, names, tuple(info.shape), live[name].dtype, value, computed=True)
            row.verdict, row.status, row.detail = Verdict.EQUAL, RESTORED, "merged into the weights of the base"


def _other_dtypes(model: nn.Module) -> list[torch.dtype]:
    """The narrower dtypes in which the weights of ``model`` are."""
    import torch

    return sorted({value.dtype for value in model.parameters()} & {torch.bfloat16, torch.float16}, key=str)


def _prefixes(live: dict[str, torch.Tensor], base: dict[str, torch.Tensor]) -> list[str]:
    """What stands in ``live`` before the names of the base, whose model may be a part of another."""
    first = min(base, default="")
    found = [name.removesuffix(first) for name in live if name == first or name.endswith(f".{first}")]
    return sorted(found, key=len)


def _itself(value: torch.Tensor) -> torch.Tensor:
    return value


def _merge(
    folder: str, reference: Reference, names: Iterable[str], dtype: torch.dtype | None
) -> tuple[dict[str, str], Any, Any]:
    """By tensor of the adapter the module that it adapts, and the weights of all those before and after.

    All of it in ``dtype``, or in the dtype of the base.
    """
    from peft import PeftModel

    model = reference()
    modules = {name: _module(model, name) for name in names}
    # A tensor outside all modules, such as a bank that they share, is in whatever merging changes.
    starts = tuple(f"{path}." if path else "" for path in modules.values())
    base = {name: value.clone() for name, value in LiveModel(model).tensors.items() if name.startswith(starts)}
    adapted = PeftModel.from_pretrained(model, folder)
    merged = (adapted if dtype is None else adapted.to(dtype)).merge_and_unload()
    return modules, base, LiveModel(merged).tensors


def _module(model: Any, name: str) -> str:
    """The deepest module of the base whose path the name of an adapter's tensor begins with."""
    words = name.removeprefix(_PREFIX).split(".")
    path: list[str] = []
    for word in words:
        model = getattr(model, "_modules", {}).get(word)
        if model is None:
            break
        path.append(word)
    return ".".join(path)


def _changes(
    path: str, base: dict[str, torch.Tensor], merged: dict[str, torch.Tensor], live: dict[str, torch.Tensor]
) -> dict[str, bool | None]:
    """The weights of a module that merging changes, and whether those of the loaded model show the change.

    ``False`` where it is lost in the dtype of the loaded model, ``None`` if that has other values.
    """
    import torch

    start = f"{path}." if path else ""
    names = [name for name in base if name.startswith(start) and name in merged]
    changed = [name for name in names if not torch.equal(merged[name], base[name])]
    return {name: _shows(base[name], merged[name], live.get(name)) for name in changed}


def _shows(before: torch.Tensor, after: torch.Tensor, live: torch.Tensor | None) -> bool | None:
    import torch

    if live is None or live.shape != after.shape or live.device.type == "meta":
        return None
    there = live.cpu()
    if torch.equal(after.cpu().to(there.dtype), there):
        return not torch.equal(before.cpu().to(there.dtype), there)
    tolerance = max(_TOLERANCE.get(str(item.dtype).removeprefix("torch."), 0.0) for item in (after, live))
    ours, theirs, old = after.double().cpu(), there.double(), before.double().cpu()
    near = torch.allclose(theirs, ours, rtol=tolerance, atol=tolerance * float(ours.abs().mean()))
    # A change that is smaller than the tolerance would be found everywhere.
    return True if near and (theirs - ours).norm() < 0.5 * (theirs - old).norm() else None
