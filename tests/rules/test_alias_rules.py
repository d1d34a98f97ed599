"""CKD4xx."""

from __future__ import annotations

import pytest

from ckpt_doctor.core.parts import Part
from ckpt_doctor.rules.non_contiguous import NonContiguous
from ckpt_doctor.rules.shared_storage import SharedStorage
from ckpt_doctor.rules.view_of_larger_storage import ViewOfLargerStorage
from support.builders import file, part, run, severities, tensor


def whole(*names: str) -> Part:
    """A model in which all these names are one tensor of 128 bytes, beside one of its own."""
    return part(file("pytorch_model.bin", *(tensor(name, storage="0") for name in names), "other.weight"))


def test_shared_bytes_are_a_warning_with_groups_and_bytes() -> None:
    (finding,) = run(SharedStorage, whole("reasoner.q.weight", "trigger.q.weight", "weaver.q.weight"))
    assert finding.severity.value == "warning"
    assert finding.tensors == ("reasoner.q.weight", "trigger.q.weight", "weaver.q.weight")
    assert "They take 128 B, and 384 B if each has its own." in finding.message
    assert "safetensors' save_file refuses" in finding.message
    assert finding.evidence["groups"] == [list(finding.tensors)]
    assert finding.fix is not None
    assert finding.fix.command == "ckpt-doctor convert here --to safetensors --shared clone"
    (finding,) = run(SharedStorage, whole("a", "b"), expect="bin")
    assert finding.fix is not None
    assert finding.fix.command == "ckpt-doctor fix here --select CKD401"


@pytest.mark.parametrize(
    "names",
    [
        ("model.embed_tokens.weight", "lm_head.weight"),
        ("transformer.wte.weight", "lm_head.weight"),
        ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"),
        ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
        ("cls.predictions.bias", "cls.predictions.decoder.bias"),
        ("backbone.embeddings.weight", "lm_head.weight"),
        ("model.decoder.embed_tokens.weight", "proj_out.weight"),
    ],
)
def test_tied_embeddings_are_a_note_without_a_fix(names: tuple[str, ...]) -> None:
    (finding,) = run(SharedStorage, whole(*names))
    assert finding.severity.value == "note"
    assert finding.fix is None


def test_an_embedding_tied_to_something_else_or_in_part_is_no_tie_by_design() -> None:
    assert severities(run(SharedStorage, whole("lm_head.weight", "layers.0.q_proj.weight"))) == ["warning"]
    head = tensor("lm_head.weight", (2, 8), storage="0", storage_nbytes=128)
    sliced = part(file("pytorch_model.bin", tensor("wte.weight", storage="0"), head))
    assert severities(run(SharedStorage, sliced)) == ["warning"]


def test_disjoint_views_and_empty_tensors_share_nothing() -> None:
    halves = (
        tensor("a", (4, 4), storage="0", storage_nbytes=128),
        tensor("b", (4, 4), storage="0", storage_nbytes=128, storage_offset=16),
        tensor("c", (0,), storage="0", storage_nbytes=128),
        tensor("d", (0,), storage="0", storage_nbytes=128),
    )
    assert run(SharedStorage, part(file("pytorch_model.bin", *halves))) == []


def test_training_state_may_share_what_it_likes() -> None:
    state = part(file("optimizer.pt", tensor("a", storage="0"), tensor("b", storage="0")), role="training-state")
    assert run(SharedStorage, state) == []


def test_the_adapter_is_said_to_be_convertible() -> None:
    aliased = part(file("trigger.bin", tensor("a", storage="0"), tensor("b", storage="0")), role="trigger-head")
    adapter = part(file("weaver/adapter_model.bin", "q.lora_A.weight"), role="adapter")
    (finding,) = run(SharedStorage, adapter, aliased, layout="weaver")
    assert "The adapter itself (weaver/adapter_model.bin) shares nothing" in finding.message
    (finding,) = run(SharedStorage, aliased)
    assert "adapter" not in finding.message


def test_the_lora_tensors_inside_a_whole_model_are_said_to_be_convertible() -> None:
    names = ("q.weight", "q.lora_A.weaver.weight", "q.lora_B.weaver.weight")
    tensors = [tensor(f"{module}.{name}", storage=name) for module in ("reasoner", "weaver") for name in names]
    (finding,) = run(SharedStorage, part(file("pytorch_model.bin", *tensors)))
    assert "The 2 LoRA tensors of weaver share nothing with each other" in finding.message
    tied = [tensor(f"weaver.{name}", storage="0") for name in names]
    (finding,) = run(SharedStorage, part(file("pytorch_model.bin", *tied)))
    assert "LoRA" not in finding.message


def test_a_view_of_a_much_larger_storage() -> None:
    view = tensor("latents", (8, 32), storage_nbytes=400_000)
    (finding,) = run(ViewOfLargerStorage, part(file("projections.pt", view), role="projections"))
    assert finding.severity.value == "warning"
    assert finding.tensors == ("latents",)
    assert finding.evidence == {"stored_bytes": 400_000, "used_bytes": 1024}


def test_storages_that_are_used_up_or_nearly_are_left_alone() -> None:
    for tensors in (
        # Rounded up by an allocator.
        (tensor("a", (8, 32), storage_nbytes=1024 + 512),),
        # A few idle kilobytes beside a large model.
        (tensor("a", (1024, 1024)), tensor("b", (8, 32), storage_nbytes=9000)),
        # Tied and expanded tensors use less than they seem to, and nothing of the storage is idle.
        (tensor("a", (64, 64), storage="0"), tensor("b", (64, 64), storage="0")),
        (tensor("a", (4096, 4096), stride=(0, 0), storage_nbytes=4),),
        # Several views that fill their storage together.
        tuple(tensor(f"q{n}", (64, 64), storage="0", storage_nbytes=49152, storage_offset=4096 * n) for n in range(3)),
        # Bytes that are not in the file waste no place there.
        (tensor("a", (1,), storage_nbytes=1 << 30, at=None, device="meta"),),
    ):
        assert run(ViewOfLargerStorage, part(file("pytorch_model.bin", *tensors))) == []
    idle = tensor("a", (8, 32), storage_nbytes=400_000)
    assert run(ViewOfLargerStorage, part(file("optimizer.pt", idle), role="training-state")) == []


def test_strides_out_of_order_are_a_note() -> None:
    transposed = tensor("w", (8, 4), stride=(1, 8))
    expanded = tensor("e", (4, 8), stride=(0, 1), storage_nbytes=32)
    (finding,) = run(NonContiguous, part(file("pytorch_model.bin", transposed, expanded, "plain")))
    assert finding.severity.value == "note"
    assert finding.tensors == ("e", "w")
    assert "shape [8, 4] and stride [1, 8]" in finding.message


def test_dimensions_of_one_or_none_may_have_any_stride() -> None:
    tensors = (tensor("a", (1, 8), stride=(99, 1)), tensor("b", (0, 8), stride=(3, 3)), tensor("c", ()))
    assert run(NonContiguous, part(file("pytorch_model.bin", *tensors))) == []
    transposed = tensor("w", (8, 4), stride=(1, 8))
    assert run(NonContiguous, part(file("optimizer.pt", transposed), role="training-state")) == []
