"""Every healthy checkpoint, whoever wrote it, fulfils its own contract, and so does it in the other format."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ckpt_doctor
from ckpt_doctor.contracts import read_contract
from ckpt_doctor.core.contract import Contract
from ckpt_doctor.core.errors import ConversionError, LockRefusedError
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from support.zoo import ZOO

FIXTURES = Path(__file__).parents[2] / "fixtures" / "healthy"
HEALTHY = sorted(path.parent for path in FIXTURES.rglob("*") if path.name in ("adapter_config.json", "config.json"))
NOTHING_TO_PIN = "file/torch-no-tensors"
# Of the adapters, whose files are all alike, those with special circumstances.
ADAPTERS = re.compile(
    r"adapter/(.*-bin|several|named|resized.*|first.*|bfloat16|pissa.*|local.*|adalora.*|lora-tied.*)"
)
CHOSEN = sorted(name for name in ZOO if not name.startswith("adapter/") or ADAPTERS.fullmatch(name))


def written(contract: Contract, folder: Path) -> Contract:
    """The contract after it was written and read again."""
    file = folder / "of.ckpt.json"
    file.write_text(contract.to_json())
    again = read_contract(file)
    assert again._replace(source=contract.source) == contract
    return again


def departures(path: Path, contract: Contract) -> list[Finding]:
    """In what the checkpoint at ``path`` is said to depart from its contract; not in what lies further below."""
    report = ckpt_doctor.inspect_against(path, contract, Policy(deep=True, expect="any"))
    (found,) = [item for item in report.diagnoses if item.checkpoint.path == str(path)]
    return [item for item in found.findings if item.code.startswith("CKD85")]


def twin_of(path: Path, folder: Path) -> Path | None:
    """The checkpoint in the other format, or ``None`` where there is no faithful one."""
    checkpoint = ckpt_doctor.open_checkpoint(path)
    formats = {file.format for part in checkpoint.parts if not part.auxiliary for file in part.preferred}
    to = "bin" if formats == {"safetensors"} else "safetensors"
    target = folder / f"twin{f'.{to}' if path.is_file() else ''}"
    try:
        ckpt_doctor.convert(path, target, to=to)
    except ConversionError:
        return None
    return target


def only_ties(found: list[Finding]) -> bool:
    """Whether nothing is said but that names of tied embeddings were dropped, as transformers does."""
    return all((item.code, item.severity) == ("CKD851", Severity.NOTE) for item in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CHOSEN if name != NOTHING_TO_PIN])
def test_zoo(name: str, tmp_path: Path) -> None:
    path = ZOO[name](tmp_path / "zoo")
    path = Path(ckpt_doctor.inspect(path).checkpoints[0].path)  # of several the first
    contract = written(ckpt_doctor.lock(path, values=True), tmp_path)
    assert all(pin.sha256 for part in contract.parts for pin in part.tensors.values())
    assert departures(path, contract) == []
    assert ckpt_doctor.diff(path, path).equal
    twin = twin_of(path, tmp_path)
    if twin is not None:
        assert only_ties(departures(twin, contract))
        assert not ckpt_doctor.diff(path, twin, values=True).differing


@pytest.mark.slow
@pytest.mark.parametrize("path", HEALTHY, ids=lambda path: path.relative_to(FIXTURES).as_posix())
def test_fixture_and_its_twin(path: Path, tmp_path: Path) -> None:
    path = ckpt_doctor.open_checkpoint(path).root
    contract = written(ckpt_doctor.lock(path, values=True), tmp_path)
    twin = twin_of(path, tmp_path)
    assert twin is not None
    for checkpoint in (path, twin):
        assert only_ties(departures(checkpoint, contract))
    # And the contract of the twin is one for the original.
    assert only_ties(departures(path, written(ckpt_doctor.lock(twin, values=True), tmp_path)))


def test_nothing_to_pin(tmp_path: Path) -> None:
    with pytest.raises(LockRefusedError, match="it holds no tensors"):
        ckpt_doctor.lock(ZOO[NOTHING_TO_PIN](tmp_path))
