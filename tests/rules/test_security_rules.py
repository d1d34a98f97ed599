"""CKD9xx."""

from __future__ import annotations

import pytest

from ckpt_doctor.core.checkpoint import OtherFile
from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.parts import ShardIndex
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.rules.path_escape import PathEscape
from ckpt_doctor.rules.unsafe_pickle import UnsafePickle
from support.builders import checkpoint, file, part, run, severities


def unsafe(*names: str) -> Defect:
    found = [{"name": name, "position": 10 * position} for position, name in enumerate(names)]
    return Defect(DefectKind.UNSAFE_GLOBAL, "It names globals.", evidence={"globals": found})


@pytest.mark.parametrize("role", ["adapter", "model", "file", "extra", "projections"])
def test_a_foreign_global_in_weights_is_an_error(role: str) -> None:
    pickle = file("adapter_model.bin", "a", defects=(unsafe("trl.trainer.config MyConfig"),))
    assert severities(run(UnsafePickle, part(pickle, role=role))) == ["error"]


@pytest.mark.parametrize(
    "names",
    [
        ("axolotl.core.training_args AxolotlTrainingArguments",),
        ("__main__ ScriptArguments", "my_project.config Options.Nested"),
    ],
)
def test_classes_of_other_packages_in_training_state_are_a_warning(names: tuple[str, ...]) -> None:
    state = part(file("training_args.bin", defects=(unsafe(*names),)), role="training-state")
    assert severities(run(UnsafePickle, state)) == ["warning"]


@pytest.mark.parametrize(
    "names",
    [
        ("os system",),
        ("posix system",),
        ("builtins eval",),
        ("__builtin__ Exec",),
        ("subprocess Popen",),
        ("torch.jit Unpickler",),
        ("numpy.testing Tester",),
        ("distutils.spawn Spawn",),
        ("some_package run",),
        ("some_package Config.__init__",),
        ("some_package Config", "os system"),
        ("some_package Con fig",),
        ("Config",),
        ("",),
        (),
    ],
)
def test_anything_else_in_training_state_is_an_error(names: tuple[str, ...]) -> None:
    state = part(file("training_args.bin", defects=(unsafe(*names),)), role="training-state")
    assert severities(run(UnsafePickle, state)) == ["error"]


def test_evidence_of_another_form_is_an_error() -> None:
    defect = Defect(DefectKind.UNSAFE_GLOBAL, "It names globals.", evidence={"globals": ["a B"]})
    state = part(file("training_args.bin", defects=(defect,)), role="training-state")
    assert severities(run(UnsafePickle, state)) == ["error"]


def test_the_tensors_can_be_kept_where_some_were_listed() -> None:
    (finding,) = run(UnsafePickle, part(file("adapter_model.bin", "a", defects=(unsafe("os system"),)), role="adapter"))
    assert finding.fix is not None
    assert finding.fix.safety == "unsafe"
    (finding,) = run(UnsafePickle, part(file("adapter_model.bin", defects=(unsafe("os system"),)), role="adapter"))
    assert finding.fix is None


def test_shard_names_that_leave_the_folder_are_an_error() -> None:
    index = ShardIndex("model.safetensors.index.json", "safetensors", {"a": "../x"}, escaping=("../x",))
    (finding,) = run(PathEscape, part(file("model.safetensors", "a"), indexes=(index,)))
    assert (finding.severity.value, finding.path) == ("error", index.path)
    assert "1 file outside its folder: ../x." in finding.message


def test_links_out_of_the_checkpoint_are_one_note() -> None:
    links = tuple(OtherFile(f"{n}.json", 5, f"../../blobs/{n}", outside=True) for n in "abc")
    inside = OtherFile("d.json", 5, "a.json")
    model = part(file("model.safetensors", "a"))
    (finding,) = PathEscape().check(checkpoint(model, others=(*links, inside)), Policy())
    assert finding.severity.value == "note"
    assert finding.message.startswith("3 symlinks lead out of the checkpoint: a.json -> ../../blobs/a, ")
    assert run(PathEscape, model, others=(inside,)) == []


@pytest.mark.parametrize("digits", [40, 64])
def test_links_of_a_hub_cache_lead_to_its_own_blobs(digits: int) -> None:
    links = tuple(OtherFile(f"{n}.json", 5, f"../../blobs/{n * digits}", outside=True) for n in "abc")
    assert run(PathEscape, part(file("model.safetensors", "a")), others=links) == []
    odd = OtherFile("x.json", 5, f"../../blobs/{'a' * (digits + 1)}", outside=True)
    assert severities(run(PathEscape, part(file("model.safetensors", "a")), others=(*links, odd))) == ["note"]
