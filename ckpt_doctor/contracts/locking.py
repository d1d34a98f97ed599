"""A checkpoint to a contract."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.contract import Contract, PinnedPart, PinnedTensor
from ckpt_doctor.core.errors import LockRefusedError
from ckpt_doctor.core.findings import Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.results import Diagnosis, Report
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.inspection import Progress, diagnose, open_checkpoint, scanned

from .contents import Contents, loaded_parts

_DEFAULT = Policy()


def lock(
    path: str | os.PathLike[str],
    policy: Policy = _DEFAULT,
    *,
    values: bool = False,
    progress: Progress | None = None,
) -> Contract:
    """The contract that the checkpoint at ``path`` fulfils. Nothing is executed, nothing is written.

    Raises ``PathNotFoundError`` and ``NoCheckpointError``, the latter also where several checkpoints lie there, and
    what :func:`locked` raises.
    """
    checkpoint = open_checkpoint(path, policy.layout, layouts=policy.layouts)
    return locked(checkpoint, policy, values=values, progress=progress)


def locked(
    checkpoint: Checkpoint,
    policy: Policy = _DEFAULT,
    *,
    values: bool = False,
    progress: Progress | None = None,
) -> Contract:
    """The contract that ``checkpoint`` fulfils; ``values`` reads its tensors and pins their values, too.

    Raises ``LockRefusedError`` for a checkpoint that is not healthy, in whatever format it is: a contract with a broken
    one would call what is right wrong. All rules are asked but those that the policy ignores; what cannot be read
    always counts.
    """
    if values:
        (checkpoint,) = scanned([checkpoint], progress, wants_digest=lambda file, name: True)
    found = diagnose(checkpoint, policy._replace(expect="any", select=(), deep=values)).findings
    errors = tuple(item for item in found if item.severity is Severity.ERROR or item.always_fails)
    parts = tuple(_pinned(item) for item in loaded_parts(checkpoint) if item.part.files)
    contract = Contract(checkpoint.layout, parts)
    reasons = list(_what_cannot_be_pinned(checkpoint, contract, values=values))
    if errors or reasons:
        named = [counted(len(errors), "error")] if errors else []
        raise LockRefusedError(
            f"no contract is made of {checkpoint.path}: {'; '.join([*named, *reasons])}",
            Report((Diagnosis(checkpoint, errors),)),
        )
    return contract


def _pinned(contents: Contents) -> PinnedPart:
    originals = contents.originals
    return PinnedPart(
        role=contents.part.role,
        name=contents.part.name,
        tensors={
            name: PinnedTensor(held.dtype, held.shape, held.digest, originals.get(name))
            for name, held in contents.tensors.items()
        },
        config=contents.config,
        files={file.path: file.format for file in contents.part.preferred},
    )


def _what_cannot_be_pinned(checkpoint: Checkpoint, contract: Contract, *, values: bool) -> Iterator[str]:
    for item in loaded_parts(checkpoint):
        if item.unread is not None:
            yield item.unread
        # That there is none is an error of its own, or it is a lone file.
        if item.unread_config is not None and item.part.config is not None:
            yield f"{item.config_path}: {item.unread_config}"
        if values:
            blind = [name for name, held in item.tensors.items() if held.digest is None]
            if blind:
                yield f"the values of {counted(len(blind), 'tensor')} cannot be read as they are ({listed(blind)})"
    if not contract.tensors:
        yield "it holds no tensors"
