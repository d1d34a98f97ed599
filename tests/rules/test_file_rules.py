"""CKD1xx, and CKD204 and CKD208."""

from __future__ import annotations

from pathlib import Path

import pytest

import ckpt_doctor
from ckpt_doctor.core.checkpoint import OtherFile
from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.parts import ConfigFile, ShardIndex
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.rules import RULES
from ckpt_doctor.rules._kit.rule import DefectRule
from ckpt_doctor.rules.bin_and_safetensors import BinAndSafetensors
from ckpt_doctor.rules.file_unreadable import FileUnreadable
from ckpt_doctor.rules.format_metadata_missing import FormatMetadataMissing
from ckpt_doctor.rules.safetensors_truncated import SafetensorsTruncated
from ckpt_doctor.rules.save_interrupted import SaveInterrupted
from ckpt_doctor.rules.torch_legacy_format import TorchLegacyFormat
from ckpt_doctor.rules.torch_zip_truncated import TorchZipTruncated
from ckpt_doctor.rules.wrong_extension import WrongExtension
from support.builders import checkpoint, file, part, run, scan, severities, tensor

WEIGHTS = "adapter_model.safetensors"
SECURITY_OR_UNREAD = ("CKD112", "CKD901", "CKD902", "CKD903", "CKD904", "CKD905")


@pytest.mark.parametrize("kind", DefectKind)
def test_every_kind_of_defect_belongs_to_exactly_one_rule(kind: DefectKind) -> None:
    owners = [rule for rule in RULES if issubclass(rule, DefectRule) and kind in rule.kinds]
    assert len(owners) == 1


@pytest.mark.parametrize("rule", [rule for rule in RULES if issubclass(rule, DefectRule)])
def test_a_defect_is_passed_on_with_advice(rule: type[DefectRule]) -> None:
    defect = Defect(rule.kinds[0], "it is 3 bytes short", ("a",), {"missing": 3})
    broken = file("adapter_model.bin", "a", defects=(defect,))
    (finding,) = run(rule, part(broken, role="adapter"), part(file("healthy.bin"), role="projections"))
    assert finding.code == rule.code
    assert finding.message == f"It is 3 bytes short. {rule.advice}"
    assert (finding.path, finding.tensors, finding.evidence) == ("adapter_model.bin", ("a",), {"missing": 3})
    assert finding.severity.value == "error"
    incomplete = (DefectKind.SAFETENSORS_TRUNCATED, DefectKind.STORAGE_MISSING)
    assert finding.always_fails is (not broken.readable or defect.kind in incomplete)


@pytest.mark.parametrize("rule", [rule for rule in RULES if issubclass(rule, DefectRule)])
def test_a_defect_of_training_state_is_a_warning_unless_it_is_dangerous(rule: type[DefectRule]) -> None:
    broken = file("optimizer.pt", defects=(Defect(rule.kinds[0], "It is short."),))
    expected = "error" if rule.code in SECURITY_OR_UNREAD else "warning"
    assert severities(run(rule, part(broken, role="training-state"))) == [expected]


@pytest.mark.parametrize(
    ("rule", "kind", "path"),
    [
        (SafetensorsTruncated, DefectKind.SAFETENSORS_TRUNCATED, WEIGHTS),
        (TorchZipTruncated, DefectKind.TORCH_TRUNCATED, "adapter_model.bin"),
    ],
)
def test_salvage_is_offered_only_where_a_tensor_is_whole(rule: type[DefectRule], kind: DefectKind, path: str) -> None:
    defects = (Defect(kind, "It is short."),)
    whole = tensor("a", (4, 8), at=64)
    cut = tensor("b", (4, 8), at=192)
    absent = tensor("c", (4, 8), at=None)
    (finding,) = run(rule, part(file(path, whole, cut, absent, nbytes=200, defects=defects), role="adapter"))
    assert finding.fix is not None
    assert finding.fix.safety == "unsafe"
    assert finding.fix.command == f"ckpt-doctor fix here --select {rule.code} --unsafe-fixes"
    (finding,) = run(rule, part(file(path, cut, absent, nbytes=200, defects=defects), role="adapter"))
    assert finding.fix is None


@pytest.mark.parametrize(
    ("path", "kind", "role", "severity", "target"),
    [
        ("adapter_model.safetensors", "torch-zip", "adapter", "error", "adapter_model.bin"),
        ("adapter_model.bin", "safetensors", "adapter", "error", "adapter_model.safetensors"),
        ("model.safetensors", "torch-legacy", "model", "error", "pytorch_model.bin"),
        ("sub/pytorch_model.bin", "safetensors", "model", "error", "model.safetensors"),
        ("weights.pt", "safetensors", "file", "warning", "weights.safetensors"),
        # A loader asks for this very name: a rename would only hide the file.
        ("projections.pt", "safetensors", "projections", "warning", None),
    ],
)
def test_a_name_that_contradicts_the_content(
    path: str, kind: str, role: str, severity: str, target: str | None
) -> None:
    (finding,) = run(WrongExtension, part(file(path, "a", format=kind), role=role))
    assert finding.severity.value == severity
    assert (finding.fix.title if finding.fix else None) == (f"rename to {target}" if target else None)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("adapter_model.safetensors", "safetensors"),
        ("adapter_model.bin", "torch-zip"),
        ("weights.ckpt", "torch-legacy"),
        ("0a1b2c", "safetensors"),
        ("weights.sft", "safetensors"),
        ("adapter_model.safetensors", "unknown"),
    ],
)
def test_names_that_contradict_nothing(path: str, kind: str) -> None:
    assert run(WrongExtension, part(file(path, "a", format=kind), role="adapter")) == []


def test_no_rename_onto_another_file_or_away_from_an_index() -> None:
    wrong = file("adapter_model.safetensors", "a", format="torch-zip")
    (finding,) = run(WrongExtension, part(wrong, file("adapter_model.bin", "a"), role="adapter"))
    assert finding.fix is None
    shard = file("model-00001-of-00001.safetensors", "a", format="torch-zip")
    index = ShardIndex("model.safetensors.index.json", "safetensors", {"a": shard.path})
    (finding,) = run(WrongExtension, part(shard, indexes=(index,)))
    assert finding.fix is None


def test_metadata_that_says_nothing_is_a_note() -> None:
    shards = [file(f"model-0000{n}-of-00002.safetensors", "a", metadata=meta) for n, meta in ((1, None), (2, {}))]
    (finding,) = run(FormatMetadataMissing, part(*shards))
    assert finding.severity.value == "note"
    assert finding.message.startswith("2 safetensors files ")
    assert finding.evidence["files"] == [shard.path for shard in shards]


def test_metadata_of_other_frameworks_other_files_and_other_roles_is_left_alone() -> None:
    assert run(FormatMetadataMissing, part(file("model.safetensors", "a", metadata={"format": "mlx"}))) == []
    assert run(FormatMetadataMissing, part(file("pytorch_model.bin", "a"))) == []
    assert run(FormatMetadataMissing, part(file("any.safetensors", "a", metadata=None), role="file")) == []
    assert run(FormatMetadataMissing, part(file("any.safetensors", "a", metadata=None), role="extra")) == []
    assert run(FormatMetadataMissing, part(file("model.safetensors", "a", metadata=None), role="file")) != []


def test_legacy_format_counts_only_where_tensors_to_evaluate_are_in_it() -> None:
    assert severities(run(TorchLegacyFormat, part(file("w.pt", "a", format="torch-legacy"), role="file"))) == [
        "warning"
    ]
    assert run(TorchLegacyFormat, part(file("w.pt", format="torch-legacy"), role="file")) == []
    assert run(TorchLegacyFormat, part(file("optimizer.pt", "a", format="torch-legacy"), role="training-state")) == []


def test_json_that_cannot_be_read_always_fails() -> None:
    refused = "permission denied"
    config = ConfigFile("adapter_config.json", None, error=refused, unreadable=True)
    index = ShardIndex("model.safetensors.index.json", "safetensors", error=refused, unreadable=True)
    parts = (part(file(WEIGHTS, "a"), role="adapter", config=config), part(config=config, indexes=(index,)))
    findings = run(FileUnreadable, *parts)
    assert [finding.path for finding in findings] == ["adapter_config.json", "model.safetensors.index.json"]
    assert all(finding.always_fails for finding in findings)
    assert findings[0].message.startswith("Permission denied. ")


def test_json_with_wrong_content_is_not_this_rule() -> None:
    config = ConfigFile("adapter_config.json", None, error="not JSON")
    assert run(FileUnreadable, part(file(WEIGHTS, "a"), role="adapter", config=config)) == []


def test_bytes_that_were_not_scanned_always_fail() -> None:
    tensors = (tensor("a"), tensor("b"), tensor("empty", (0, 4)), tensor("nowhere", device="meta", at=None))
    partly = file("w.bin", *tensors, scans={"a": scan()})
    (finding,) = run(FileUnreadable, part(partly), deep=True)
    assert (finding.tensors, finding.always_fails) == (("b",), True)
    assert run(FileUnreadable, part(partly)) == []
    damaged = file("w.bin", *tensors, scans={}, defects=(Defect(DefectKind.STORAGE_MISSING, "Gone."),))
    assert "scanned" not in "".join(found.message for found in run(FileUnreadable, part(damaged), deep=True))


# --- CKD204 ---------------------------------------------------------------------------------------------------------


def test_two_formats_that_agree_may_lose_one() -> None:
    adapter = part(file(WEIGHTS, "a", "b"), file("adapter_model.bin", "a", "b"), role="adapter")
    (finding,) = run(BinAndSafetensors, adapter)
    assert finding.severity.value == "warning"
    assert "They agree in names, shapes and dtypes of 2 tensors. Use --deep" in finding.message
    assert finding.fix is None, "nobody has compared the values"
    same = {name: scan(digest=name) for name in "ab"}
    adapter = part(file(WEIGHTS, "a", "b", scans=same), file("adapter_model.bin", "a", "b", scans=same), role="adapter")
    (finding,) = run(BinAndSafetensors, adapter)
    assert finding.fix is not None
    assert finding.fix.title == f"keep {WEIGHTS} and set adapter_model.bin aside"
    (finding,) = run(BinAndSafetensors, adapter, expect="bin")
    assert finding.fix is not None
    assert finding.fix.title == f"keep adapter_model.bin and set {WEIGHTS} aside"


def test_two_formats_that_differ_are_a_choice() -> None:
    other = file("adapter_model.bin", tensor("a", (8, 4)), "c")
    (finding,) = run(BinAndSafetensors, part(file(WEIGHTS, "a", "b"), other, role="adapter"))
    assert finding.fix is not None
    assert finding.fix.safety == "unsafe"
    assert "1 tensor only in safetensors, 1 tensor only in the torch file, 1 in shape or dtype (a)" in finding.message
    assert finding.evidence["agree"] is False


@pytest.mark.parametrize(("digest", "agree"), [("aa", True), ("bb", False)])
def test_two_formats_are_compared_by_value_where_the_bytes_were_read(digest: str, agree: bool) -> None:
    safe = file(WEIGHTS, "a", scans={"a": scan(digest="aa")})
    torch = file("adapter_model.bin", "a", scans={"a": scan(digest=digest)})
    (finding,) = run(BinAndSafetensors, part(safe, torch, role="adapter"), deep=True)
    assert finding.evidence["agree"] is agree
    assert ("They agree in values, names" in finding.message) is agree
    assert finding.fix is not None


def test_tied_tensors_that_only_the_torch_file_spells_out_are_no_difference() -> None:
    torch = file("pytorch_model.bin", tensor("embed", storage="0"), tensor("head", storage="0"))
    (finding,) = run(BinAndSafetensors, part(file("model.safetensors", "embed"), torch))
    assert finding.evidence["agree"] is True


def test_shards_are_paired_as_sets_and_single_formats_are_left_alone() -> None:
    safe = [file(f"model-0000{n}-of-00002.safetensors", f"t{n}") for n in (1, 2)]
    torch = [file(f"pytorch_model-0000{n}-of-00003.bin", f"t{n}") for n in (1, 2)]
    (finding,) = run(BinAndSafetensors, part(*safe, *torch))
    assert finding.evidence["agree"] is True
    assert run(BinAndSafetensors, part(*safe)) == []
    assert run(BinAndSafetensors, part(file("model.safetensors", "a"), file("projections.pt", "b"))) == []


def test_a_damaged_copy_is_not_compared() -> None:
    broken = file("adapter_model.bin", format="unknown", defects=(Defect(DefectKind.EMPTY, "It has 0 bytes."),))
    (finding,) = run(BinAndSafetensors, part(file(WEIGHTS, "a"), broken, role="adapter"))
    assert finding.fix is None
    assert finding.evidence["agree"] is None


# --- CKD208 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "adapter_model.safetensors.tmp",
        "adapter_model.safetensors.tmp.4711",
        "adapter_model.safetensors.incomplete",
        "adapter_model.safetensors.0f3a.incomplete",
        "adapter_model.safetensors.part",
        "adapter_model.safetensors.crdownload",
        ".adapter_model.safetensors.tmp",
        ".tmp_adapter_model.safetensors",
        ".adapter_model.safetensors.Qx71bZ",
        "tmpk2_f8z1a",
    ],
)
def test_a_temporary_file_is_an_error_where_the_final_one_is_absent_and_a_note_where_it_is_whole(name: str) -> None:
    left = (OtherFile(name, 512),)
    assert severities(run(SaveInterrupted, part(role="adapter"), others=left)) == ["error"]
    assert severities(run(SaveInterrupted, part(file(WEIGHTS, "a"), role="adapter"), others=left)) == ["note"]
    broken = file(WEIGHTS, "a", defects=(Defect(DefectKind.SAFETENSORS_TRUNCATED, "It is short."),))
    assert severities(run(SaveInterrupted, part(broken, role="adapter"), others=left)) == ["error"]


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors.lock",
        "model.safetensors.metadata",
        "README.md",
        "tmp",
        "model.safetensors.part1",
        ".gitattributes",
    ],
)
def test_locks_and_other_files_are_no_trace_of_an_interrupted_save(name: str) -> None:
    assert run(SaveInterrupted, part(role="adapter"), others=(OtherFile(name, 0),)) == []


def test_what_the_temporary_file_was_to_become_decides() -> None:
    whole = part(file("model-00001-of-00002.safetensors", "a"))
    shard = (OtherFile("model-00002-of-00002.safetensors.tmp", 5),)
    other_format = (OtherFile("pytorch_model.bin.tmp", 5),)
    assert severities(run(SaveInterrupted, whole, others=shard)) == ["error"]
    assert severities(run(SaveInterrupted, whole, others=other_format)) == ["warning"]
    assert severities(run(SaveInterrupted, whole, others=(OtherFile("trainer_state.json.tmp", 5),))) == ["note"]
    config = ConfigFile("config.json", {})
    written = part(role="model", config=config)
    assert severities(run(SaveInterrupted, written, others=(OtherFile("config.json.tmp", 5),))) == ["note"]


def test_a_shard_of_no_bytes_and_a_staging_folder_are_errors() -> None:
    from pathlib import Path

    empty = file("model-00002-of-00002.safetensors", nbytes=0, format="unknown")
    (finding,) = run(SaveInterrupted, part(file("model-00001-of-00002.safetensors", "a"), empty))
    assert (finding.path, finding.severity.value) == (empty.path, "error")
    staged = checkpoint(part(file("model.safetensors", "a")), root=Path("run/tmp-checkpoint-500"))
    assert severities(SaveInterrupted().check(staged, Policy())) == ["error"]


def test_the_state_dict_of_an_offloaded_model_holds_no_values(tmp_path: Path) -> None:
    import accelerate
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    torch.save(model.state_dict(), tmp_path / "whole.pt")
    accelerate.cpu_offload(model, execution_device="cpu")
    torch.save({**model.state_dict(), "none": torch.empty(0, 3, device="meta")}, tmp_path / "offloaded.pt")
    accelerate.Accelerator().save_model(model, tmp_path / "saved")
    assert not ckpt_doctor.inspect(tmp_path / "whole.pt").findings
    assert not ckpt_doctor.inspect(tmp_path / "saved").findings
    (finding,) = ckpt_doctor.inspect(tmp_path / "offloaded.pt").findings
    assert (finding.code, finding.tensors) == ("CKD116", ("0.bias", "0.weight", "1.bias", "1.weight"))
