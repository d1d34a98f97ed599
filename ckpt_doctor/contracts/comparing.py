"""A contract beside a checkpoint that was read: values in, a value out."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.comparison import Change, Comparison, PartComparison, Setting
from ckpt_doctor.core.contract import Contract, PinnedPart, PinnedTensor
from ckpt_doctor.knowledge.embeddings import EMBEDDINGS

from .contents import Contents, Held, changed, loaded_parts, pair_up


def compare(contract: Contract, checkpoint: Checkpoint) -> Comparison:
    """Where ``checkpoint`` departs from ``contract``. Values are compared where its digests are known."""
    there = list(loaded_parts(checkpoint))
    pairs = pair_up(
        [(pin.role, pin.name) for pin in contract.parts], [(item.part.role, item.part.name) for item in there]
    )
    parts = []
    for mine, other in pairs:
        pinned = None if mine is None else contract.parts[mine]
        found = None if other is None else there[other]
        if pinned is not None:
            parts.append(_part(contract.source, pinned, found))
        elif found is not None and (found.tensors or found.unread):
            parts.append(_new_part(contract.source, found))
    return Comparison(contract.source, contract.layout, tuple(parts))


def _new_part(contract: str, found: Contents) -> PartComparison:
    part = found.part
    return PartComparison(contract, part.name, part.role, found.path, 0, 0, unexpected=tuple(sorted(found.tensors)))


def _part(contract: str, pinned: PinnedPart, found: Contents | None) -> PartComparison:
    valued = sum(pin.sha256 is not None for pin in pinned.tensors.values())
    comparison = PartComparison(contract, pinned.name, pinned.role, None, len(pinned.tensors), valued)
    if found is None:
        return comparison._replace(missing=tuple(sorted(pinned.tensors)))
    comparison = comparison._replace(path=found.path, config_path=found.config_path)
    if pinned.config is not None:
        if found.config is None:
            comparison = comparison._replace(unread_config=found.unread_config or "this is not an adapter")
        else:
            settings = (Setting(*item) for item in changed(pinned.config, found.config))
            comparison = comparison._replace(config=tuple(settings))
    if found.unread is not None:
        return comparison._replace(unread=found.unread)
    missing = sorted(pinned.tensors.keys() - found.tensors.keys())
    tied = tuple(_tied(missing, pinned, found))
    restored = {name for name, _ in tied}
    return _tensors(comparison, pinned, found)._replace(
        missing=tuple(name for name in missing if name not in restored),
        tied=tied,
        unexpected=tuple(_unexpected(pinned, found)),
    )


def _tensors(comparison: PartComparison, pinned: PinnedPart, found: Contents) -> PartComparison:
    """With what is said of the tensors that are on both sides."""
    shapes, dtypes, differing, unread = [], [], [], []
    for name in sorted(pinned.tensors.keys() & found.tensors.keys()):
        pin, held = pinned.tensors[name], found.tensors[name]
        if pin.shape != held.shape:
            shapes.append(Change(name, held.file.path, pin.shape, held.shape))
        if pin.dtype != held.dtype:
            dtypes.append(Change(name, held.file.path, pin.dtype, held.dtype))
        if pin.sha256 is not None and _alike(pin, held):
            if held.digest is None:
                unread.append(name)
            elif held.digest != pin.sha256:
                differing.append((name, held.file.path))
    return comparison._replace(
        shapes=tuple(shapes),
        dtypes=tuple(dtypes),
        differing=tuple(differing),
        unread_values=tuple(unread),
    )


def _alike(pin: PinnedTensor, held: Held) -> bool:
    return (pin.dtype, pin.shape) == (held.dtype, held.shape)


def _tied(missing: list[str], pinned: PinnedPart, found: Contents) -> Iterator[tuple[str, str]]:
    """Those of the missing tensors that were other names of one that is there, and that loaders tie to it again.

    That is so for the embeddings of a model, unless its config says otherwise, and for a lone file whose metadata names
    both, as safetensors' ``load_model`` reads it.
    """
    config = found.part.config.data if found.part.config is not None else None
    ties = found.part.role != "adapter" and (config or {}).get("tie_word_embeddings") is not False
    groups: dict[str, list[str]] = {}
    for name, pin in pinned.tensors.items():
        groups.setdefault(pin.same_as or name, []).append(name)
    for name in missing:
        pin = pinned.tensors[name]
        for other in groups[pin.same_as or name]:
            held = found.tensors.get(other)
            if held is None or not _alike(pin, held):
                continue
            embeddings = name.endswith(EMBEDDINGS) and other.endswith(EMBEDDINGS)
            recorded = found.part.role == "file" and (held.file.metadata or {}).get(name) == other
            if (embeddings and ties) or recorded:
                yield name, other
                break


def _unexpected(pinned: PinnedPart, found: Contents) -> Iterator[str]:
    """Names that the contract does not know, without further names of the very tensors that it does."""
    known = {held.view for name, held in found.tensors.items() if name in pinned.tensors and held.tensor.numel}
    for name in sorted(found.tensors.keys() - pinned.tensors.keys()):
        if found.tensors[name].view not in known:
            yield name
