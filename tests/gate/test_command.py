"""The command behind the gate is itself: its process, its streams, its signals, its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ckpt_doctor.core.errors import CommandError
from ckpt_doctor.gate import launch
from ckpt_doctor.gate.command import run_as_child
from support.children import LIMIT, environment
from support.children import running as beside
from support.places import HEALTHY
from support.trees import broken, ckpt_doctor, light, weaver

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the commands are those of a POSIX shell")

ECHO = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ.get('CKPT_DOCTOR_CHECKPOINT')]))"


def echoed(path: object, *args: str, cwd: Path, options: tuple[str, ...] = ()) -> tuple[list[str], str]:
    """The arguments and the variable that a command was given."""
    result = ckpt_doctor("gate", path, *options, "--", sys.executable, "-c", ECHO, *args, cwd=cwd)
    assert result.returncode == 0, result.stderr
    words, variable = json.loads(result.stdout)
    return words, variable


@pytest.mark.slow
def test_every_argument_is_its_own(tmp_path: Path) -> None:
    words = ["a b", "it's", '"', "", "--", "-q", "*", "$HOME", "{}", "{checkpoints}", "{ checkpoint }", "ä\n\x1b[2J"]
    assert echoed(weaver(tmp_path), *words, cwd=tmp_path)[0] == words


@pytest.mark.slow
def test_the_path_stands_where_it_is_asked_for(tmp_path: Path) -> None:
    weaver(tmp_path)
    words, variable = echoed(
        "weaver/", "{checkpoint}", "--ckpt={checkpoint}/weaver_lora", "{checkpoint}{checkpoint}", cwd=tmp_path
    )
    path = str(tmp_path / "weaver")
    assert words == [path, f"--ckpt={path}/weaver_lora", path + path]
    assert variable == path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("run/weaver/weaver_lora", "run/weaver/weaver_lora"),
        ("run", "run"),
        ("link", "link"),
        # Behind a link, the folder above is that of where it leads.
        ("link/../../run", "run"),
        ("run/weaver/projections.pt", "run/weaver/projections.pt"),
    ],
)
def test_it_is_the_path_as_it_was_given(tmp_path: Path, given: str, expected: str) -> None:
    weaver(tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run" / "weaver")
    assert echoed(given, cwd=tmp_path)[1] == str(tmp_path / expected)


@pytest.mark.slow
def test_of_the_newest_it_is_the_checkpoint(tmp_path: Path) -> None:
    weaver(tmp_path / "train" / "20250106-101500")
    weaver(tmp_path / "train" / "20250107-101500")
    expected = str(tmp_path / "train" / "20250107-101500" / "weaver")
    assert echoed("train", "{checkpoint}", cwd=tmp_path, options=("--latest",)) == ([expected], expected)


def test_a_path_with_braces_is_put_in_once(tmp_path: Path) -> None:
    path = weaver(tmp_path / "{checkpoint}")
    assert echoed(path, "{checkpoint}", cwd=tmp_path)[0] == [str(path)]


@pytest.mark.slow
def test_standard_output_is_the_commands_own(tmp_path: Path) -> None:
    result = ckpt_doctor("gate", weaver(tmp_path), "--", "echo", "score", cwd=tmp_path)
    assert result.stdout == "score\n"
    assert result.stderr.rstrip().endswith("healthy")
    assert ckpt_doctor("gate", "weaver", "-q", "--", "echo", "score", cwd=tmp_path).stderr == ""


def test_a_report_of_what_did_not_pass_is_on_standard_output(tmp_path: Path) -> None:
    result = ckpt_doctor("gate", broken(tmp_path), "--", "echo", "'score", cwd=tmp_path)
    assert (result.returncode, "CKD202" in result.stdout) == (1, True)
    assert result.stderr == "echo ''\"'\"'score' was not started: 1 error: CKD202 side-file-missing\n"


@pytest.mark.slow
def test_a_report_that_was_sent_somewhere_goes_there(tmp_path: Path) -> None:
    path = weaver(tmp_path)
    target = path / "report.json"  # a new file beside the weights, but our own
    options = ("--output-format", "json", "--output-file", target)
    result = ckpt_doctor("gate", path, "-q", *options, "--", "echo", "score", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "score\n", "")
    assert json.loads(target.read_text())["gate"]["passed"] is True
    result = ckpt_doctor("gate", path, "--output-file", "-", "--", "echo", "score", cwd=tmp_path)
    assert result.stdout.endswith("healthy\nscore\n")


@pytest.mark.slow
def test_standard_input_is_the_commands_own(tmp_path: Path) -> None:
    weaver(tmp_path)
    assert ckpt_doctor("gate", "weaver", "--", "cat", cwd=tmp_path, input="questions").stdout == "questions"


def started(path: Path, program: str) -> AbstractContextManager[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "ckpt_doctor", "gate", str(path), "-q", "--", "sh", "-c", program]
    env = environment()
    return beside(command, cwd=path, env=env, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_it_is_the_same_process_and_gets_the_signals(tmp_path: Path) -> None:
    # What ignores SIGTERM here would outlive a gate that had only waited for it.
    with started(
        weaver(tmp_path), "trap '' TERM; trap 'echo bye; exit 5' USR1; echo $$; while :; do sleep 0.05; done"
    ) as running:
        assert running.stdout is not None
        assert int(running.stdout.readline()) == running.pid
        running.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(0.3)
        running.send_signal(signal.SIGUSR1)
        out, _ = running.communicate(timeout=LIMIT)
    assert (out, running.returncode) == ("bye\n", 5)


def test_control_c_is_the_commands_own(tmp_path: Path) -> None:
    with started(weaver(tmp_path), "trap 'exit 7' INT; echo ready; while :; do sleep 0.05; done") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(LIMIT) == 7


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads what Linux says of a process")
def test_no_signal_is_ignored_that_was_not(tmp_path: Path) -> None:
    weaver(tmp_path)
    result = ckpt_doctor("gate", "weaver", "-q", "--", "grep", "SigIgn", "/proc/self/status", cwd=tmp_path)
    ignored = int(result.stdout.split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1))
    assert not ignored & (1 << (signal.SIGXFSZ - 1))


@pytest.mark.slow
def test_a_command_is_looked_up_as_shells_do(tmp_path: Path) -> None:
    weaver(tmp_path)
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "evaluate"
    script.write_text("#!/bin/sh\necho found\n")
    result = ckpt_doctor("gate", "weaver", "--", "evaluate", cwd=tmp_path)
    assert (result.returncode, result.stderr.splitlines()[-1]) == (127, "error: there is no command evaluate")
    path = f"{script.parent}{os.pathsep}{os.environ['PATH']}"
    result = ckpt_doctor("gate", "weaver", "--", "evaluate", cwd=tmp_path, env={"PATH": path})
    assert (result.returncode, result.stderr.splitlines()[-1]) == (
        126,
        "error: evaluate cannot be executed: Permission denied",
    )
    script.chmod(0o755)
    assert ckpt_doctor("gate", "weaver", "--", "evaluate", cwd=tmp_path, env={"PATH": path}).stdout == "found\n"


@pytest.mark.slow
def test_a_loader_changes_nothing_for_the_command(tmp_path: Path) -> None:
    loader = tmp_path / "loader.py"
    loader.write_text(
        "import os\nfrom support.loaders.light_model import *\n\n\ndef load(model, path):\n    right(model, path)\n"
        "    os.environ['LEFT'] = 'behind'\n    os.chdir('/')\n    print('said by the loader')\n"
    )
    light(tmp_path / "model")
    options = ("--model", f"{loader}:build", "--loader", f"{loader}:load", "-q")
    program = "print(__import__('os').getcwd(), __import__('os').environ.get('LEFT'))"
    result = ckpt_doctor("gate", "model", *options, "--", sys.executable, "-c", program, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{tmp_path} None\n", "")


class TestWhereNoProcessBecomesAnother:
    def test_its_code_is_passed_on(self, tmp_path: Path) -> None:
        environment = {**os.environ, "GIVEN": "4"}
        assert (
            run_as_child([sys.executable, "-c", "import os; raise SystemExit(int(os.environ['GIVEN']))"], environment)
            == 4
        )

    def test_control_c_is_left_to_it(self) -> None:
        program = (
            "import os, signal, time\nos.kill(os.getppid(), signal.SIGINT)\ntime.sleep(0.2)\nraise SystemExit(6)\n"
        )
        assert run_as_child([sys.executable, "-c", program], os.environ) == 6

    def test_what_cannot_be_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ckpt_doctor.gate.command.run_as_child", lambda *_: Path("/no/such/command").stat())
        monkeypatch.setattr("ckpt_doctor.gate.command._BECOMES", False)
        with pytest.raises(CommandError, match="there is no command") as caught:
            launch(["nowhere"], str(HEALTHY), {})
        assert caught.value.code == 127
