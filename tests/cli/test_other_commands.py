from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ckpt_doctor.core.version import __version__
from ckpt_doctor.rules import RULES
from support.command_line import run
from support.places import BROKEN, FAILURES, HEALTHY_WEAVER


def test_version() -> None:
    assert run("--version").stdout == f"ckpt-doctor {__version__}\n"


def test_help_lists_the_commands() -> None:
    shown = run("--help").stdout
    assert [line.split()[0] for line in shown.partition("Commands:\n")[2].splitlines()] == [
        "inspect",
        "ls",
        "convert",
        "fix",
        "verify",
        "gate",
        "latest",
        "lock",
        "diff",
        "explain",
        "rules",
        "settings",
    ]


def test_without_arguments_the_help_is_shown_and_nothing_was_done() -> None:
    result = run()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == run("--help").stdout
    assert run("-h").stdout == run("--help").stdout


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("inpsect", "inspect"),
        ("INSPECT", "inspect"),
        ("verfy", "verify"),
        ("lates", "latest"),
        ("check", "inspect"),
        ("repair", "fix"),
        ("help", "--help"),
    ],
)
def test_a_typo_gets_the_command_that_was_meant(typed: str, meant: str) -> None:
    result = run(typed, "weaver")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == f"Error: No such command '{typed}'. Did you mean {meant}?"


def test_what_resembles_nothing_gets_no_guess() -> None:
    assert run("zzz").stderr.splitlines()[-1] == "Error: No such command 'zzz'. See ckpt-doctor --help."
    assert run("x" * 5000).exit_code == 2


def test_a_typo_in_an_option_gets_the_one_that_was_meant() -> None:
    assert "--deep" in run("inspect", "--depe").stderr.splitlines()[-1]
    last = run("gate", "w", "--lastest").stderr.splitlines()[-1]
    assert "--latest" in last
    assert last.endswith("Put the command to run after --.")


@pytest.mark.parametrize("args", [("no-such-command",), ("explain",), ("explain", "CKD201", "--all"), ("ls", "a", "b")])
def test_usage_errors_are_2(args: tuple[str, ...]) -> None:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: ckpt-doctor" in result.stderr


def test_a_path_in_the_place_of_a_command_gets_a_hint() -> None:
    result = run(HEALTHY_WEAVER)
    assert result.exit_code == 2
    assert f"ckpt-doctor inspect {HEALTHY_WEAVER}" in result.stderr


class TestRules:
    def test_the_table_holds_every_rule(self) -> None:
        shown = run("rules").stdout
        assert [line.split()[0] for line in shown.splitlines()[2:]] == [rule.code for rule in RULES]

    def test_the_table_fits_a_terminal(self) -> None:
        assert max(map(len, run("rules").stdout.splitlines())) <= 80

    def test_json(self) -> None:
        read = json.loads(run("rules", "--output-format", "json").stdout)
        assert [(rule["code"], rule["name"]) for rule in read["rules"]] == [(rule.code, rule.name) for rule in RULES]


class TestExplain:
    @pytest.mark.parametrize(
        "name",
        [
            "CKD201",
            "ckd201",
            "201",
            "ckd-201",
            " CKD 201",
            "weights-format-mismatch",
            "Weights-Format-Mismatch",
            "weights_format mismatch",
        ],
    )
    def test_by_code_or_name(self, name: str) -> None:
        result = run("explain", name)
        assert result.exit_code == 0
        assert result.stdout.startswith("CKD201 weights-format-mismatch\nerror · ")
        assert "\nWhy is this bad?\n" in result.stdout

    def test_all(self) -> None:
        result = run("explain", "--all")
        assert all(f"{rule.code} {rule.name}\n" in result.stdout for rule in RULES)
        assert max(map(len, result.stdout.splitlines())) <= 80

    @pytest.mark.parametrize(
        ("name", "close"),
        [
            ("side-file-mising", "side-file-missing"),
            ("CKD2O1", "CKD201"),
            ("CKD20", "CKD201"),
            ("pickle", "unsafe-pickle"),
            ("xyz", "ckpt-doctor rules"),
        ],
    )
    def test_an_unknown_rule_is_2_with_what_comes_close(self, name: str, close: str) -> None:
        result = run("explain", name)
        assert (result.exit_code, result.stdout) == (2, "")
        assert close in result.stderr


class TestLs:
    def test_every_tensor_with_its_file(self) -> None:
        result = run("ls", HEALTHY_WEAVER)
        assert (result.exit_code, result.stderr) == (0, "")
        assert len([line for line in result.stdout.splitlines() if " float32 " in line]) == 14
        assert "weaver_lora/adapter_model.safetensors" in result.stdout
        assert "projections.pt" in result.stdout
        assert result.stdout.splitlines()[-1].startswith("14 tensors, ")

    def test_filter(self) -> None:
        result = run("ls", HEALTHY_WEAVER, "--filter", "*lora_B*")
        assert len([line for line in result.stdout.splitlines() if "lora_B" in line]) == 4
        assert result.stdout.splitlines()[-1].startswith("4 of 14 tensors, ")

    def test_a_filter_that_leaves_nothing(self) -> None:
        result = run("ls", HEALTHY_WEAVER, "--filter", "nothing")
        assert (result.exit_code, result.stdout) == (0, "0 of 14 tensors, 0 parameters, 0 B\n")

    def test_several_checkpoints(self) -> None:
        result = run("ls", FAILURES)
        assert all(str(path) in result.stdout for path in FAILURES.iterdir())
        assert len(json.loads(run("ls", FAILURES, "--output-format", "json").stdout)["checkpoints"]) == 3

    def test_json(self) -> None:
        (read,) = json.loads(run("ls", HEALTHY_WEAVER, "--output-format", "json").stdout)["checkpoints"]
        assert read["totals"]["tensors"] == len(read["tensors"]) == 14
        assert set(read["tensors"][0]) >= {"name", "dtype", "shape", "bytes", "file", "shared_with"}

    def test_what_cannot_be_read_is_1_and_named(self, tmp_path: Path) -> None:
        copy = shutil.copytree(BROKEN, tmp_path / "weaver")
        weights = copy / "weaver_lora" / "adapter_model.bin"
        weights.write_bytes(weights.read_bytes()[:600])
        for output_format in ("text", "json"):
            result = run("ls", copy, "--output-format", output_format)
            assert result.exit_code == 1
            assert "weaver_lora/adapter_model.bin: " in result.stderr

    def test_a_shard_that_is_not_there_is_1_and_named(self, tmp_path: Path) -> None:
        index = {"metadata": {}, "weight_map": {"w": "model-00001-of-00002.safetensors"}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        (tmp_path / "config.json").write_text("{}")
        result = run("ls", tmp_path)
        assert result.exit_code == 1
        assert "model-00001-of-00002.safetensors" in result.stderr

    def test_nothing_there_is_2(self, tmp_path: Path) -> None:
        assert run("ls", tmp_path).exit_code == 2
        assert run("ls", tmp_path / "nowhere").exit_code == 2
