"""Promise 1: a healthy checkpoint never gets an error, with the tensor bytes read and without."""

from __future__ import annotations

from pathlib import Path

import pytest

import ckpt_doctor
from ckpt_doctor.core.findings import Severity
from ckpt_doctor.core.policy import Policy
from support.zoo import ZOO

FIXTURES = Path(__file__).parents[1] / "fixtures" / "healthy"


def errors(path: Path, policy: Policy) -> list[str]:
    report = ckpt_doctor.inspect(path, policy)
    return [f"{finding.code} {finding.message}" for finding in report.findings if finding.severity is Severity.ERROR]


@pytest.mark.slow
@pytest.mark.parametrize("deep", [False, True], ids=["headers", "deep"])
@pytest.mark.parametrize("name", sorted(ZOO))
def test_zoo(name: str, deep: bool, tmp_path: Path) -> None:
    assert not errors(ZOO[name](tmp_path), Policy(deep=deep, expect="any"))


@pytest.mark.parametrize("deep", [False, True], ids=["headers", "deep"])
@pytest.mark.parametrize("fixture", sorted(path.name for path in FIXTURES.iterdir()))
def test_fixture(fixture: str, deep: bool) -> None:
    expect = "any" if fixture == "weaver_bin" else None
    assert not errors(FIXTURES / fixture, Policy(deep=deep, expect=expect))
