"""Names of a checkpoint to parameters of a live model, through the transformations that loaders are known to make.

Those are: the adapter's name put in, wrapper prefixes added or taken away, the renames of transformers and its
conversions of weights. A name that fits nothing stays without a target: values may tell later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.parts import Part
from ckpt_doctor.verification.model.live import LiveModel, Target, plain_name

from .adapter_conversions import fused_adapter_tensors
from .conversions import renamed
from .namings import Naming, namings
from .wanted import Wanted, wanted

if TYPE_CHECKING:
    from torch import nn

_SAMPLES = 24  # names whose prefix votes; enough to see a wrapper, cheap for a hundred thousand
_NAMED = 4  # what an adapter's own name counts; the other hints together stay below it
_FEWEST = 2  # names that a further prefix must explain: one alone may be a coincidence


@dataclass
class PartMatch:
    """A part of the checkpoint and the targets of its tensors, by name, out of all ``namings`` of the model.

    Most are of ``naming``; ``rivals`` fit as well as that.
    """

    part: Part
    tensors: list[Wanted]
    naming: Naming
    targets: dict[str, Target]
    namings: list[Naming]
    rivals: list[PartMatch] = field(default_factory=list)

    @property
    def unadapted(self) -> bool:
        """True if this is an adapter, and the model has none that it could be in."""
        return self.part.role == "adapter" and self.naming.adapter is None


def match(live: LiveModel, checkpoint: Checkpoint, *, exact: bool = False) -> list[PartMatch]:
    """Match every part of ``checkpoint`` with the tensors of the model.

    ``exact`` allows the names that the ecosystem's own loaders understand and no prefixes, for where no load follows
    that could show whether they are understood.
    """
    everything = namings(live)
    parts = (tensors for tensors in wanted(checkpoint).values() if tensors)
    return [_match_part(live.module, tensors[0].part, tensors, everything, exact=exact) for tensors in parts]


def _match_part(
    model: nn.Module, part: Part, tensors: list[Wanted], everything: list[Naming], *, exact: bool
) -> PartMatch:
    shapes = {item.tensor.name: item.tensor.shape for item in tensors}
    candidates = []
    for naming in everything:
        if (naming.adapter is not None) != (part.role == "adapter") and naming.adapter is not None:
            continue
        # MemGen's side files are read by code that knows where each entry belongs.
        strict = exact and part.role in ("adapter", "model", "file")
        for targets in matched_names(shapes, naming.targets, exact=strict, prefix=_base_prefix(model)):
            same = sum(targets[name].shape == tuple(shapes[name]) for name in targets)
            rank = (len(targets), same, _hint(part, naming))
            candidates.append((rank, PartMatch(part, tensors, naming, targets, everything)))
    candidates.sort(key=lambda item: item[0], reverse=True)
    best_rank, best = candidates[0]
    # A part that is called as its adapter is must be in that one, whatever another adapter holds.
    if best_rank[2] < _NAMED:
        equal = [item for rank, item in candidates[1:] if rank[:2] == best_rank[:2] and item.targets]
        best.rivals = [item for item in equal if (item.naming.adapter is None) == (best.naming.adapter is None)]
    plain = [item.targets for _, item in candidates if item.naming.adapter is None]
    absent = [name for name in shapes if name not in best.targets]
    for found in (best, *best.rivals):
        # Embeddings and biases in an adapter's file, and whatever one naming does not know, may be in another.
        found.targets = {name: target for targets in (*plain, found.targets) for name, target in targets.items()}
        _add_renamed(model, found, everything[0], [name for name in absent if name not in found.targets])
        if found.naming.adapter is not None:
            rest = [item for item in tensors if item.tensor.name not in found.targets]
            found.targets |= fused_adapter_tensors(model, found.naming, rest)
    return best


def _add_renamed(model: nn.Module, found: PartMatch, plain: Naming, absent: list[str]) -> None:
    for name, new in renamed(model, absent).items():
        target = plain.targets.get(plain_name(new)) or plain.targets.get(f"{_base_prefix(model)}.{plain_name(new)}")
        if target is not None and target not in found.targets.values():
            found.targets[name] = target


def _base_prefix(model: nn.Module) -> str:
    """What transformers adds to or takes away from all names where a model and its headless twin meet."""
    prefix = getattr(model, "base_model_prefix", "")
    return prefix if isinstance(prefix, str) else ""


def _hint(part: Part, naming: Naming) -> int:
    """How much the names of folders and parts speak for this adapter."""
    if naming.adapter is None:
        return -1
    words = {part.name.partition(" ")[0], part.directory.rpartition("/")[2]}
    here = set(naming.path.split("."))
    return _NAMED * (naming.adapter in words) + bool(words & here) + (naming.adapter == "default")


def matched_names(
    names: Iterable[str], targets: Mapping[str, Target], *, exact: bool = False, prefix: str = ""
) -> list[dict[str, Target]]:
    """The targets of ``names``: under the same name, else with one prefix instead of another.

    Where several prefixes explain as much (a model that holds two of one class), each makes a result of its own. A
    prefix must explain several names and hold no number, so one layer is never taken for another. ``exact``
    allows only that ``prefix`` is there or not.
    """
    names = list(names)
    found = {}
    for name in names:
        target = targets.get(name) or (None if exact and _is_wrapped(name) else targets.get(plain_name(name)))
        if target is not None:
            found[name] = target
    if exact:
        allowed = [("", f"{prefix}."), (f"{prefix}.", "")] if prefix else []
        return [{**found, **more} for more in _under_prefixes(names, targets, found, allowed, 1)] or [found]
    results = []
    for more in _further(names, targets, found) or [{}]:
        result = {**found, **more}
        while further := _further(names, targets, result):
            result |= further[0]
        results.append(result)
    return results


def _is_wrapped(name: str) -> bool:
    """True if a saved name has a wrapper in it that no loader of a library takes out."""
    return not {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}.isdisjoint(name.split("."))


def _further(names: list[str], targets: Mapping[str, Target], found: dict[str, Target]) -> list[dict[str, Target]]:
    """What one prefix more adds to ``found``: one result for each prefix that adds the most."""
    rest = [name for name in names if name not in found]
    if not rest:
        return []
    return _under_prefixes(rest, targets, found, _prefixes(rest, targets), _FEWEST if len(names) > 2 else 1)


def _under_prefixes(
    names: list[str],
    targets: Mapping[str, Target],
    found: dict[str, Target],
    prefixes: list[tuple[str, str]],
    fewest: int,
) -> list[dict[str, Target]]:
    """The targets that each of the most useful ``prefixes`` adds to ``found``, if they are at least ``fewest``."""
    taken = {target.name for target in found.values()}
    results = []
    for old, new in prefixes:
        more = {}
        for name in names:
            if name not in found and name.startswith(old):
                target = targets.get(new + plain_name(name[len(old) :]))
                if target is not None and target.name not in taken:
                    more[name] = target
        results.append(more)
    most = max(map(len, results), default=0)
    return [more for more in results if len(more) == most >= fewest]


def _prefixes(names: list[str], targets: Mapping[str, Target]) -> list[tuple[str, str]]:
    """Pairs of prefixes, each with its dot, that names exchange for each other; the most frequent first."""
    by_end: dict[str, list[str]] = {}
    for key in targets:
        by_end.setdefault(_end(key), []).append(key)
        by_end.setdefault(key.rpartition(".")[2], []).append(key)  # for names of one word
    votes: Counter[tuple[str, str]] = Counter()
    for name in names[:: max(1, len(names) // _SAMPLES)]:
        for key in by_end.get(_end(name), ()):
            pair = _different(name.split("."), key.split("."))
            if not any(word.isdigit() for prefix in pair for word in prefix.split(".")):
                votes[pair] += 1
    return [pair for pair, _ in votes.most_common(8)]


def _end(name: str) -> str:
    return ".".join(name.rsplit(".", 2)[-2:])


def _different(name: list[str], key: list[str]) -> tuple[str, str]:
    """The part before the words that both end in."""
    common = 0
    while common < min(len(name), len(key)) and name[-1 - common] == key[-1 - common]:
        common += 1
    first, second = name[: len(name) - common], key[: len(key) - common]
    return "".join(f"{word}." for word in first), "".join(f"{word}." for word in second)
