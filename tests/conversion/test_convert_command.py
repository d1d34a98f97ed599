"""``ckpt-doctor convert``: exit codes, streams, what it prints, and that it needs no torch."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from ckpt_doctor.cli.root import cli
from support.children import LIMIT, environment, running
from support.states import filled, load, same, save, snapshot

REPOSITORY = Path(__file__).parents[2]
FAILURE = REPOSITORY / "fixtures" / "failures" / "bin_instead_of_safetensors" / "weaver"


def run(*args: object) -> Result:
    try:
        runner = CliRunner(mix_stderr=False)  # type: ignore[call-arg]
    except TypeError:
        runner = CliRunner()
    return runner.invoke(cli, ["convert", *map(str, args)])


@pytest.fixture
def weaver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(FAILURE, tmp_path / "weaver")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "weaver"


def test_a_checkpoint(weaver: Path) -> None:
    result = run("weaver", "--to", "safetensors")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "weaver/weaver_lora/adapter_model.safetensors · 8 tensors, 4.5 KB, from weaver/weaver_lora/adapter_model.bin\n"
        "1 file written, 8 tensors, 4.5 KB; every tensor compared with its source\n"
    )


def test_the_second_time_is_2_and_overwrite_is_0(weaver: Path) -> None:
    assert run("weaver", "--to", "safetensors").exit_code == 0
    before = snapshot(weaver)
    result = run("weaver", "--to", "safetensors")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: weaver/weaver_lora/adapter_model.safetensors is there already; --overwrite replaces it\n"
    )
    assert run("weaver", "--to", "safetensors", "--overwrite", "--no-check").exit_code == 0
    assert snapshot(weaver) == before


def test_what_has_the_format_already_is_0(weaver: Path) -> None:
    result = run("weaver/weaver_lora/adapter_model.bin", "--to", "bin")
    assert result.exit_code == 0
    assert result.stdout == "weaver/weaver_lora/adapter_model.bin already has that format\nnothing to convert\n"


def test_into_another_folder(weaver: Path) -> None:
    result = run("weaver", "out", "--to", "safetensors")
    assert result.exit_code == 0
    assert "2 other files copied as they are" in result.stdout


def test_json(weaver: Path) -> None:
    result = run("weaver", "--to", "safetensors", "--output-format", "json")
    document = json.loads(result.stdout)
    assert (document["schema_version"], document["to"], document["checked"]) == (1, "safetensors", True)
    assert document["summary"] == {"files": 1, "tensors": 8, "bytes": document["files"][0]["nbytes"]}
    assert document["files"][0]["target"] == "weaver/weaver_lora/adapter_model.safetensors"


def test_aliases_values_and_what_is_left_out_are_told(tmp_path: Path) -> None:
    tied = torch.ones(256)
    save({"a": tied, "b": tied, "epoch": 3, "raw": b"x"}, tmp_path / "a.pt")
    result = run(tmp_path / "a.pt", "--to", "safetensors", "--drop-non-tensors")
    assert "  shared bytes: a, b; each has a copy now (1 KB more)\n" in result.stdout
    assert "  in the metadata: 1 value (epoch)\n" in result.stdout
    assert "  left out: 1 value (raw)\n" in result.stdout
    result = run(tmp_path / "a.pt", "--to", "safetensors", "--drop-non-tensors", "--shared", "drop", "--overwrite")
    assert "  shared bytes: a, b; only a is written (1 KB less)\n" in result.stdout


def test_names_cannot_break_out_of_the_report(tmp_path: Path) -> None:
    tied = torch.ones(2)
    save({"a\n\x1b[31m": tied, "b": tied}, tmp_path / "a.pt")
    result = run(tmp_path / "a.pt", "--to", "safetensors")
    assert "\x1b" not in result.stdout
    assert len(result.stdout.splitlines()) == 3


@pytest.mark.parametrize(
    "args",
    [
        ["absent.bin", "--to", "safetensors"],
        ["weaver"],
        ["weaver", "--to", "onnx"],
        ["weaver", "--to", "safetensors", "--shared", "perhaps"],
        [".ckpt-doctor", "--to", "safetensors"],
        ["weaver/weaver_lora/adapter_model.bin", "out.bin", "--to", "safetensors"],
    ],
)
def test_usage_and_refusals_are_2(weaver: Path, args: list[str]) -> None:
    before = snapshot(weaver.parent)
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr
    assert "Traceback" not in result.stderr
    assert snapshot(weaver.parent) == before


@pytest.mark.slow
def test_no_torch_is_needed(weaver: Path) -> None:
    code = """
        import sys
        for name in ("torch", "peft", "transformers", "safetensors"):
            sys.modules[name] = None
        from ckpt_doctor.cli import main
        main()
    """
    original = load(weaver / "weaver_lora" / "adapter_model.bin")
    command = [sys.executable, "-c", textwrap.dedent(code), "convert", "weaver"]
    env = environment()
    done = subprocess.run([*command, "--to", "safetensors"], env=env, capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    done = subprocess.run([*command, "out", "--to", "bin"], env=env, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0  # the weights are there as .bin
    (weaver / "weaver_lora" / "adapter_model.bin").unlink()
    done = subprocess.run([*command, "out2", "--to", "bin"], env=env, capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    assert same(load(Path("out2/weaver_lora/adapter_model.bin")), original)


def test_to_bin(weaver: Path) -> None:
    original = load(weaver / "weaver_lora" / "adapter_model.bin")
    run("weaver", "safe", "--to", "safetensors")
    assert run("safe", "--to", "bin").exit_code == 0
    assert same(load(Path("safe/weaver_lora/adapter_model.bin")), original)


# The sync happens in a thread of its own, and takes until the interruption has arrived in the main one.
INTERRUPTED = """
    import os, signal, threading

    arrived = threading.Event()

    def interrupted(*args):
        arrived.set()
        signal.default_int_handler(*args)

    def sync(*_):
        print("ready", flush=True)
        arrived.wait()

    signal.signal(signal.SIGINT, interrupted)
    os.fsync = sync
    from ckpt_doctor.cli import main
    main()
"""


def test_interrupted_is_130_and_leaves_nothing(tmp_path: Path) -> None:
    # Where everything is written, and nothing has its name yet.
    save({f"w{i}": filled((1 << 10,), torch.float32, i) for i in range(20)}, tmp_path / "a.bin")
    before = snapshot(tmp_path)
    command = [sys.executable, "-c", textwrap.dedent(INTERRUPTED), "convert", str(tmp_path / "a.bin")]
    env = environment()
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with running([*command, "--to", "safetensors"], env=env, **streams) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert list(tmp_path.glob(".ckpt-doctor/*"))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, err.strip()) == (130, b"interrupted")
    assert snapshot(tmp_path) == before
