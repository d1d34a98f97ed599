"""Where the project plugs in: the action, the hooks for pre-commit, and the examples of workflows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import strict, transcripts
from support.children import environment

REPOSITORY = Path(__file__).parents[2]
ACTION = yaml.safe_load((REPOSITORY / "action.yml").read_text())
HOOKS = yaml.safe_load((REPOSITORY / ".pre-commit-hooks.yaml").read_text())
HEALTHY = REPOSITORY / "fixtures" / "healthy" / "weaver_safetensors"
BROKEN = REPOSITORY / "fixtures" / "failures" / "both"


def test_no_input_becomes_part_of_a_script() -> None:
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
        assert step["shell"] == "bash" if "run" in step else "uses" in step


def test_every_input_is_used_and_every_used_one_is_there() -> None:
    text = (REPOSITORY / "action.yml").read_text()
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(ACTION["inputs"])
    given = {name for step in ACTION["runs"]["steps"] for name in step.get("env", {})}
    read = set(re.findall(r"CKPT_DOCTOR_ACTION\w*", (REPOSITORY / "scripts" / "action.sh").read_text()))
    assert read == given | {"CKPT_DOCTOR_ACTION_"}  # the last one names them all, in a comment


SUMMARY = "summary.md"


def programs(tmp_path: Path) -> Path:
    """A folder with this repository's ``ckpt-doctor``, wherever that is installed."""
    if not (tmp_path / ".bin").exists():
        transcripts.programs(tmp_path)
    return tmp_path / ".bin"


def act(tmp_path: Path, **inputs: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run the gate step of the action; returns it and the outputs it set."""
    step = next(step for step in ACTION["runs"]["steps"] if step.get("id") == "gate")
    defaults = {name: item.get("default", "") for name, item in ACTION["inputs"].items()}
    values = {**defaults, **inputs}

    def filled(text: str) -> str:
        text = text.replace("${{ github.action_path }}", str(REPOSITORY))
        return re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda match: values[match[1]], text)

    outputs = tmp_path / "outputs"
    outputs.touch()
    env = environment(
        **{name: filled(value) for name, value in step["env"].items()},
        PATH=f"{programs(tmp_path)}{os.pathsep}{os.environ['PATH']}",
        GITHUB_OUTPUT=str(outputs),
        GITHUB_STEP_SUMMARY=str(tmp_path / SUMMARY),
        GITHUB_ACTIONS="true",
    )
    done = subprocess.run(
        ["bash", "-c", step["run"]], env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    return done, outputs.read_text()


def test_the_action_names_a_healthy_checkpoint(tmp_path: Path) -> None:
    done, outputs = act(tmp_path, path=str(HEALTHY / "weaver"), sarif="report.sarif")
    assert done.returncode == 0, done.stderr
    assert outputs.splitlines()[1] == str(HEALTHY / "weaver")
    assert (tmp_path / "report.sarif").is_file()


def test_the_action_stops_at_a_broken_one(tmp_path: Path) -> None:
    done, outputs = act(tmp_path, path=str(BROKEN / "weaver"))
    assert (done.returncode, outputs) == (1, "")
    assert "::error " in done.stdout + done.stderr


UNJUDGED: dict[str, dict[str, str]] = {
    "no such path": {"path": "nowhere"},
    "an empty tree": {"path": "empty"},
    "an empty tree of runs": {"path": "empty", "latest": "true"},
    "no telling which": {"path": "twins", "latest": "true"},
    "no such option": {"path": "twins", "args": "--nope=##[error]"},
    "an option without its value": {"path": "twins", "args": "--fail-on"},
    "neither true nor false": {"path": "twins", "latest": "may\nbe"},
    "no such model": {"path": str(HEALTHY / "weaver"), "model": "nowhere.py:build", "loader": "nowhere.py:load"},
    "no options at all": {"path": "twins", "args": "--help"},
    "a name full of signs": {"path": 'no"where\\ %0A::error::x `<b>` \n\x1b'},
}


@pytest.mark.slow
@pytest.mark.parametrize("inputs", UNJUDGED.values(), ids=UNJUDGED)
def test_the_action_reports_that_nothing_was_judged(tmp_path: Path, inputs: dict[str, str]) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("a", "b"):
        shutil.copytree(HEALTHY / "weaver", tmp_path / "twins" / name / "weaver")
    for file in (tmp_path / "twins").rglob("*"):
        os.utime(file, (0, 0))
    done, outputs = act(tmp_path, sarif="report.sarif", **inputs)
    assert (done.returncode, outputs) == (2, "")
    assert len([line for line in done.stdout.splitlines() if line.startswith("::error ")]) == 1
    for stream in (done.stdout, done.stderr):
        assert "action.sh" not in stream
        assert "##[" not in stream
        assert "\x1b" not in stream
    assert "ckpt-doctor" in (tmp_path / SUMMARY).read_text()
    run = strict.sarif((tmp_path / "report.sarif").read_text())
    assert [result["ruleId"] for result in run["results"]] == ["CKD011"]


def test_the_action_says_that_nothing_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of what is on the PATH, all but ckpt-doctor.
    (tmp_path / ".bin").mkdir()
    names = ("bash", "grep", "tail", "wc", "tee", "tr", "cat", "mktemp", "rm", "head")
    for name in names:
        (tmp_path / ".bin" / name).symlink_to(shutil.which(name) or pytest.skip(f"no {name}"))
    monkeypatch.setenv("PATH", str(tmp_path / ".bin"))
    done, outputs = act(tmp_path, path=str(HEALTHY / "weaver"), install="false")
    assert (done.returncode, outputs) == (2, "")
    assert done.stdout.startswith("::error ")
    assert "action.sh" not in done.stdout + done.stderr


@pytest.mark.slow
def test_the_action_writes_no_report_over_a_checkpoint(tmp_path: Path) -> None:
    shutil.copytree(HEALTHY / "weaver", tmp_path / "weaver")
    file = tmp_path / "weaver" / "weaver_lora" / "adapter_model.safetensors"
    before = file.read_bytes()
    done, _ = act(tmp_path, path="weaver", sarif=str(file))
    assert (done.returncode, file.read_bytes()) == (2, before)


@pytest.mark.slow
@pytest.mark.parametrize(("deep", "code"), [("true", 1), ("false", 0)])
def test_the_action_reads_values_unless_told_otherwise(tmp_path: Path, deep: str, code: int) -> None:
    shutil.copytree(HEALTHY / "weaver", tmp_path / "weaver")
    file = tmp_path / "weaver" / "weaver_lora" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\x00\x00\xc0\x7f")
    done, outputs = act(tmp_path, path="weaver", deep=deep, sarif="report.sarif")
    assert (done.returncode, bool(outputs), "action.sh" in done.stdout + done.stderr) == (code, not code, False)
    assert ("headers only" in done.stdout) == (deep == "false")


@pytest.mark.slow
def test_inputs_of_the_action_are_data(tmp_path: Path) -> None:
    words = "x'; no-such-command; '$(no-such-command)`no-such-command`"
    for path in ("--help", "--version"):
        done, outputs = act(tmp_path, path=path)
        assert (done.returncode, outputs) == (2, "")
    assert act(tmp_path, path=str(HEALTHY), latest="yes")[0].returncode == 2
    assert act(tmp_path, path=str(HEALTHY), args="--help")[0].returncode == 2
    for inputs in ({"path": words}, {"path": str(HEALTHY), "args": words}, {"path": str(HEALTHY), "loader": words}):
        done, outputs = act(tmp_path, **inputs)
        assert (done.returncode, outputs) == (2, "")
        # No shell looked for the command.
        assert "command not found" not in done.stdout + done.stderr


@pytest.mark.slow
def test_the_action_takes_the_newest_and_further_options(tmp_path: Path) -> None:
    done, outputs = act(
        tmp_path, path=str(HEALTHY), latest="TRUE", args="  --deep\r\n\n--output-format=junit\n--output-file=x.xml\n"
    )
    assert done.returncode == 0, done.stderr
    assert outputs.splitlines()[1] == str(HEALTHY / "weaver")
    assert (tmp_path / "x.xml").read_text().startswith("<?xml")


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_the_hooks_run_whatever_changes(hook: dict[str, Any]) -> None:
    """What a commit deletes is no file that a pattern could match, and what lies beside it is broken by that."""
    assert (hook["always_run"], hook["pass_filenames"], "files" in hook) == (True, False, False)


def test_one_hook_installs_and_its_twin_does_not() -> None:
    assert [hook["language"] for hook in HOOKS] == ["python", "system"]
    first, second = ({key: hook[key] for key in ("entry", "args", "always_run")} for hook in HOOKS)
    assert first == second


@pytest.mark.parametrize("target", [HEALTHY, BROKEN])
def test_the_command_of_the_hooks_runs(target: Path) -> None:
    command = [sys.executable, "-m", "ckpt_doctor", *HOOKS[0]["entry"].split()[1:], *HOOKS[0]["args"]]
    env = environment()
    done = subprocess.run(command, cwd=target, env=env, capture_output=True, check=False, timeout=120)
    assert done.returncode == (0 if target == HEALTHY else 1)


@pytest.mark.parametrize("name", ["github-workflow.yml", "gitlab-ci.yml", "pre-commit-config.yaml"])
def test_examples_are_yaml_and_name_what_there_is(name: str) -> None:
    text = (REPOSITORY / "examples" / name).read_text()
    assert yaml.safe_load(text)
    if name == "github-workflow.yml":
        step = next(
            step for step in yaml.safe_load(text)["jobs"]["evaluate"]["steps"] if step.get("id") == "checkpoint"
        )
        assert set(step["with"]) <= set(ACTION["inputs"])
        assert "${{" not in yaml.safe_load(text)["jobs"]["evaluate"]["steps"][-1]["run"]
    if name == "pre-commit-config.yaml":
        hooks = [hook["id"] for repo in yaml.safe_load(text)["repos"] for hook in repo["hooks"]]
        assert set(hooks) <= {hook["id"] for hook in HOOKS}


def test_the_example_for_gitlab_runs(tmp_path: Path) -> None:
    (script,) = (
        line
        for line in yaml.safe_load((REPOSITORY / "examples" / "gitlab-ci.yml").read_text())["evaluate"]["script"]
        if "gate" in line
    )
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "train").symlink_to(HEALTHY)
    (tmp_path / "evaluate.py").write_text("import sys, pathlib\npathlib.Path('got').write_text(sys.argv[2])\n")
    env = environment(PATH=f"{programs(tmp_path)}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "got").read_text().endswith("/weaver")
    assert (tmp_path / "ckpt-doctor.xml").is_file()
