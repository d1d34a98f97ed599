"""The command line of ``verify``: exit codes, both formats, the user's own code kept apart."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ckpt_doctor.verification import verify
from support import places, strict
from support.children import LIMIT, environment
from support.command_line import run, start

FIXTURES = Path(__file__).parents[2] / "fixtures"
WEAVER = FIXTURES / "healthy" / "weaver_bin" / "weaver"
LOADERS = places.LOADERS / "weaver_loaders.py"
BUILD = f"{LOADERS}:build"


def loader(name: str) -> tuple[str, str]:
    return "--loader", f"{LOADERS}:{name}"


@pytest.mark.slow
def test_a_complete_load_is_0() -> None:
    result = run("verify", WEAVER, "--model", BUILD, *loader("right"))
    assert result.exit_code == 0, result.output
    assert "total                 14        14   100 %" in result.stdout
    assert "complete: every tensor arrived" in result.stdout
    assert run("verify", WEAVER, "--model", BUILD, *loader("right"), "-q").stdout == ""


@pytest.mark.slow
def test_an_incomplete_one_is_1_and_names_what_is_absent() -> None:
    result = run("verify", WEAVER, "--model", BUILD, *loader("after_fix_2"))
    assert result.exit_code == 1
    assert "weaver adapter         0         8   <- nothing arrived" in result.stdout
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in result.stdout
    assert "CKD005 naive-load-matches-nothing" in result.stdout
    assert "| info: Loaded 0 weaver adapter weights" in result.stdout


@pytest.mark.slow
def test_json_is_that_of_the_contract() -> None:
    result = run("verify", WEAVER, "--model", BUILD, *loader("after_fix_2"), "--output-format", "json")
    assert result.exit_code == 1
    read = json.loads(result.stdout)
    assert (read["schema_version"], read["layout"], read["mode"], read["complete"]) == (1, "weaver", "load", False)
    assert read["coverage"] == {"expected": 14, "restored": 6, "ratio": 0.4286}
    assert read["components"] == [
        {"name": "weaver adapter", "expected": 8, "restored": 0},
        {"name": "projections", "expected": 4, "restored": 4},
        {"name": "query latents", "expected": 2, "restored": 2},
    ]
    assert len(read["tensors"]) == 14
    assert read["tensors"][0]["status"] == "missing"
    assert read["tensors"][-1] | {"detail": ""} == {
        "name": "inference_query_latents",
        "file": "projections.pt",
        "component": "query latents",
        "status": "restored",
        "parameter": "weaver.inference_query_latents",
        "detail": "",
        "expected": True,
    }


@pytest.mark.slow
def test_a_loader_that_does_nothing_restores_nothing() -> None:
    # The projections of a model that was just made are those of the fixture: equal by accident, and not loaded.
    result = run("verify", WEAVER, "--model", BUILD, *loader("nothing"), "--output-format", "json")
    assert json.loads(result.stdout)["coverage"]["restored"] == 0


@pytest.mark.slow
def test_a_factory_that_takes_the_path_loads_by_itself() -> None:
    result = run("verify", WEAVER, "--model", f"{LOADERS}:from_path", "--output-format", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["loader"] == f"{LOADERS}:from_path"


@pytest.mark.slow
def test_a_loader_may_return_another_model() -> None:
    assert run("verify", WEAVER, "--model", BUILD, *loader("returns_another")).exit_code == 0


@pytest.mark.slow
def test_sys_exit_is_a_finding() -> None:
    result = run("verify", WEAVER, "--model", BUILD, *loader("leaves"))
    assert result.exit_code == 1
    assert "CKD002" in result.stdout
    assert "sys.exit(3)" in result.stdout


@pytest.mark.slow
def test_what_a_loader_changes_is_put_back() -> None:
    before = (torch.get_default_dtype(), torch.is_grad_enabled(), Path.cwd(), logging.root.manager.disable)
    coverage = verify(WEAVER, BUILD, loader=loader("wrecks")[1], mode="forward")
    assert coverage.complete, [*coverage.table(), *coverage.findings]
    assert "said on standard output" in coverage.log
    assert (torch.get_default_dtype(), torch.is_grad_enabled(), Path.cwd(), logging.root.manager.disable) == before
    assert torch.empty(1).device.type == "cpu"
    assert "LEFT_BEHIND" not in os.environ
    torch.nn.Linear(1, 1)(torch.zeros(1))  # its hook would end this process


@pytest.mark.slow
@pytest.mark.parametrize(("name", "how"), [("ends_the_process", "exit code 0"), ("crashes", "SIGSEGV")])
def test_a_loader_that_ends_the_process_is_a_finding(name: str, how: str) -> None:
    result = run("verify", WEAVER, "--model", BUILD, *loader(name), "--output-format", "json")
    assert result.exit_code == 1
    read = json.loads(result.stdout)
    assert (read["complete"], read["coverage"]["restored"], read["loader"]) == (False, 0, loader(name)[1])
    assert read["findings"][0]["code"] == "CKD002"
    assert how in read["findings"][0]["message"]
    assert ("last words" in read["log"]) == (name == "crashes")


@pytest.mark.slow
def test_a_model_that_ends_the_process_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("import os\ndef build():\n    os._exit(0)\n")
    (tmp_path / "at_import.py").write_text("import os\nos._exit(0)\n")
    for file in ("leaves.py", "at_import.py"):
        result = run("verify", WEAVER, "--model", f"{tmp_path / file}:build", *loader("right"))
        assert (result.exit_code, result.stdout) == (2, "")
        assert "nothing was judged" in result.stderr


@pytest.mark.slow
def test_what_a_loader_writes_past_python_is_shown_and_breaks_nothing() -> None:
    result = run("verify", WEAVER, "--model", BUILD, *loader("writes_to_descriptors"), "--output-format", "json")
    assert json.loads(result.stdout)["log"] == ["green", "{red on descriptor 1", "from a child"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["leaves_a_thread", "waits"])
def test_threads_are_not_waited_for_and_promises_are(name: str) -> None:
    assert run("verify", WEAVER, "--model", BUILD, *loader(name)).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_goes_on_when_it_is_stopped(number: signal.Signals, tmp_path: Path) -> None:
    code = "from support.loaders import weaver_loaders as w\nimport os\n"
    (tmp_path / "slow.py").write_text(
        f"{code}build = w.build\ndef load(model, path):\n    os.chdir({str(tmp_path)!r})\n"
        f"    open('pid', 'w').write(str(os.getpid()))\n    w.sleeps(model, path)\n"
    )
    slow = tmp_path / "slow.py"
    with start("verify", WEAVER, "--model", f"{slow}:build", "--loader", f"{slow}:load") as running:
        deadline = time.monotonic() + LIMIT
        while not (tmp_path / "asleep").exists():
            time.sleep(0.1)
            assert running.poll() is None
            assert time.monotonic() < deadline
        running.send_signal(number)
        code = running.wait(LIMIT)
    assert code == (130 if number == signal.SIGINT else -9)
    worker = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists():
            return
        time.sleep(0.1)
    raise AssertionError("the loader goes on")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--model", BUILD), "name the loader with --loader"),
        (("--model", f"{LOADERS}:no_such"), "has no no_such"),
        (("--model", "nowhere.py:build"), "there is no file nowhere.py"),
        (("--model", "no_such_module_at_all:build"), "ModuleNotFoundError"),
        (("--model", BUILD, "--loader", "loader"), "MODULE:FUNCTION"),
        (("--model", str(FIXTURES)), "no config.json"),
        (("--model", "nowhere.yaml"), "there is no such file"),
        (("--model", "a/b/c"), "neither a folder"),
        ((), "names no base model that is on this machine"),
    ],
)
def test_what_cannot_be_judged_is_2(args: tuple[str, ...], said: str) -> None:
    result = run("verify", WEAVER, *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_no_checkpoint_is_2(tmp_path: Path) -> None:
    assert run("verify", tmp_path, "--model", BUILD, *loader("right")).exit_code == 2
    assert run("verify", tmp_path / "nowhere", "--model", BUILD, *loader("right")).exit_code == 2


@pytest.mark.slow
def test_a_report_into_a_file(tmp_path: Path) -> None:
    target = tmp_path / "coverage.json"
    args = ("--output-format", "json", "--output-file", target)
    assert "complete: every tensor arrived" in run("verify", WEAVER, "--model", BUILD, *loader("right"), *args).stdout
    assert json.loads(target.read_text())["complete"] is True


@pytest.mark.slow
def test_every_format_says_that_a_load_is_not_complete(tmp_path: Path) -> None:
    formats = ("concise", "json", "github", "sarif", "junit", "markdown")
    args = [item for name in formats for item in ("--output-format", name, "--output-file", tmp_path / name)]
    result = run("verify", WEAVER, "--model", BUILD, *loader("after_fix_2"), *args)
    assert (result.exit_code, result.stderr) == (1, "")
    assert "not complete" in result.stdout
    texts = {name: (tmp_path / name).read_text(encoding="utf-8") for name in formats}
    assert texts["concise"].splitlines()[0].split(": ")[1].startswith("CKD001 error")
    assert json.loads(texts["json"])["complete"] is False
    commands, _ = strict.commands(texts["github"])
    sarif = strict.sarif(texts["sarif"])
    assert {item["level"] for item in sarif["results"]} == {command.name for command in commands} == {"error"}
    assert all("What it does" in rule["help"]["text"] for rule in sarif["tool"]["driver"]["rules"])
    assert strict.junit(texts["junit"]).get("failures") == str(len(commands))
    rows = strict.markdown(texts["markdown"]).rows
    assert ["weaver adapter", "0", "8"] in rows
    assert ["total", "6", "14"] in rows


@pytest.mark.slow
def test_asked_for_an_inner_folder_the_files_are_those_of_the_checkpoint_around_it() -> None:
    args = ("--model", BUILD, *loader("nothing"), "--output-format", "github")
    commands, _ = strict.commands(run("verify", WEAVER / "weaver_lora", *args).stdout)
    assert {command.name for command in commands} == {"error"}
    places = {command.properties["file"].partition("weaver_bin/weaver/")[2] for command in commands}
    assert places == {"weaver_lora/adapter_model.bin", "projections.pt"}


@pytest.mark.slow
def test_a_report_is_not_written_over_the_checkpoint(tmp_path: Path) -> None:
    copy = shutil.copytree(WEAVER, tmp_path / "weaver")
    config = copy / "weaver_lora" / "adapter_config.json"
    before = config.read_bytes()
    result = run("verify", copy, "--model", BUILD, *loader("right"), "--output-file", config)
    assert result.exit_code == 2
    assert "is a file of the checkpoint" in result.stderr
    assert config.read_bytes() == before


def test_nothing_of_it_imports_torch_before_a_load(tmp_path: Path) -> None:
    code = (
        "import sys, ckpt_doctor, ckpt_doctor.integrations, ckpt_doctor.cli.verify\n"
        "ckpt_doctor.verify, ckpt_doctor.watch_load, ckpt_doctor.integrations.assert_fully_loaded\n"
        "sys.exit(bool({'torch', 'peft', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=FIXTURES.parent, check=False, timeout=120).returncode == 0


def test_without_torch_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    command = [
        sys.executable,
        "-m",
        "ckpt_doctor",
        "verify",
        str(WEAVER),
        "--model",
        str(FIXTURES / "healthy" / "memgen_upstream"),
    ]
    env = environment(tmp_path)
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'ckpt-doctor[verify]'" in done.stderr


@pytest.mark.slow
def test_code_finds_what_it_left_behind(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "helpers.py").write_text(f"import sys\nsys.path.append({str(LOADERS.parent)!r})\n")
    (tmp_path / "setup_paths.py").write_text(
        f"import os, sys\nsys.path.insert(0, {str(tmp_path / 'lib')!r})\nos.environ['SET_AT_IMPORT'] = '1'\n"
    )
    (tmp_path / "model_code.py").write_text(
        "import os, setup_paths\ncalls = []\ndef build():\n    import helpers, weaver_loaders\n"
        "    os.environ['SET_IN_BUILD'] = '1'\n    calls.append('build')\n    return weaver_loaders.build()\n"
        "def load(model, path):\n    import weaver_loaders\n    assert calls == ['build']\n"
        "    weaver_loaders.right(model, path)\n"
    )
    (tmp_path / "load_code.py").write_text(
        "import os, setup_paths\nfrom helpers import sys\ndef load(model, path):\n    import weaver_loaders\n"
        "    assert os.environ['SET_AT_IMPORT'] == os.environ['SET_IN_BUILD'] == '1'\n"
        "    weaver_loaders.right(model, path)\n"
    )
    build = f"{tmp_path / 'model_code.py'}:build"
    for home in ("load_code.py", "model_code.py"):
        result = run("verify", WEAVER, "--model", build, "--loader", f"{tmp_path / home}:load")
        assert result.exit_code == 0, result.output
