"""Where the project plugs in: the action, the hooks for pre-commit, and the examples of workflows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

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
    env = {
        **os.environ,
        **{name: filled(value) for name, value in step["env"].items()},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "GITHUB_OUTPUT": str(outputs),
        "GITHUB_ACTIONS": "true",
    }
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


def test_inputs_of_the_action_are_data(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    attack = f"x'; touch {marker}; '$(touch {marker})`touch {marker}`"
    for path in ("--help", "--version"):
        done, outputs = act(tmp_path, path=path)
        assert (done.returncode, outputs) == (2, "")
    assert act(tmp_path, path=str(HEALTHY), latest="yes")[0].returncode == 2
    assert act(tmp_path, path=str(HEALTHY), args="--help")[0].returncode == 2
    for inputs in ({"path": attack}, {"path": str(HEALTHY), "args": attack}, {"path": str(HEALTHY), "loader": attack}):
        done, outputs = act(tmp_path, **inputs)
        assert (done.returncode, outputs) == (2, "")
        assert not marker.exists()


def test_the_action_takes_the_newest_and_further_options(tmp_path: Path) -> None:
    done, outputs = act(
        tmp_path, path=str(HEALTHY), latest="TRUE", args="  --deep\r\n\n--output-format=junit\n--output-file=x.xml\n"
    )
    assert done.returncode == 0, done.stderr
    assert outputs.splitlines()[1] == str(HEALTHY / "weaver")
    assert (tmp_path / "x.xml").read_text().startswith("<?xml")


WATCHED = (
    "weaver/weaver_lora/adapter_model.bin",
    "adapter_config.json",
    "runs/1/adapter_model.safetensors",
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "pytorch_model-00001-of-00002.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "config.json",
    "weaver/projections.pt",
    "projs.bin",
    "any_name.safetensors",
    "head.bin",
    "value_head.pt",
    "ckpt.pth",
    "model.safetensors.index.fp16.json",
    "model_index.json",
    "ckpt-doctor.toml",
)
PASSED_OVER = ("README.md", "package.json", "tsconfig.json", "data.bin", "model.py", "model.json", "my_config.json")


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_the_hooks_watch_what_checkpoints_consist_of(hook: dict[str, Any]) -> None:
    pattern = re.compile(hook["files"])
    assert [name for name in WATCHED if not pattern.search(name)] == []
    assert [name for name in PASSED_OVER if pattern.search(name)] == []


def test_one_hook_installs_and_its_twin_does_not() -> None:
    assert [hook["language"] for hook in HOOKS] == ["python", "system"]
    first, second = ({key: hook[key] for key in ("entry", "args", "files")} for hook in HOOKS)
    assert first == second


@pytest.mark.parametrize("target", [HEALTHY, BROKEN])
def test_the_command_of_the_hooks_runs(target: Path) -> None:
    command = [sys.executable, "-m", "ckpt_doctor", *HOOKS[0]["entry"].split()[1:], *HOOKS[0]["args"]]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
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
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "got").read_text().endswith("/weaver")
    assert (tmp_path / "ckpt-doctor.xml").is_file()
