"""Adapters that the loader merged into the weights of the base, as ``merge_and_unload`` does.

Then no parameter holds a tensor of the adapter any more. So the same is done once more with PEFT's own code, on another
copy of the base: where the weights of the loaded model are those, and no longer those of the base, the adapter arrived.
It takes the memory of a second model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from ckpt_doctor.coverage import RESTORED

from .comparing import Verdict
from .isolation import run
from .live import Target, live_tensors, plain_name

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .assess import Row

Reference = Callable[[], Any]
"""Makes the base that the loader was given, once more."""

_PREFIX = "base_model.model."
# What a result of other arithmetic may differ by, relative to the weight: two units in the last place.
_TOLERANCE = {"bfloat16": 2**-7, "float16": 2**-9, "float32": 1e-5, "float64": 1e-5}


def find_merged(model: nn.Module, folder: str, rows: list[Row], reference: Reference) -> str | None:
    """Complete the ``rows`` of one adapter in place; returns why that could not be tried, if so.

    ``folder`` is the adapter's.
    """
    outcome = run(lambda: _merge(folder, reference, [row.wanted.tensor.name for row in rows]))
    if isinstance(outcome.error, (AttributeError, NotImplementedError)):
        return None  # PEFT cannot merge this type of adapter, and so no loader did
    if outcome.error is not None:
        return f"whether the adapter was merged cannot be told: merging it here ended with {outcome.failure}"
    modules, base, merged = outcome.result
    live = {plain_name(name): value for name, value in live_tensors(model).items()}
    found = {path: _changes(path, base, merged, live) for path in set(modules.values())}
    if not any(changes and all(changes.values()) for changes in found.values()):
        return None
    for row in rows:
        path = modules[row.wanted.tensor.name]
        changes = found[path]
        if changes and None not in changes.values():
            name, shape = min(changes), tuple(row.wanted.tensor.shape)
            value = live[name]
            row.target = Target(
                f"{name} (merged)", tuple(changes), shape, value.dtype, partial(_itself, value), computed=True
            )
            row.verdict, row.status, row.detail = Verdict.EQUAL, RESTORED, "merged into the weights of the base"
    return None


def _itself(value: torch.Tensor) -> torch.Tensor:
    return value


def _merge(folder: str, reference: Reference, names: Iterable[str]) -> tuple[dict[str, str], Any, Any]:
    """By tensor of the adapter the module that it adapts, and the weights of all those before and after."""
    from peft import PeftModel

    model = reference()
    modules = {name: _module(model, name) for name in names}
    # What lies beside all modules, such as a bank that they share, is in whatever merging changes.
    starts = tuple(f"{path}." if path else "" for path in modules.values())
    base = {name: value.clone() for name, value in live_tensors(model).items() if name.startswith(starts)}
    merged = PeftModel.from_pretrained(model, folder).merge_and_unload()
    return modules, base, live_tensors(merged)


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

    ``False`` where it is lost in the dtype of the loaded model, ``None`` where that has other values.
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
