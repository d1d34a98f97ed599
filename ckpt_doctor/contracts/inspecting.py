"""An inspection that also holds what it finds against a contract: for ``inspect --against``, the gate and Python."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ckpt_doctor.contract import Contract
from ckpt_doctor.inspection import Progress, diagnose, found_at, scanned
from ckpt_doctor.policy import Policy
from ckpt_doctor.results import Report

from .comparing import compare
from .reading import read_contract

_DEFAULT = Policy()


def inspect_against(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    contract: Contract | str | os.PathLike[str],
    policy: Policy = _DEFAULT,
    *,
    progress: Progress | None = None,
) -> Report:
    """Diagnose every checkpoint at ``paths``, and compare each with ``contract``, a value or the path of its file.

    Values are compared where the contract pins them and the policy is ``deep``. Raises ``ContractError`` before
    anything is inspected, and what ``inspect`` raises.
    """
    if not isinstance(contract, Contract):
        contract = read_contract(contract)
    valued = contract.valued
    checkpoints = found_at(paths, policy)
    if policy.deep:
        checkpoints = scanned(checkpoints, progress, wants_digest=lambda file, name: name in valued)
    held_against = (item._replace(comparison=compare(contract, item)) for item in checkpoints)
    return Report(tuple(diagnose(checkpoint, policy) for checkpoint in held_against))
