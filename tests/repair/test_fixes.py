"""Every fix of every damage: the finding goes, the values stay, the libraries load it, and it can be taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ckpt_doctor import inspect
from ckpt_doctor.core.findings import Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.repair import Repairs, fix, undo
from ckpt_doctor.rules import RULES
from support.damages.record import Damage
from support.damages.table import INSPECTED
from support.repaired import assert_loads, content, own_files, values

# transformers warns about its own attributes while PEFT looks at them.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")

FIX_OF = {rule.code: rule.fix for rule in RULES}
SALVAGED = ("CKD104", "CKD106")
# What is kept of these is less than what was there, as the fix says beforehand.
LOSES = (*SALVAGED, "CKD114", "CKD309", "CKD901", "CKD204", "CKD209")
# The values of these are not those that were there: test_casts.py holds what they are.
CASTS = ("CKD509",)


def offers(damage: Damage, folder: Path, safety: str) -> Path | None:
    path = damage.make(folder)
    found = inspect(path, damage.policy).findings
    fixes = [finding.fix for finding in found if finding.code == damage.code and finding.fix]
    return path if any(item.safety == safety and item.actions for item in fixes) else None


def counts(path: Path, damage: Damage) -> dict[str, int]:
    found = inspect(path if path.exists() else path.parent, damage.policy).findings
    codes = [finding.code for finding in found if finding.severity is Severity.ERROR or finding.code == damage.code]
    return {code: codes.count(code) for code in codes}


def repaired(path: Path, damage: Damage, *, unsafe: bool) -> Repairs:
    return fix(path, damage.policy, unsafe=unsafe)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [damage for damage in INSPECTED if FIX_OF[damage.code] == "safe"], ids=str)
def test_safe_fix(damage: Damage, tmp_path: Path) -> None:
    path = offers(damage, tmp_path, "safe")
    if path is None:
        return  # test_rules_say_what_their_fixes_are holds that some damage of every safe rule comes here
    folder = path if path.is_dir() else path.parent
    before, errors, held = content(folder), counts(path, damage), values(path)
    result = repaired(path, damage, unsafe=False)
    assert damage.code in {step.finding.code for repair in result.repairs for step in repair.steps}
    after = counts(path, damage)
    assert damage.code not in after
    assert all(after[code] <= errors.get(code, 0) for code in after)
    if not any(errors.get(code) for code in after):
        assert_loads(folder)
    assert values(folder) >= held
    again = path if path.exists() else next(item for item in sorted(folder.iterdir()) if item.is_file())
    settled = content(folder)
    assert not repaired(again, damage, unsafe=False).changes_anything
    assert content(folder) == settled

    backups = [repair.backup for repair in result.repairs if repair.backup]
    assert backups
    for backup in backups:
        undo(backup)
    assert content(folder) == before
    assert not own_files(folder)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [damage for damage in INSPECTED if FIX_OF[damage.code] == "unsafe"], ids=str)
def test_unsafe_fix(damage: Damage, tmp_path: Path) -> None:
    path = offers(damage, tmp_path, "unsafe")
    if path is None:
        return
    folder = path if path.is_dir() else path.parent
    before, errors, held = content(folder), counts(path, damage), set()
    if damage.code not in (*LOSES, *CASTS):
        held = values(path)
    assert damage.code not in {
        step.finding.code for repair in repaired(path, damage, unsafe=False).repairs for step in repair.steps
    }
    untouched = content(folder)
    result = repaired(path, damage, unsafe=True)
    after = counts(path, damage)
    if damage.code in SALVAGED:
        assert [file for file in folder.rglob("*.salvaged.safetensors") if values(file)]
        assert untouched.items() <= content(folder).items(), "the damaged file stays as it is"
    else:
        assert damage.code not in after
    assert all(after[code] <= errors.get(code, 0) for code in after)
    assert values(folder) >= held if damage.code not in SALVAGED else True
    assert not repaired(path, damage, unsafe=True).changes_anything
    for repair in result.repairs:
        if repair.backup:
            undo(repair.backup)
    assert content(folder) in (before, untouched)


@pytest.mark.slow
def test_rules_say_what_their_fixes_are(tmp_path: Path) -> None:
    offered: dict[str, set[str]] = {}
    for number, damage in enumerate(INSPECTED):
        folder = tmp_path / str(number)
        folder.mkdir()
        for finding in inspect(damage.make(folder), damage.policy).findings:
            if finding.fix is not None:
                assert finding.fix.actions
                offered.setdefault(finding.code, set()).add(finding.fix.safety)
    said = {rule.code: {rule.fix} for rule in RULES if rule.fix != "none"}
    assert {code: said[code] for code in offered} == {
        code: found - OFTEN_SAFE.get(code, set()) for code, found in offered.items()
    }
    assert set(said) - set(offered) == UNSEEN


OFTEN_SAFE = {"CKD304": {"unsafe"}, "CKD307": {"unsafe"}, "CKD706": {"unsafe"}}
"""Rules whose fix is safe, unless the loader may not want it or the files look incomplete."""

UNSEEN = {"CKD508"}
"""Rules whose damages offer no fix; theirs have tests of their own."""


def test_hub_id_from_a_path_into_the_cache(tmp_path: Path) -> None:
    from support.places import copied

    adapter = copied("peft/lora", tmp_path)
    file = adapter / "adapter_config.json"
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = "/root/.cache/huggingface/hub/models--Qwen--Qwen2.5-0.5B/snapshots/0123abcd"
    file.write_text(json.dumps(config))
    assert not fix(adapter, Policy(fail_on="note")).changes_anything
    assert fix(adapter, unsafe=True).changes_anything
    written = json.loads(file.read_text())
    assert written.pop("base_model_name_or_path") == "Qwen/Qwen2.5-0.5B"
    del config["base_model_name_or_path"]
    assert written == config
