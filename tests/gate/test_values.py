"""What no header shows does not pass the gate, and what did not look at values does not say that they are healthy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.gate import decide
from ckpt_doctor.scanning import scan
from support.command_line import run
from support.trees import copied, weaver

NAN, INF = b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f"


def last_value(folder: Path, value: bytes) -> Path:
    path = weaver(folder)
    file = path / "weaver_lora" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[: -len(value)] + value)
    return path


def not_a_number(folder: Path) -> Path:
    return last_value(folder, NAN)


def infinite(folder: Path) -> Path:
    return last_value(folder, INF)


def untrained(folder: Path) -> Path:
    path = weaver(folder)
    file = path / "weaver_lora" / "adapter_model.safetensors"
    data = bytearray(file.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8:start]).items():
        if "lora_B" in name:
            begin, end = (start + offset for offset in entry["data_offsets"])
            data[begin:end] = bytes(end - begin)
    file.write_bytes(data)
    return path


def flipped_bit(folder: Path) -> Path:
    path = copied("weaver_bin/weaver", folder / "weaver")
    file = path / "weaver_lora" / "adapter_model.bin"
    data = bytearray(file.read_bytes())
    # In the bytes of a tensor, which torch.save aligns to 64 behind the header of its record.
    at = data.index(b"/data/0")
    data[-(-(at + 64) // 64) * 64] ^= 1
    file.write_bytes(data)
    return path


DAMAGES = {"CKD601": not_a_number, "CKD601 ": infinite, "CKD602": untrained, "CKD603": flipped_bit}
damages = pytest.mark.parametrize(("code", "damage"), DAMAGES.items(), ids=DAMAGES)


@damages
def test_the_gate_reads_values(tmp_path: Path, code: str, damage: Callable[[Path], Path]) -> None:
    path = damage(tmp_path)
    result = run("gate", path, "--expect", "any", "--output-format", "json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["deep"], document["gate"]["passed"]) == (1, True, False)
    assert [item["code"] for item in document["checkpoints"][0]["findings"]] == [code.strip()]
    assert not decide(path, Policy(deep=True, expect="any")).passed
    assert run("gate", tmp_path, "--latest", "--expect", "any").exit_code == 1
    assert run("latest", tmp_path, "--healthy", "--expect", "any").exit_code == 2


@damages
def test_who_does_not_read_them_says_so(tmp_path: Path, code: str, damage: Callable[[Path], Path]) -> None:
    path = damage(tmp_path)
    for command in (("gate", "--no-deep"), ("inspect",)):
        result = run(*command, path, "--expect", "any")
        assert (result.exit_code, result.stdout.rstrip().endswith("healthy, headers only")) == (0, True)


def test_by_default_from_python_too(tmp_path: Path) -> None:
    assert not decide(not_a_number(tmp_path)).passed
    assert decide(tmp_path, Policy()).passed


def test_what_is_healthy_needs_no_qualification(tmp_path: Path) -> None:
    for command in (("gate",), ("inspect", "--deep")):
        assert run(*command, weaver(tmp_path / command[0])).stdout.rstrip().endswith("KB   healthy")


def test_settings_win_over_the_default_and_options_over_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = not_a_number(tmp_path / "run")
    Path("ckpt-doctor.toml").write_text("deep = false\n")
    assert run("gate", path).stdout.rstrip().endswith("healthy, headers only")
    assert run("gate", path, "--deep").exit_code == 1
    assert run("gate", path, env={"CKPT_DOCTOR_DEEP": "yes"}).exit_code == 1
    Path("ckpt-doctor.toml").write_text('expect = "any"\n')
    assert run("gate", path).exit_code == 1


@pytest.mark.parametrize("output_format", ["text", "github", "sarif", "junit", "markdown"])
def test_no_format_claims_more_than_was_read(tmp_path: Path, output_format: str) -> None:
    path = weaver(tmp_path)
    shown = {
        command: run(*command, path, "--output-format", output_format).stdout
        for command in (("gate",), ("gate", "--no-deep"), ("inspect",))
    }
    word = '"deep": false' if output_format == "sarif" else "headers only"
    assert [word in text for text in shown.values()] == [False, True, True]


def test_values_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def counted(checkpoint: Checkpoint, **options: Any) -> Checkpoint:
        seen.append(checkpoint.path)
        return scan(checkpoint, **options)

    monkeypatch.setattr("ckpt_doctor.scanning.scan", counted)
    path = weaver(tmp_path)
    assert run("gate", path).exit_code == 0
    assert seen == [str(path)]
