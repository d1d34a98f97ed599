"""CKD509 repaired: the values are those that torch's cast gives, in every format, and nothing else changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ckpt_doctor import inspect
from ckpt_doctor.core.actions import Rewrite
from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.repair import Repairs, fix, undo
from ckpt_doctor.repair.applying import apply
from ckpt_doctor.repair.draft import Draft, Rewritten
from support.places import copied
from support.repaired import assert_loads, bits, content, own_files, tensors_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")

ADAPTER = "adapter_model.safetensors"


def steps(result: Repairs) -> list[str]:
    return [step.finding.code for repair in result.repairs for step in repair.steps]


def mixed(folder: Path, ending: str = "safetensors", rare: torch.dtype = torch.bfloat16) -> Path:
    """An adapter in float32 of which half the tensors have another dtype."""
    adapter = copied("peft/lora" if ending == "safetensors" else "peft/lora_bin", folder)
    file = adapter / f"adapter_model.{ending}"
    state = {name: tensor.to(rare) if "lora_A" in name else tensor for name, tensor in tensors_of(file).items()}
    if ending == "safetensors":
        save_file(state, file, {"format": "pt"})
    else:
        torch.save(state, file)
    return adapter


def promised(folder: Path, fixture: str, dtype: str = "bfloat16") -> Path:
    """A model in float32 whose configuration says something else."""
    model = copied(f"transformers/{fixture}", folder)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "dtype": dtype}))
    return model


def all_tensors(folder: Path) -> dict[str, torch.Tensor]:
    files = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin")]
    return {name: tensor for file in files for name, tensor in tensors_of(file).items()}


CASES: dict[str, tuple[Callable[[Path], Path], torch.dtype]] = {
    "adapter": (mixed, torch.float32),
    "adapter in torch's format": (lambda folder: mixed(folder, "bin"), torch.float32),
    "adapter with one in float64": (lambda folder: mixed(folder, rare=torch.float64), torch.float64),
    "adapter in torch's format with float64": (lambda folder: mixed(folder, "bin", torch.float64), torch.float64),
    "model": (lambda folder: promised(folder, "single_safetensors"), torch.bfloat16),
    "shards": (lambda folder: promised(folder, "sharded_safetensors"), torch.bfloat16),
    "shards in float16": (lambda folder: promised(folder, "sharded_safetensors", "torch.float16"), torch.float16),
    "shards in torch's format": (lambda folder: promised(folder, "sharded_bin"), torch.bfloat16),
    "tied weights": (lambda folder: promised(folder, "tied_bin"), torch.bfloat16),
}


@pytest.mark.slow
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_fix(tmp_path: Path, case: str, deep: bool) -> None:
    make, dtype = CASES[case]
    path, policy = make(tmp_path), Policy(deep=deep)
    before, values = content(path), all_tensors(path)
    others = [finding.code for finding in inspect(path, policy).findings if finding.code != "CKD509"]
    assert others == (["CKD401"] if case == "tied weights" else [])
    assert not fix(path, policy).changes_anything, "only with --unsafe-fixes"

    result = fix(path, policy, unsafe=True)
    count = sum(tensor.dtype != dtype for tensor in values.values())
    (repair,) = result.repairs
    (step,) = repair.steps
    assert step.finding.fix is not None
    assert step.finding.fix.title == f"cast {count} tensors to {str(dtype).removeprefix('torch.')}"
    assert [finding.code for finding in result.remaining.findings] == others
    assert [finding.code for finding in inspect(path, policy).findings] == others
    after = all_tensors(path)
    assert {name: bits(t) for name, t in after.items()} == {name: bits(t.to(dtype)) for name, t in values.items()}
    assert all(change.exact and change.after == (path / change.path).stat().st_size for change in repair.changes)
    for index in path.glob("*.index.json"):
        document, old = json.loads(index.read_text()), json.loads(before[index.name][1])
        assert document["weight_map"] == old["weight_map"]
        assert document["metadata"] == {**old["metadata"], "total_size": sum(t.nbytes for t in after.values())}
    assert_loads(path)

    settled = content(path)
    assert not fix(path, policy, unsafe=True).changes_anything
    assert content(path) == settled
    assert repair.backup is not None
    undo(repair.backup)
    assert content(path) == before
    assert not own_files(path)


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    model = promised(tmp_path, "tied_bin")
    (file,) = model.glob("*.bin")
    fix(model, unsafe=True)
    state = torch.load(file, weights_only=True)
    assert state["lm_head.weight"].data_ptr() == state["model.embed_tokens.weight"].data_ptr()


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_numbers_that_are_not_finite_stay_so(tmp_path: Path, ending: str) -> None:
    adapter = mixed(tmp_path, ending)
    file = adapter / f"adapter_model.{ending}"
    state = tensors_of(file)
    name = next(name for name, tensor in state.items() if tensor.dtype is torch.bfloat16)
    state[name].view(-1)[:3] = torch.tensor([torch.inf, -torch.inf, torch.nan])
    state[name].view(-1).view(torch.int16)[3] = -7  # a NaN with other bits
    save_file(state, file, {"format": "pt"}) if ending == "safetensors" else torch.save(state, file)
    result = fix(adapter, Policy(deep=True), unsafe=True)
    assert steps(result) == ["CKD509"]
    (finding,) = result.remaining.findings
    assert (finding.code, finding.tensors) == ("CKD601", (name,))
    assert tensors_of(file)[name].view(-1)[:4].tolist()[:2] == [torch.inf, -torch.inf]
    assert tensors_of(file)[name].view(-1)[2:4].isnan().all()


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("fixture", ["sharded_safetensors", "sharded_bin"])
def test_what_is_too_large_is_refused_and_the_rest_repaired(tmp_path: Path, fixture: str, dry_run: bool) -> None:
    model = promised(tmp_path, fixture, "float16")
    file = sorted(model.glob("*-00002-of-*.[bs]*"))[0]
    state = tensors_of(file)
    name = next(iter(state))
    state[name].view(-1)[5:7] = 1e5
    save_file(state, file, {"format": "pt"}) if file.suffix == ".safetensors" else torch.save(state, file)
    (index,) = model.glob("*.index.json")
    document = json.loads(index.read_text())
    document["metadata"]["total_size"] += 1
    index.write_text(json.dumps(document))
    before = content(model)
    result = fix(model, unsafe=True, dry_run=dry_run)
    assert steps(result) == ["CKD705"]
    (rejected,) = result.repairs[0].rejected
    assert rejected.finding.code == "CKD509"
    assert rejected.reason == f"2 finite values of {name} would become infinite in float16"
    changed = {path for path, item in content(model).items() if item != before[path]}
    assert changed == (set() if dry_run else {index.name})


def test_what_became_zero_is_told(tmp_path: Path) -> None:
    model = promised(tmp_path, "single_safetensors", "float16")
    (file,) = model.glob("*.safetensors")
    state = load_file(file)
    name = next(name for name in state if name.endswith("mlp.up_proj.weight"))
    state[name] = torch.full_like(state[name], 1e-12)
    save_file(state, file, {"format": "pt"})
    assert "CKD604" not in {finding.code for finding in inspect(model, Policy(deep=True)).findings}
    result = fix(model, Policy(deep=True), unsafe=True)
    assert steps(result) == ["CKD509"]
    assert [(f.code, f.tensors) for f in result.remaining.findings if f.code == "CKD604"] == [("CKD604", (name,))]


def test_with_other_repairs_of_the_same_file(tmp_path: Path) -> None:
    adapter = mixed(tmp_path)
    healthy = load_file(adapter / ADAPTER)
    save_file({f"module.{name}": tensor for name, tensor in healthy.items()}, adapter / ADAPTER, {"format": "pt"})
    assert steps(fix(adapter, unsafe=True)) == ["CKD304", "CKD509"]
    assert {name: bits(t) for name, t in load_file(adapter / ADAPTER).items()} == {
        name: bits(t.float()) for name, t in healthy.items()
    }


def test_names_are_those_at_the_time_of_the_action(tmp_path: Path) -> None:
    adapter = copied("peft/lora", tmp_path)
    first, second, *_ = load_file(adapter / ADAPTER)
    draft = Draft()
    for action in (
        Rewrite(ADAPTER, dtypes={first: "float16", second: "float16"}),
        Rewrite(ADAPTER, names={first: f"{first}s"}),
        Rewrite(ADAPTER, dtypes={f"{first}s": "bfloat16", second: "float32"}),
        Rewrite(ADAPTER, names={f"{first}s": f"{first}z"}),
    ):
        apply(draft, adapter, action)
    (entry,) = draft.entries.values()
    assert isinstance(entry, Rewritten)
    # The second tensor is back to what it was: nothing is lost on the way.
    assert {t.name: t.dtype.name for t in entry.file.tensors if t.dtype.name != "float32"} == {f"{first}z": "bfloat16"}
    assert sum(tensor.nbytes for tensor in entry.file.tensors) < entry.file.nbytes < entry.original.nbytes


def test_only_floating_point_numbers_are_cast(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_file({"ids": torch.arange(3), "x": torch.ones(3)}, file)
    for dtypes in ({"ids": "float32"}, {"x": "int64"}, {"x": "float8_e5m2"}):
        with pytest.raises(ConversionError, match="is not cast from"):
            apply(Draft(), tmp_path, Rewrite(file.name, dtypes=dtypes))


def test_nothing_is_offered_where_two_dtypes_have_as_many_bytes(tmp_path: Path) -> None:
    adapter = copied("peft/lora", tmp_path)
    state = load_file(adapter / ADAPTER)
    left, right = (sum(t.numel() for name, t in state.items() if part in name) for part in ("lora_A", "lora_B"))
    half = {name: t.half() if "lora_A" in name else t.bfloat16() for name, t in state.items()}
    save_file(half, adapter / ADAPTER, {"format": "pt"})
    (finding,) = inspect(adapter).findings
    assert (finding.fix is None) == (left == right)


def test_no_size_is_made_up_for_shards_that_are_missing(tmp_path: Path) -> None:
    model = promised(tmp_path, "sharded_safetensors")
    sorted(model.glob("*.safetensors"))[0].unlink()
    found = {finding.code: finding.fix for finding in inspect(model).findings}
    assert found["CKD509"] is None


def test_the_file_beside_a_variant_that_is_as_promised_is_left_alone(tmp_path: Path) -> None:
    """The last save wrote the configuration: casting the file in full precision would lose what it is kept for."""
    model = promised(tmp_path, "single_safetensors", "float16")
    state = load_file(model / "model.safetensors")
    half = {name: tensor.half() for name, tensor in state.items()}
    save_file(half, model / "model.fp16.safetensors", {"format": "pt"})
    assert [finding.code for finding in inspect(model).findings] == []
    (model / "model.fp16.safetensors").unlink()
    assert [finding.code for finding in inspect(model).findings] == ["CKD509"]
