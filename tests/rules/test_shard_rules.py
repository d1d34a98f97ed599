"""CKD7xx."""

from __future__ import annotations

from typing import Any

import pytest

from ckpt_doctor.analysis.sharding import numbered_sets
from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.parts import Part, ShardIndex
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.rules import RULES
from ckpt_doctor.rules.duplicate_across_shards import DuplicateAcrossShards
from ckpt_doctor.rules.index_key_absent import IndexKeyAbsent
from ckpt_doctor.rules.index_metadata_wrong import IndexMetadataWrong
from ckpt_doctor.rules.index_unreadable import IndexUnreadable
from ckpt_doctor.rules.shard_key_unlisted import ShardKeyUnlisted
from ckpt_doctor.rules.shard_missing import ShardMissing
from ckpt_doctor.rules.stale_index import StaleIndex
from support.builders import checkpoint, file, part, run, scan, severities, tensor

SHARD_RULES = [rule for rule in RULES if rule.code.startswith("CKD7")]
INDEX = "model.safetensors.index.json"
BIN_INDEX = "pytorch_model.bin.index.json"


def shard(
    number: int, total: int, *names: str, stem: str = "model", ending: str = "safetensors", **fields: Any
) -> WeightFile:
    return file(f"{stem}-{number:05d}-of-{total:05d}.{ending}", *names, **fields)


def index_of(*files: WeightFile, path: str = INDEX, total: int | None = -1, **more: str) -> ShardIndex:
    """The index that fits these shards; ``more`` are further names in the shard that they map to."""
    mapping = {item.name: held.path for held in files for item in held.tensors}
    size = sum(item.nbytes for held in files for item in held.tensors) if total == -1 else total
    return ShardIndex(path, "safetensors", {**mapping, **more}, size)


def codes(model: Part) -> list[str]:
    return [finding.code for rule in SHARD_RULES for finding in rule().check(checkpoint(model), Policy())]


FIRST, SECOND, THIRD = shard(1, 3, "a"), shard(2, 3, "b", "c"), shard(3, 3, "d")
WHOLE = (FIRST, SECOND, THIRD)


def test_a_whole_set_is_healthy() -> None:
    assert codes(part(*WHOLE, indexes=(index_of(*WHOLE),))) == []
    assert codes(part(file("model.safetensors", "a"))) == []
    torch = tuple(shard(n, 2, f"t{n}", stem="pytorch_model", ending="bin") for n in (1, 2))
    both = part(*WHOLE, *torch, indexes=(index_of(*WHOLE), index_of(*torch, path=BIN_INDEX)))
    assert codes(both) == []


def test_shards_in_a_folder_of_their_own_are_found() -> None:
    inner = file("unet/parts/model-00001-of-00001.safetensors", "a")
    index = ShardIndex(f"unet/{INDEX}", "safetensors", {"a": "parts/model-00001-of-00001.safetensors"}, 128)
    assert codes(part(inner, indexes=(index,))) == []


def test_a_listed_shard_that_is_absent_is_one_error_and_the_other_rules_stay_silent() -> None:
    model = part(FIRST, THIRD, indexes=(index_of(*WHOLE),))
    assert codes(model) == ["CKD701"]
    (finding,) = run(ShardMissing, model)
    assert finding.tensors == ("b", "c")
    assert (
        "1 of 3 shards in the index is missing: model-00002-of-00003.safetensors, with 2 of 4 tensors"
        in finding.message
    )


def test_without_an_index_the_numbers_tell_which_shards_are_absent() -> None:
    (finding,) = run(ShardMissing, part(SECOND))
    assert finding.severity.value == "error"
    assert finding.evidence["missing"] == [FIRST.path, THIRD.path]
    assert run(ShardMissing, part(SECOND, role="file")) == []


def test_the_list_of_a_format_that_was_not_downloaded_is_no_error() -> None:
    absent = [shard(n, 2, f"t{n}", stem="pytorch_model", ending="bin") for n in (1, 2)]
    indexes = (index_of(*WHOLE), index_of(*absent, path=BIN_INDEX))
    assert severities(run(ShardMissing, part(*WHOLE, indexes=indexes))) == ["note"]
    assert severities(run(ShardMissing, part(*WHOLE, absent[0], indexes=indexes))) == ["warning"]
    assert codes(part(*WHOLE, indexes=indexes)) == ["CKD701"]


def test_remains_of_shards_beside_a_model_that_is_read_are_a_warning() -> None:
    single = file("model.safetensors", "a")
    assert severities(run(ShardMissing, part(single, SECOND, active=(single.path,)))) == ["warning"]


def test_a_key_in_another_shard_or_with_all_bytes_present_is_rebuilt_safely() -> None:
    moved = index_of(*WHOLE, b=FIRST.path)
    (finding,) = run(IndexKeyAbsent, part(*WHOLE, indexes=(moved,)))
    assert (finding.tensors, finding.evidence["lost"]) == (("b",), 0)
    assert finding.fix is not None
    surplus = index_of(*WHOLE, renamed=FIRST.path)
    (finding,) = run(IndexKeyAbsent, part(*WHOLE, indexes=(surplus,)))
    assert finding.evidence["lost"] == 1
    assert finding.fix is not None


@pytest.mark.parametrize("total", [None, 4 * 128 + 64])
def test_a_key_whose_bytes_are_gone_has_no_fix(total: int | None) -> None:
    surplus = index_of(*WHOLE, total=total, lost=FIRST.path)
    (finding,) = run(IndexKeyAbsent, part(*WHOLE, indexes=(surplus,)))
    assert finding.severity.value == "error"
    assert finding.fix is None
    assert "in no shard" in finding.message
    # A corrected total_size would hide the loss.
    assert codes(part(*WHOLE, indexes=(surplus,))) == ["CKD702"]


def test_damaged_shards_are_left_to_their_own_rules() -> None:
    broken = shard(2, 3, format="unknown", defects=(Defect(DefectKind.SAFETENSORS_HEADER, "It is cut."),))
    assert codes(part(FIRST, broken, THIRD, indexes=(index_of(*WHOLE),))) == []


def test_a_key_that_no_index_lists_is_a_warning() -> None:
    index = index_of(FIRST, THIRD, total=512, b=SECOND.path)
    (finding,) = run(ShardKeyUnlisted, part(*WHOLE, indexes=(index,)))
    assert (finding.severity.value, finding.tensors) == ("warning", ("c",))
    assert finding.fix is not None
    # A shard of the set that the index leaves out entirely.
    (finding,) = run(ShardKeyUnlisted, part(*WHOLE, indexes=(index_of(FIRST, SECOND),)))
    assert finding.tensors == ("d",)


@pytest.mark.parametrize(
    ("digests", "equal", "fixable"),
    [((None, None), None, False), (("aa", "aa"), True, True), (("aa", "bb"), False, False)],
)
def test_a_name_in_two_shards_is_an_error_and_is_repaired_only_if_equal(
    digests: tuple[str | None, str | None], equal: bool | None, fixable: bool
) -> None:
    scans = [None if digest is None else {"a": scan(digest=digest)} for digest in digests]
    pair = [shard(n, 2, "a", scans=scans[n - 1]) for n in (1, 2)]
    for model in (part(*pair, indexes=(index_of(*pair),)), part(*pair)):
        (finding,) = run(DuplicateAcrossShards, model)
        assert finding.severity.value == "error"
        assert finding.evidence["equal"] is equal
        assert (finding.fix is not None) is fixable


def test_copies_of_different_shape_differ_without_a_look_at_their_bytes() -> None:
    pair = (file("model-00001-of-00002.safetensors", tensor("a", (4, 8))), shard(2, 2))
    other = file(pair[1].path, tensor("a", (8, 4)))
    (finding,) = run(DuplicateAcrossShards, part(pair[0], other))
    assert finding.evidence["equal"] is False


def test_a_single_file_beside_shards_is_no_duplicate() -> None:
    single = file("model.safetensors", "a", "b", "c", "d")
    assert run(DuplicateAcrossShards, part(single, *WHOLE, indexes=(index_of(*WHOLE),))) == []


@pytest.mark.parametrize("total", [None, 12345])
def test_a_wrong_or_absent_total_size_is_a_warning(total: int | None) -> None:
    (finding,) = run(IndexMetadataWrong, part(*WHOLE, indexes=(index_of(*WHOLE, total=total),)))
    assert finding.severity.value == "warning"
    assert finding.evidence == {"total_size": total, "bytes": 512}
    assert finding.fix is not None


@pytest.mark.parametrize("total", [128 + 100, 2 * 128 + 100, 128 + 12, 2 * 128 + 13])
def test_tied_bytes_may_count_once_or_twice_and_a_bool_as_a_bit(total: int) -> None:
    tied = (tensor("embed", storage="0"), tensor("head", storage="0"), tensor("mask", (100,), dtype="bool"))
    torch = file("pytorch_model-00001-of-00001.bin", *tied)
    assert run(IndexMetadataWrong, part(torch, indexes=(index_of(torch, path=BIN_INDEX, total=total),))) == []


def test_an_index_of_another_number_of_shards_is_stale_and_nothing_else() -> None:
    earlier = [shard(n, 5, name) for n, name in enumerate("abcde", 1)]
    model = part(*WHOLE, earlier[0], indexes=(index_of(*earlier),))
    assert codes(model) == ["CKD706"]
    (finding,) = run(StaleIndex, model)
    assert finding.severity.value == "error"
    assert finding.evidence["instead"] == [item.path for item in WHOLE]
    assert finding.fix is not None
    assert finding.fix.title == "rebuild the index"


def test_an_index_beside_the_single_file_of_a_later_save_is_stale() -> None:
    single = file("model.safetensors", "a", "b", "c", "d")
    model = part(single, FIRST, indexes=(index_of(*WHOLE),), active=(single.path,))
    assert codes(model) == ["CKD706"]
    (finding,) = run(StaleIndex, model)
    assert finding.severity.value == "warning", "transformers never looks at it"
    assert finding.fix is not None
    assert finding.fix.title == "remove the index"


def test_diffusers_looks_for_the_index_first() -> None:
    single = file("diffusion_pytorch_model.safetensors", "a", "b", "c", "d")
    index = index_of(*WHOLE, path="diffusion_pytorch_model.safetensors.index.json")
    (finding,) = run(StaleIndex, part(single, indexes=(index,), active=(single.path,)))
    assert finding.severity.value == "error"


def test_an_index_is_not_stale_while_its_shards_are_there_or_nothing_replaces_them() -> None:
    single = file("model.safetensors", "a", "b", "c", "d")
    assert run(StaleIndex, part(single, *WHOLE, indexes=(index_of(*WHOLE),))) == []
    assert run(StaleIndex, part(FIRST, indexes=(index_of(*WHOLE),))) == []
    partial = file("model.safetensors", "a")
    assert run(StaleIndex, part(partial, FIRST, indexes=(index_of(*WHOLE),))) == []


def test_an_index_that_cannot_be_used_is_rebuilt_where_all_shards_are_there() -> None:
    broken = ShardIndex(INDEX, "safetensors", error="it has no weight_map")
    (finding,) = run(IndexUnreadable, part(*WHOLE, indexes=(broken,)))
    assert finding.severity.value == "error"
    assert finding.message == "It has no weight_map. All shards are there: rebuild the index."
    assert finding.fix is not None
    assert codes(part(*WHOLE, indexes=(broken,))) == ["CKD707"]
    (finding,) = run(IndexUnreadable, part(FIRST, THIRD, indexes=(broken,)))
    assert finding.fix is None
    assert codes(part(FIRST, THIRD, indexes=(broken,))) == ["CKD701", "CKD707"]


def test_an_index_that_names_files_elsewhere_cannot_be_used_and_they_are_not_looked_for() -> None:
    index = ShardIndex(INDEX, "safetensors", {**index_of(*WHOLE).weight_map, "x": "../x"}, 512, escaping=("../x",))
    (finding,) = run(IndexUnreadable, part(*WHOLE, indexes=(index,)))
    assert "1 shard outside its folder (../x)" in finding.message
    assert codes(part(*WHOLE, indexes=(index,))) == ["CKD707"]


def test_what_the_operating_system_refused_is_not_this_rule() -> None:
    refused = ShardIndex(INDEX, "safetensors", error="permission denied", unreadable=True)
    assert run(IndexUnreadable, part(*WHOLE, indexes=(refused,))) == []


def test_shards_without_an_index_are_an_error_for_models_only() -> None:
    assert severities(run(IndexUnreadable, part(*WHOLE))) == ["error"]
    assert run(IndexUnreadable, part(*WHOLE, role="extra")) == []
    assert run(IndexUnreadable, part(shard(1, 1, "a"))) == []


def test_absurd_numbers_cost_nothing() -> None:
    assert numbered_sets([shard(1, 999_999_999, "a"), shard(7, 3, "a"), shard(0, 3, "a")]) == []
