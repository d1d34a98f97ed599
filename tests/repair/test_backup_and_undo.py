"""What a repair leaves behind, what it refuses, and what no checkpoint can make it do."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from ckpt_doctor.core.errors import RepairError
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.repair import fix, run, undo
from ckpt_doctor.repair.journal import Identity, Journal, Replacement
from ckpt_doctor.repair.transaction import locked
from support.places import copied
from support.repaired import content, own_files
from support.scenes import shards, weaver


def backup_of(path: Path, **options: Any) -> Path:
    (repair,) = fix(path, **options).repairs
    assert repair.steps
    assert repair.backup is not None
    return Path(repair.backup)


def test_mode_and_owner_are_kept(tmp_path: Path) -> None:
    model = shards(tmp_path)
    file = model / "model-00001-of-00003.safetensors"
    file.chmod(0o640)
    if os.getuid() == 0:
        os.chown(file, 1234, 2345)
    before = file.stat()
    fix(model)
    after = file.stat()
    assert after.st_ino != before.st_ino
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


def test_under_another_name_a_file_is_as_private_as_before(tmp_path: Path) -> None:
    here = weaver(tmp_path)
    (here / "weaver_lora" / "adapter_model.bin").chmod(0o600)
    fix(here)
    assert stat.S_IMODE((here / "weaver_lora" / "adapter_model.safetensors").stat().st_mode) == 0o600


def test_without_backup(tmp_path: Path) -> None:
    model = shards(tmp_path)
    (repair,) = fix(model, backup=False).repairs
    assert repair.steps
    assert repair.backup is None
    assert not own_files(tmp_path)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    model = shards(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in [tmp_path, model, *model.iterdir()]}
    planned = fix(model, dry_run=True)
    assert planned.changes_anything
    assert {path: path.stat().st_mtime_ns for path in [tmp_path, model, *model.iterdir()]} == times
    done = fix(model)
    sizes = {change.path: (change.action, change.before, change.after) for change in planned.repairs[0].changes}
    assert sizes == {change.path: (change.action, change.before, change.after) for change in done.repairs[0].changes}
    assert all((model / path).stat().st_size == after for path, (_, _, after) in sizes.items())


def test_undo_refuses_what_changed_since(tmp_path: Path) -> None:
    model = shards(tmp_path)
    backup = backup_of(model)
    (model / "model-00002-of-00003.safetensors").write_bytes(b"newer")
    after = content(tmp_path)
    with pytest.raises(RepairError, match="has changed since the repair"):
        undo(backup)
    assert content(tmp_path) == after
    assert (backup / "old" / "0").exists()


def test_undo_twice(tmp_path: Path) -> None:
    backup = backup_of(shards(tmp_path))
    undo(backup)
    with pytest.raises(Exception, match="is not a folder"):
        undo(backup)


def test_two_repairs_are_undone_one_after_the_other(tmp_path: Path) -> None:
    model = shards(tmp_path)
    before = content(tmp_path)
    first = backup_of(model, policy=Policy(select=("CKD109",)))
    second = backup_of(model)
    with pytest.raises(RepairError, match="has changed since"):
        undo(first)
    undo(second)
    undo(first)
    assert content(tmp_path) == before


def test_a_file_that_changes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = shards(tmp_path)
    real = run.plan

    def slow(*args: Any, **options: Any) -> Any:
        planned = real(*args, **options)
        config = model / "config.json"
        config.write_text(config.read_text() + "\n")
        return planned

    monkeypatch.setattr(run, "plan", slow)
    with pytest.raises(RepairError, match=r"config\.json changed during the repair"):
        fix(model)
    assert not own_files(tmp_path)
    assert "module." in (model / "model.safetensors.index.json").read_text()


def test_a_file_that_appears_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = weaver(tmp_path)
    target = here / "weaver_lora" / "adapter_model.safetensors"
    real = run.plan

    def slow(*args: Any, **options: Any) -> Any:
        planned = real(*args, **options)
        target.write_bytes(b"somebody else's")
        return planned

    monkeypatch.setattr(run, "plan", slow)
    with pytest.raises(RepairError, match="during the repair"):
        fix(here)
    assert target.read_bytes() == b"somebody else's"
    assert (here / "weaver_lora" / "adapter_model.bin").exists()


def test_two_repairs_at_once(tmp_path: Path) -> None:
    model = shards(tmp_path)
    before = content(tmp_path)
    with locked(model), pytest.raises(RepairError, match="another repair is running"):
        fix(model)
    assert content(tmp_path) == before


def test_links_are_not_written_through(tmp_path: Path) -> None:
    model = shards(tmp_path)
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for file in sorted(model.glob("*.safetensors")):
        file.rename(blobs / file.name)
        file.symlink_to(blobs / file.name)
    before = content(tmp_path)
    (repair,) = fix(model, Policy(select=("CKD304", "CKD109"))).repairs
    assert not repair.steps
    assert all("is a link to" in item.reason for item in repair.rejected)
    assert content(tmp_path) == before


def test_a_linked_folder_in_between(tmp_path: Path) -> None:
    here = weaver(tmp_path)
    (here / "weaver_lora").rename(tmp_path / "elsewhere")
    (here / "weaver_lora").symlink_to(tmp_path / "elsewhere")
    before = content(tmp_path)
    (repair,) = fix(here).repairs
    assert not repair.steps
    assert content(tmp_path) == before


def test_own_folder_is_a_link(tmp_path: Path) -> None:
    model = shards(tmp_path)
    (tmp_path / "away").mkdir()
    (model / ".ckpt-doctor").symlink_to(tmp_path / "away")
    with pytest.raises(RepairError, match="is not a folder"):
        fix(model)
    assert not list((tmp_path / "away").iterdir())


HOSTILE_PATHS = [
    "../victim",
    "/no_such_folder_ckpt_doctor/victim",
    "a/../../victim",
    "",
    ".",
    "x\0y",
    "link/victim",
    7,
    None,
    ["a"],
]


@pytest.mark.slow
@pytest.mark.parametrize("path", HOSTILE_PATHS, ids=repr)
@pytest.mark.parametrize("state", ["committing", "undoing", "done"])
def test_a_journal_from_elsewhere(tmp_path: Path, path: Any, state: str) -> None:
    model = shards(tmp_path)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (model / "link").symlink_to(tmp_path)
    folder = model / ".ckpt-doctor" / "backup-20990101-000000-abcdef"
    (folder / "old").mkdir(parents=True)
    (folder / "old" / "0").write_text("other")
    identity = Identity.of(victim)
    assert identity is not None
    journal = Journal(state, (Replacement("placeholder", None, identity),))
    journal.write(folder)
    document = json.loads((folder / "journal.json").read_text())
    document["replacements"][0]["path"] = path
    (folder / "journal.json").write_text(json.dumps(document))
    for act in (lambda: fix(model), lambda: undo(folder)):
        with contextlib.suppress(RepairError):
            act()
    assert victim.read_text() == "precious"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"version": 9}', '{"version": 1}', "[" * 201 + "]" * 201, "\udc80"]
)
def test_a_damaged_journal(tmp_path: Path, text: str) -> None:
    model = shards(tmp_path)
    folder = model / ".ckpt-doctor" / "backup-1"
    folder.mkdir(parents=True)
    (folder / "journal.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RepairError):
        undo(folder)
    with pytest.raises(RepairError, match="journal"):
        fix(model)


def test_names_that_collide_stay(tmp_path: Path) -> None:
    adapter = copied("peft/lora", tmp_path)
    file = adapter / "adapter_model.safetensors"
    state = load_file(file)
    name = next(iter(state))
    state[name.replace(".weight", ".weaver.weight")] = state[name] + 1
    save_file(state, file, {"format": "pt"})
    before = content(tmp_path)
    result = fix(adapter)
    assert not result.changes_anything
    assert "CKD307" in {finding.code for finding in result.remaining.findings}
    assert content(tmp_path) == before


def test_a_repair_that_would_do_harm_is_not_done(tmp_path: Path) -> None:
    adapter = copied("peft/lora", tmp_path)
    file = adapter / "adapter_model.safetensors"
    # Without the prefix these are keys of modules that the configuration does not name.
    state = {name.replace("q_proj", "module.other"): tensor for name, tensor in load_file(file).items()}
    state = {name.replace("v_proj", "module.other2"): tensor for name, tensor in state.items()}
    save_file({f"_orig_mod.{name}": tensor for name, tensor in state.items()}, file, {"format": "pt"})
    result = fix(adapter)
    left = {finding.code for finding in result.remaining.findings}
    assert left
    assert all(item.reason for repair in result.repairs for item in repair.rejected)


def test_several_damages_at_once(tmp_path: Path) -> None:
    here = weaver(tmp_path)
    result = fix(here)
    codes = [step.finding.code for step in result.repairs[0].steps]
    assert codes == ["CKD201", "CKD304"]
    assert not result.remaining.findings
    healthy = load_file(
        copied("weaver_safetensors/weaver", tmp_path / "b").joinpath("weaver_lora/adapter_model.safetensors")
    )
    repaired = load_file(here / "weaver_lora" / "adapter_model.safetensors")
    assert repaired.keys() == healthy.keys()
    assert all(bool((repaired[name] == healthy[name]).all()) for name in healthy)
