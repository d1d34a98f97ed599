"""Fixes that would harm are not offered, or not as safe; those that are offered can be carried out."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from ckpt_doctor import inspect
from ckpt_doctor.cli.root import cli
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.repair import fix
from support.damages.edits import INDEX, edit_json, edit_zip, inject, load, save
from support.damages.record import Damage
from support.damages.table import INSPECTED
from support.places import copied


def findings(path: Path, code: str, **options: Any) -> list[Finding]:
    return [finding for finding in inspect(path, Policy(**options)).findings if finding.code == code]


def safety(path: Path, code: str, **options: Any) -> str | None:
    (finding,) = findings(path, code, **options)
    return finding.fix.safety if finding.fix else None


def run(command: str) -> Any:
    return CliRunner().invoke(cli, shlex.split(command)[1:], catch_exceptions=False)


# --- impossible fixes ---


def legacy(file: Path) -> None:
    save(load(file), file, _use_new_zipfile_serialization=False)


def shared(file: Path) -> None:
    state = load(file)
    first, second = [name for name in state if "lora_A" in name][:2]
    save({**state, second: state[first]}, file)


def transposed(file: Path) -> None:
    save({name: tensor.t().contiguous().t() for name, tensor in load(file).items()}, file)


def prefixed(file: Path) -> None:
    save({f"module.{name}": tensor for name, tensor in load(file).items()}, file)


def trailing_data(file: Path) -> None:
    with file.open("ab") as opened:
        opened.write(b"more" * 8)


def absent_class(file: Path) -> None:
    """A name of a package that does not exist, in place of anything that could run."""
    inject(file, b"cno_such_package\nNoSuchClass\n0")


def lost_record(file: Path) -> None:
    edit_zip(file, lambda name, data: None if name.endswith("data/3") else data)


@pytest.mark.parametrize("second", [trailing_data, absent_class, lost_record])
@pytest.mark.parametrize("first", [legacy, shared, transposed, prefixed])
def test_what_another_finding_makes_impossible_is_not_offered(first: Any, second: Any, tmp_path: Path) -> None:
    if first is legacy and second is not trailing_data:
        pytest.skip("these damage a zip archive")
    adapter = copied("peft/lora_bin", tmp_path)
    file = adapter / "adapter_model.bin"
    first(file)
    second(file)
    for policy in (Policy(), Policy(expect="safetensors")):
        for finding in inspect(adapter, policy).findings:
            if finding.fix is not None:
                chosen = policy._replace(select=(finding.code,))
                copy = Path(shutil.copytree(adapter, tmp_path / f"{finding.code}-{policy.expect}"))
                (repair,) = fix(copy, chosen, unsafe=True).repairs
                assert [step.finding.code for step in repair.steps] == [finding.code], repair.rejected


@pytest.mark.slow
@pytest.mark.parametrize("damage", INSPECTED, ids=str)
def test_what_is_offered_can_be_done(damage: Damage, tmp_path: Path) -> None:
    path = damage.make(tmp_path)
    for finding in inspect(path, damage.policy).findings:
        if finding.code == damage.code and finding.fix is not None:
            assert fix(path, damage.policy._replace(select=(damage.code,)), unsafe=True, dry_run=True).changes_anything
            return


# --- CKD201 ---


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fixture", "options"),
    [("weaver_bin/weaver", []), ("peft/lora", ["--expect", "bin"]), ("peft/lora_bin", ["--expect", "safetensors"])],
)
def test_the_advice_on_the_format_is_one_and_ends_healthy(fixture: str, options: list[str], tmp_path: Path) -> None:
    for source in ("line", "footer", "json"):
        here = copied(fixture, tmp_path / source)
        told = run(shlex.join(["ckpt-doctor", "inspect", "--no-config", str(here), *options]))
        text = re.sub(r" \\\n +", " ", told.stdout)
        if source == "json":
            shown = run(
                shlex.join(["ckpt-doctor", "inspect", "--no-config", "--output-format", "json", str(here), *options])
            )
            (found,) = json.loads(shown.stdout)["checkpoints"][0]["findings"]
            command = found["fix"]["command"]
        elif source == "line":
            command = re.search(r"fix: (.*)", text)[1]  # type: ignore[index]
        else:
            command = re.search(r"fixable with `(.*)`", text)[1]  # type: ignore[index]
            command = command.replace(" PATH", f" {shlex.quote(str(here))}")
            if "--expect" not in command:
                command = shlex.join([*shlex.split(command), *options])
        assert command.startswith("ckpt-doctor fix ")
        assert run(command).exit_code == 0
        report = inspect(here, Policy(expect=options[1] if options else None, deep=True))
        assert not report.findings


# --- prefixes, modules ---


def test_a_prefix_is_stripped_safely_only_where_the_loader_is_known(tmp_path: Path) -> None:
    model = copied("transformers/single_safetensors", tmp_path)
    file = model / "model.safetensors"
    save_file({f"module.{name}": tensor for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    assert safety(model, "CKD304") == "safe"
    assert safety(Path(shutil.copy(file, tmp_path / "lone.safetensors")), "CKD304") == "unsafe"
    state = {f"module.{name}": tensor for name, tensor in torch.nn.Linear(2, 2).state_dict().items()}
    torch.save(state, tmp_path / "net.pth")
    assert safety(tmp_path / "net.pth", "CKD304") == "unsafe"
    assert not fix(tmp_path / "net.pth").changes_anything
    (model / "config.json").unlink()
    assert safety(model, "CKD304") == "unsafe"


def with_targets(folder: Path, old: str, *new: str, ranks: int = 1) -> Path:
    """A LoRA whose v_proj tensors go by other module names."""
    adapter = copied("peft/lora", folder)
    file = adapter / "adapter_model.safetensors"
    state = {}
    for name, tensor in load_file(file).items():
        for module in new if old in name else ("",):
            state[name.replace(old, module) if module else name] = tensor.clone()
    save_file(state, file, {"format": "pt"})
    edit_json(adapter / "adapter_config.json", lambda config: config.update(target_modules=["q_proj"]))
    return adapter


@pytest.mark.parametrize(
    "new", [("mlp.experts", "mlp.experts.base_layer"), ("mlp.experts",), ("router", "router.base_layer")]
)
def test_adapted_parameters_are_no_modules(new: tuple[str, ...], tmp_path: Path) -> None:
    adapter = with_targets(tmp_path, "self_attn.v_proj", *new)
    (finding,) = findings(adapter, "CKD308")
    assert finding.fix is None
    assert "target_parameters" in finding.message
    assert "base_layer" not in finding.message
    edit_json(
        adapter / "adapter_config.json", lambda config: config.update(target_parameters=["mlp.experts.gate_up_proj"])
    )
    assert not findings(adapter, "CKD308")


def test_a_module_that_is_only_a_number_is_named_by_its_path(tmp_path: Path) -> None:
    adapter = with_targets(tmp_path, "self_attn.v_proj", "mlp.net.0")
    assert fix(adapter, unsafe=True).changes_anything
    modules = json.loads((adapter / "adapter_config.json").read_text())["target_modules"]
    assert "0" not in modules
    assert "model.layers.0.mlp.net.0" in modules


# --- indexes ---


def sharded(folder: Path, *names: str) -> Path:
    """Shards whose index also lists ``names``, with a total_size that fits what is there."""
    model = copied("transformers/sharded_safetensors", folder)
    edit_json(
        model / INDEX,
        lambda index: index["weight_map"].update(dict.fromkeys(names, "model-00001-of-00003.safetensors")),
    )
    return model


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("model.layers.9.mlp.up_proj.weight", True),  # as other layers have it
        ("model.layers.0.mlp.up_proj.weight_scale_inv", True),  # the scale of a weight that is there
        ("model.layers.0.mlp.up_proj.bias", True),
        ("score.weight_of_an_earlier_head", False),
    ],
)
def test_an_index_is_not_rebuilt_without_a_name_of_the_model(name: str, lost: bool, tmp_path: Path) -> None:
    model = sharded(tmp_path, name)
    assert safety(model, "CKD702") == (None if lost else "safe")
    if lost:
        assert not fix(model, unsafe=True).changes_anything
        assert "in no shard" in findings(model, "CKD702")[0].message


def test_listing_a_tensor_hides_no_loss(tmp_path: Path) -> None:
    model = sharded(tmp_path, "model.layers.9.mlp.up_proj.weight")
    edit_json(model / INDEX, lambda index: index["weight_map"].pop("model.norm.weight"))
    result = fix(model, unsafe=True)
    assert [step.finding.code for repair in result.repairs for step in repair.steps] == ["CKD703"]
    assert {finding.code for finding in result.remaining.findings} == {"CKD702"}


@pytest.mark.parametrize(("layers", "expected"), [(2, "safe"), (3, "unsafe")])
def test_the_index_of_a_larger_save_is_not_removed_unasked(layers: int, expected: str, tmp_path: Path) -> None:
    model = copied("transformers/single_safetensors", tmp_path)
    names = list(load_file(model / "model.safetensors"))
    if layers == 3:
        names += [name.replace("layers.1.", "layers.2.") for name in names if "layers.1." in name]
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, "model-00001-of-00002.safetensors")}
    (model / INDEX).write_text(json.dumps(index))
    assert safety(model, "CKD706") == expected


# --- two sets of weights ---


def test_after_the_single_file_is_set_aside_the_shards_are_the_model(tmp_path: Path) -> None:
    model = copied("transformers/sharded_safetensors", tmp_path)
    whole = {name: tensor for shard in sorted(model.glob("model-*")) for name, tensor in load_file(shard).items()}
    save_file({name: tensor + 1 for name, tensor in whole.items()}, model / "model.safetensors", {"format": "pt"})
    assert safety(model, "CKD209") is None, "only the values can tell"
    assert findings(model, "CKD209")[0].severity.value == "note"
    result = fix(model, Policy(deep=True), unsafe=True)
    assert not (model / "model.safetensors").exists()
    assert not result.remaining.findings
    loaded = __import__("transformers").AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).state_dict()
    assert all(torch.equal(loaded[name], tensor.float()) for name, tensor in whole.items())


def test_a_second_format_beside_two_sets_is_one_finding(tmp_path: Path) -> None:
    model = copied("transformers/sharded_safetensors", tmp_path)
    whole = {name: tensor for shard in sorted(model.glob("model-*")) for name, tensor in load_file(shard).items()}
    torch.save(whole, model / "pytorch_model.bin")
    assert not findings(model, "CKD209", deep=True)
    assert len(findings(model, "CKD204", deep=True)) == 1


def test_whole_sets_that_should_not_be_taken_for_two(tmp_path: Path) -> None:
    """A variant beside the model, an index of one single file, and a shard that is gone."""
    model = copied("transformers/single_safetensors", tmp_path)
    names = dict.fromkeys(load_file(model / "model.safetensors"), "model.safetensors")
    (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))
    assert not findings(model, "CKD209", deep=True)
    other = copied("transformers/sharded_safetensors", tmp_path)
    shutil.copy(model / "model.safetensors", other / "model.fp16.safetensors")
    assert not findings(other, "CKD209", deep=True)
    (other / "model-00002-of-00003.safetensors").unlink()
    shutil.copy(model / "model.safetensors", other)
    assert not findings(other, "CKD209", deep=True)


# --- the spelling of names ---


def names_in(path: Path) -> set[str]:
    """What is called something: files and their folders, tensors, members of archives."""
    found = set()
    for diagnosis in inspect(path).diagnoses:
        for file in diagnosis.checkpoint.files:
            found |= {file.path, file.path.rpartition("/")[2], *(tensor.name for tensor in file.tensors)}
            found |= {record.name for record in file.records}
    return {name for name in found if re.search(r"[./_-]", name)}


@pytest.mark.slow
@pytest.mark.parametrize("damage", INSPECTED, ids=str)
def test_names_keep_their_spelling(damage: Damage, tmp_path: Path) -> None:
    report = damage.inspect(tmp_path)
    names = {name.lower(): name for diagnosis in report.diagnoses for name in names_in(diagnosis.checkpoint.root)}
    names.update({"adapter_model/data.pkl": "adapter_model/data.pkl"})
    for finding in report.findings:
        for word in re.findall(r"[\w./-]+[\w]", finding.message):
            assert names.get(word.lower(), word) == word


def test_names_that_a_loader_of_memgen_may_want_are_only_changed_on_demand(tmp_path: Path) -> None:
    """A loader that goes through the names of the live model restores those with the adapter's name, and only those."""
    here = copied("weaver_safetensors/weaver", tmp_path)
    file = here / "weaver_lora" / "adapter_model.safetensors"
    state = {name.replace(".weight", ".weaver.weight"): tensor for name, tensor in load_file(file).items()}
    save_file(state, file, {"format": "pt"})
    assert safety(here, "CKD307") == "unsafe"
    adapter = copied("peft/lora", tmp_path)
    file = adapter / "adapter_model.safetensors"
    state = {name.replace(".weight", ".weaver.weight"): tensor for name, tensor in load_file(file).items()}
    save_file(state, file, {"format": "pt"})
    assert safety(adapter, "CKD307") == "safe"
