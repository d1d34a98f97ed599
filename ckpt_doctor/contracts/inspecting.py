"""An inspection that also holds what it finds against a contract: for ``inspect --against``, the gate and Python."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.contract import Contract
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.results import Report
from ckpt_doctor.inspection import Progress, inspect

from .comparing import compare
from .reading import read_contract

_DEFAULT = Policy()


class HeldAgainst(NamedTuple):
    """The standard of an inspection that a contract is; see ``inspection.Standard``. ``valued`` names what it pins."""

    contract: Contract
    valued: frozenset[str]

    @classmethod
    def read(cls, contract: Contract | str | os.PathLike[str]) -> HeldAgainst:
        """The standard of this contract, a value or the path of its file. Raises ``ContractError``."""
        if not isinstance(contract, Contract):
            contract = read_contract(contract)
        return cls(contract, contract.valued)

    def wants_digest(self, file: str, name: str) -> bool:
        """True if the contract pins the values of this tensor."""
        return name in self.valued

    def compared(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with what it departs in."""
        return checkpoint._replace(comparison=compare(self.contract, checkpoint))


def inspect_against(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    contract: Contract | str | os.PathLike[str],
    policy: Policy = _DEFAULT,
    *,
    progress: Progress | None = None,
    counter: Progress | None = None,
    jobs: int = 1,
) -> Report:
    """Diagnose every checkpoint at ``paths``, and compare each with ``contract``, a value or the path of its file.

    Values are compared where the contract pins them and the policy is ``deep``. Raises ``ContractError`` before
    anything is inspected, and what ``inspect`` raises.
    """
    standard = HeldAgainst.read(contract)
    return inspect(paths, policy, standard=standard, progress=progress, counter=counter, jobs=jobs)
