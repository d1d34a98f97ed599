"""What changes between the verdict and the command is noticed, and what does not matter is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ckpt_doctor.core.errors import GateError
from ckpt_doctor.gate import decide
from ckpt_doctor.gate.verdict import Verdict
from support.trees import copied, light, weaver

ADAPTER = "weaver_lora/adapter_model.safetensors"


def check(verdict: Verdict, *own: str) -> None:
    verdict.seal.check(verdict.report.checkpoints, own=own)


def grows(path: Path) -> None:
    with (path / "projections.pt").open("ab") as file:
        file.write(b"\0")


def is_replaced(path: Path) -> None:
    file = path / ADAPTER
    status = file.stat()
    shutil.copy2(file, path / "copy")
    os.utime(path / "copy", ns=(status.st_atime_ns, status.st_mtime_ns))
    (path / "copy").replace(file)


def is_written_again(path: Path) -> None:
    file = path / ADAPTER
    with file.open("r+b") as stream:
        stream.write(file.read_bytes())


def goes(path: Path) -> None:
    (path / "projections.pt").unlink()


def config_changes(path: Path) -> None:
    config = path / "weaver_lora" / "adapter_config.json"
    config.write_text(config.read_text() + "\n")


def second_format_comes(path: Path) -> None:
    (path / "weaver_lora" / "adapter_model.bin").write_bytes(b"")


def temporary_comes(path: Path) -> None:
    (path / "weaver_lora" / "adapter_model.safetensors.tmp").write_bytes(b"")


def all_of_it_goes(path: Path) -> None:
    shutil.rmtree(path)


@pytest.mark.parametrize(
    "change",
    [
        grows,
        is_replaced,
        is_written_again,
        goes,
        config_changes,
        second_format_comes,
        temporary_comes,
        all_of_it_goes,
    ],
    ids=lambda change: change.__name__,
)
def test_a_change_breaks_the_seal(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = weaver(tmp_path)
    verdict = decide(path)
    assert verdict.passed
    check(verdict)
    change(path)
    with pytest.raises(GateError, match="changed while it was judged"):
        check(verdict)


def test_logs_may_come_and_grow(tmp_path: Path) -> None:
    path = weaver(tmp_path)
    (path / "evaluation.log").write_text("begun")
    verdict = decide(path)
    (path / "evaluation.log").write_text("begun, and going on")
    (path / "nohup.out").write_text("")
    (path / "__pycache__").mkdir()
    check(verdict)


def test_the_own_report_may_come(tmp_path: Path) -> None:
    path = weaver(tmp_path)
    verdict = decide(path)
    (path / "report.json").write_text("{}")
    check(verdict, str(path / "report.json"))
    with pytest.raises(GateError):
        check(verdict)


def test_a_file_that_a_link_leads_to_counts(tmp_path: Path) -> None:
    # As in the cache of the hub: names are links to blobs.
    path = light(tmp_path / "snapshot")
    blob = (path / "model.safetensors").rename(tmp_path / "blob")
    (path / "model.safetensors").symlink_to(blob)
    verdict = decide(path)
    check(verdict)
    shutil.copy(blob, tmp_path / "other")
    (tmp_path / "other").replace(blob)
    with pytest.raises(GateError):
        check(verdict)


def test_a_path_that_leads_elsewhere_now(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(light(tmp_path / "checkpoint-500"))
    verdict = decide(tmp_path / "latest")
    (tmp_path / "latest").unlink()
    (tmp_path / "latest").symlink_to(light(tmp_path / "checkpoint-1000"))
    with pytest.raises(GateError):
        check(verdict)


@pytest.mark.parametrize("name", ["model.safetensors", "."])
def test_a_neighbour_of_a_lone_file_does_not_count(tmp_path: Path, name: str) -> None:
    path = light(tmp_path / "model")
    verdict = decide(path / name)
    (path / "metrics.txt").write_text("1")
    check(verdict)


def test_every_checkpoint_of_a_tree_counts(tmp_path: Path) -> None:
    copied("trigger_run", tmp_path / "run")
    verdict = decide(tmp_path)
    (tmp_path / "run/trigger/trigger_lora/adapter_model.safetensors").touch()
    with pytest.raises(GateError, match="trigger_lora"):
        check(verdict)


def test_the_verdict_itself_says_so(tmp_path: Path) -> None:
    path = weaver(tmp_path)

    def load(_: str) -> object:
        grows(path)
        return type("Coverage", (), {"complete": True})

    verdict = decide(path, load=load)  # type: ignore[arg-type]
    assert not verdict.passed
    assert isinstance(verdict.error, GateError)
    assert "projections.pt changed while it was judged" in (verdict.reason or "")
