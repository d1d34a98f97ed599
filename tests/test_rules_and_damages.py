"""Every rule: documented, in order, reported on its damages, silent on what is healthy."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import ckpt_doctor
from ckpt_doctor.cli.table import COMMANDS
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.rules import RULES
from support.damages.loads import LoadDamage
from support.damages.record import Damage
from support.damages.table import DAMAGES, LOAD_DAMAGES

KINDS_OF_LOAD = tuple({(damage.mode, damage.judge): damage for damage in LOAD_DAMAGES}.values())
# A load takes long: one of each rule is enough while one works.
FIRST_LOADS = {damage.code: damage for damage in reversed(LOAD_DAMAGES)}
DAMAGED_LOADS = [
    pytest.param(damage, marks=() if FIRST_LOADS[damage.code] is damage else pytest.mark.slow, id=str(damage))
    for damage in LOAD_DAMAGES
]
HEADINGS = ("## What it does", "## Why is this bad?", "## Example", "## What to do")
NEEDS = (
    "headers",
    "headers and configs",
    "configs",
    "tensor bytes",
    "headers, and tensor bytes to compare",
    "a model",
    "a contract",
    "a contract, and configs",
    "a contract, and tensor bytes",
)
RULE_FILES = Path(ckpt_doctor.__file__).parent / "rules"


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_damage_is_reported(damage: Damage, tmp_path: Path) -> None:
    report = damage.inspect(tmp_path)
    # A rule that the table keeps away from a checkpoint must have had nothing to say about it.
    for diagnosis in report.diagnoses:
        everything = [f for rule in RULES for f in rule().check(diagnosis.checkpoint, damage.policy)]
        assert {f.fingerprint for f in everything} == {f.fingerprint for f in diagnosis.findings}
    assert_is_found(damage.code, damage.severity, report.findings)
    report.to_json()


@pytest.mark.parametrize("damage", DAMAGED_LOADS)
def test_damaged_load_is_reported(damage: LoadDamage, tmp_path: Path) -> None:
    findings = damage.findings(tmp_path)
    assert_is_found(damage.code, damage.severity, findings)
    assert {finding.code for finding in findings} == damage.all_codes


@pytest.mark.parametrize("like", KINDS_OF_LOAD, ids=lambda like: f"{like.mode}-{like.judge.__name__}")
def test_healthy_load_is_not_reported(like: LoadDamage, tmp_path: Path) -> None:
    assert not like.healthy_findings(tmp_path)


def assert_is_found(code: str, severity: str, findings: tuple[Finding, ...]) -> None:
    found = [finding for finding in findings if finding.code == code]
    assert found, [f"{finding.code} {finding.message}" for finding in findings]
    assert severity in {finding.severity.value for finding in found}
    for finding in found:
        assert finding.message.endswith((".", "`")), "a message is made of sentences"
        assert "\n" not in finding.message
        assert finding.tensor_count >= len(finding.tensors)
        if finding.fix is not None:
            program, command, *_ = shlex.split(finding.fix.command)
            assert (program, command in COMMANDS) == ("ckpt-doctor", True)


def test_every_rule_has_a_damage() -> None:
    damaged = {damage.code for damage in (*DAMAGES, *LOAD_DAMAGES)}
    assert {rule.code for rule in RULES} == damaged


def test_rules_are_listed_once_and_in_the_order_of_their_codes() -> None:
    codes = [rule.code for rule in RULES]
    assert codes == sorted(set(codes))
    assert len({rule.name for rule in RULES}) == len(codes)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_rule_is_documented(rule: type) -> None:
    info = rule.info()
    places = [info.documentation.find(heading) for heading in HEADINGS]
    assert -1 not in places, "a heading is missing"
    assert places == sorted(places)
    assert info.summary.endswith(".")
    assert len(info.summary) <= 120
    assert info.fix in ("safe", "unsafe", "none")
    assert ("## Fix safety" in info.documentation) == (info.fix != "none")
    assert info.needs in NEEDS
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", info.name)
    assert isinstance(info.severity, Severity)


def test_every_rule_has_a_file_of_its_own_name() -> None:
    assert {rule.__module__.rpartition(".")[2] for rule in RULES} == {rule.name.replace("-", "_") for rule in RULES}
    written = {
        file.stem
        for file in RULE_FILES.glob("*.py")
        if any(f"({base})" in file.read_text() for base in ("Rule", "DefectRule", "LoadRule", "ContractRule"))
    }
    assert written - {"rule", "contract_rule"} == {rule.name.replace("-", "_") for rule in RULES}
