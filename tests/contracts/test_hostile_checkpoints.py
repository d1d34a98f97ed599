"""Files that are refused: no contract is made of them, and none is equal to anything, itself included."""

from __future__ import annotations

from pathlib import Path

import pytest

import ckpt_doctor
from ckpt_doctor.core.contract import Contract, PinnedPart, PinnedTensor
from ckpt_doctor.core.errors import LockRefusedError
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.formats.limits import LIMITS
from support.command_line import run
from support.hostile import hostile_files

# Those with limits of their own are harmless to whoever reads them with the usual ones.
CASES = {name: case for name, case in hostile_files().items() if case.limits == LIMITS}
PINNED = Contract("file", (PinnedPart("file", "x", {"weight": PinnedTensor("float32", (2,), "ab" * 32)}),))


@pytest.mark.parametrize("name", sorted(CASES))
def test_hostile_file(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path = tmp_path / case.filename
    path.write_bytes(case.data)
    with pytest.raises(LockRefusedError) as refused:
        ckpt_doctor.lock(path, values=True)
    assert case.codes <= {finding.code for finding in refused.value.report.findings}
    assert run("diff", path, path, "--values").exit_code in (1, 2)
    report = ckpt_doctor.inspect_against(path, PINNED, Policy(deep=True, select=("CKD85",)))
    assert not report.healthy
