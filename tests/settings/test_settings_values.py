"""What may stand in a settings file and in the environment, what wins, and what each mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

import ckpt_doctor
from ckpt_doctor import Policy, SettingsError, load_settings
from ckpt_doctor.core.findings import Severity
from ckpt_doctor.settings.keys import KEYS
from support.command_line import run
from support.places import FIXTURES
from support.projects import enter_project

BROKEN = FIXTURES / "failures" / "both" / "weaver"

EVERYTHING = """
expect = "bin"
layout = "weaver"
select = ["CKD2", "non-finite"]
ignore = "CKD203, ckd204"
fail-on = "note"
output-format = ["json", "concise"]
deep = true

[severity]
CKD109 = "error"
weights-format-mismatch = "note"

[per-path-ignores]
"runs/**" = "CKD1"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter_project(tmp_path, monkeypatch)


def written(folder: Path, text: str) -> Path:
    file = folder / "ckpt-doctor.toml"
    file.write_text(text)
    return file


def test_every_key(here: Path) -> None:
    written(here, EVERYTHING)
    settings = load_settings()
    (ignore,) = settings.policy.per_path_ignores
    assert ignore == (str(here), "runs/**", ("CKD1",))
    assert settings.output_format == ("json", "concise")
    assert settings.policy == Policy(
        expect="bin",
        layout="weaver",
        select=("CKD2", "non-finite"),
        ignore=("CKD203", "CKD204"),
        fail_on="note",
        deep=True,
        severity={"CKD109": Severity.ERROR, "CKD201": Severity.NOTE},
        per_path_ignores=(ignore,),
    )


def test_the_same_in_a_projects_file(here: Path) -> None:
    text = EVERYTHING.replace("[", "[tool.ckpt-doctor.").replace('[tool.ckpt-doctor."', '["')
    (here / "pyproject.toml").write_text(f"[tool.ckpt-doctor]\n{text}")
    project = load_settings()
    written(here, EVERYTHING)
    assert project.policy == load_settings().policy
    assert set(project.sources.values()) == {"pyproject.toml: tool.ckpt-doctor"}


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("EXPECT", "bin", "expect", "bin"),
        ("LAYOUT", "peft", "layout", "peft"),
        ("SELECT", "CKD2, non-finite", "select", ("CKD2", "non-finite")),
        ("IGNORE", "side-file-missing", "ignore", ("side-file-missing",)),
        ("FAIL_ON", "warning", "fail_on", "warning"),
        ("DEEP", "1", "deep", True),
        ("DEEP", "off", "deep", False),
        ("DEEP", "Yes", "deep", True),
    ],
)
def test_the_environment(here: Path, variable: str, value: str, field: str, expected: object) -> None:
    settings = load_settings(environment={f"CKPT_DOCTOR_{variable}": value})
    assert getattr(settings.policy, field) == expected
    assert set(settings.sources.values()) == {f"CKPT_DOCTOR_{variable}"}


def test_the_environment_names_formats_and_empty_variables_say_nothing(here: Path) -> None:
    environment = {"CKPT_DOCTOR_OUTPUT_FORMAT": "json,concise", "CKPT_DOCTOR_FAIL_ON": " ", "CKPT_DOCTOR_DEBUG": "1"}
    settings = load_settings(environment=environment)
    assert settings.output_format == ("json", "concise")
    assert settings.values == {"output-format": ("json", "concise")}


FLAGS = {"expect": "any", "fail-on": "never", "ignore": "CKD1"}
ENVIRONMENT = {"expect": "bin", "fail-on": "warning", "ignore": "CKD3"}
FILE = {"expect": "safetensors", "fail-on": "note", "ignore": "CKD5"}
DEFAULT = {"expect": "", "fail-on": "", "ignore": ""}


@pytest.mark.parametrize("key", sorted(FLAGS))
@pytest.mark.parametrize("levels", range(16))
def test_flags_before_the_environment_before_the_file_before_the_defaults(
    here: Path, key: str, levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags, environment, file = levels & 1, levels & 2, levels & 4
    isolated = levels & 8
    if file:
        written(here, f'{key} = "{FILE[key]}"\n')
    if environment:
        monkeypatch.setenv(f"CKPT_DOCTOR_{key.upper().replace('-', '_')}", ENVIRONMENT[key])
    seen: list[Policy] = []

    def inspect(paths: object, policy: Policy, **_: object) -> ckpt_doctor.Report:
        seen.append(policy)
        return ckpt_doctor.Report(())

    monkeypatch.setattr("ckpt_doctor.inspection.inspect", inspect)
    run("inspect", *([f"--{key}", FLAGS[key]] if flags else []), *(["--no-config"] if isolated else []))
    winner = FLAGS if flags else ENVIRONMENT if environment else FILE if file and not isolated else DEFAULT
    expected = Policy(
        **{key.replace("-", "_"): (winner[key],) if key == "ignore" else winner[key]} if winner[key] else {}
    )
    assert seen == [expected]


@pytest.mark.parametrize(("flag", "expected"), [("--deep", True), ("--no-deep", False), (None, True)])
def test_a_switch_can_be_turned_off(here: Path, flag: str | None, expected: bool) -> None:
    written(here, "deep = true\n")
    result = run("inspect", FIXTURES / "healthy/weaver_safetensors/weaver", *([flag] if flag else []), "-q")
    assert result.exit_code == 0
    nan = FIXTURES / "healthy/weaver_safetensors/weaver"
    report = ckpt_doctor.inspect(nan, load_settings().overlaid({"deep": expected}, {"deep": "x"}).policy)
    assert (report.checkpoints[0].files[0].scans is not None) == expected


def test_what_is_selected_is_not_ignored_from_below(here: Path) -> None:
    written(here, 'ignore = ["CKD202", "CKD3"]\n')
    settings = load_settings()
    for selected, left in {
        "CKD202": ("CKD3",),
        "side-file-missing": ("CKD3",),
        "CKD301": ("CKD202",),
        "CKD2": ("CKD202", "CKD3"),
        "CKD5": ("CKD202", "CKD3"),
    }.items():
        assert settings.overlaid({"select": (selected,)}, {"select": "x"}).policy.ignore == left
    both = settings.overlaid({"select": ("CKD202",), "ignore": ("CKD202",)}, {"select": "x", "ignore": "x"})
    assert both.policy.ignore == ("CKD202",)
    assert "CKD202" in run("inspect", BROKEN, "--select", "CKD202").stdout
    assert "CKD202" not in run("inspect", BROKEN).stdout
    assert "CKD202" in run("inspect", BROKEN, "--ignore", "").stdout


MISTAKES = [
    ("fail_on = 'error'", "fail_on: there is no such key; did you mean fail-on?"),
    ("colour = 1", "colour: there is no such key; there are expect, layout"),
    ("expect = 'gguf'", "expect: 'gguf' is not one of safetensors, bin, any"),
    ("expect = 1", "expect: this must be a string, not a number"),
    ("expect = ['bin']", "expect: this must be a string, not a list"),
    ("layout = 'wever'", "layout: there is no layout 'wever'; did you mean weaver?"),
    ("layout = ''", "layout: this must not be empty"),
    ("select = 'CKDX'", "select: there is no rule 'CKDX'"),
    ("select = ['side-file-mising']", "select: there is no rule 'side-file-mising'; did you mean side-file-missing"),
    ("ignore = [1]", "ignore[1]: this must be a string, not a number"),
    ("ignore = 2024-01-01", "ignore: this must be a string or a list of strings, not a date"),
    ("fail-on = 'errors'", "fail-on: 'errors' is not one of error, warning, note, never; did you mean error?"),
    ("output-format = 'jsn'", "output-format: 'jsn' is not one of text"),
    ("output-format = ['json', 'x']", "output-format: 'x' is not one of text"),
    ("deep = 'yes'", "deep: this must be true or false, not a string"),
    ("deep = 1", "deep: this must be true or false, not a number"),
    ("preview = true", "preview: there is no such key"),
    ("severity = 'error'", "severity: this must be a table, not a string"),
    ("severity.CKD999 = 'error'", "severity.CKD999: there is no rule 'CKD999'"),
    ("severity.CKD2 = 'error'", "severity.CKD2: this means several rules: name one"),
    ("severity.CKD201 = 'fatal'", "severity.CKD201: 'fatal' is not one of error, warning, note"),
    ("severity.CKD201 = 'note'\nseverity.weights-format-mismatch = 'note'", "CKD201 has a severity already"),
    ("per-path-ignores = ['a']", "per-path-ignores: this must be a table, not a list"),
    ("per-path-ignores.a = 'CKDX'", "per-path-ignores.a: there is no rule 'CKDX'"),
    ("per-path-ignores.'../a' = 'CKD1'", 'per-path-ignores."../a": a pattern is relative'),
    ("per-path-ignores.'/a' = 'CKD1'", 'per-path-ignores."/a": a pattern is relative'),
    ("layouts = 1", "layouts: this must be a list of tables"),
]


@pytest.mark.parametrize(("text", "problem"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_a_mistake_is_named_with_its_place(here: Path, text: str, problem: str) -> None:
    written(here, f"{text}\n")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith("ckpt-doctor.toml: ")
    assert problem in str(caught.value)
    (here / "ckpt-doctor.toml").unlink()
    (here / "pyproject.toml").write_text(f"[tool.ckpt-doctor]\n{text}\n")
    with pytest.raises(SettingsError, match=r"^pyproject.toml: tool\.ckpt-doctor\."):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("EXPECT", "gguf", "CKPT_DOCTOR_EXPECT: 'gguf' is not one of safetensors, bin, any"),
        ("FAIL_ON", "maybe", "CKPT_DOCTOR_FAIL_ON: 'maybe' is not one of error"),
        ("SELECT", "CKDX", "CKPT_DOCTOR_SELECT: there is no rule 'CKDX'"),
        ("LAYOUT", "x", "CKPT_DOCTOR_LAYOUT: there is no layout 'x'"),
        ("DEEP", "perhaps", "CKPT_DOCTOR_DEEP: 'perhaps' is not one of 1, true"),
        ("OUTPUT_FORMAT", "toml", "CKPT_DOCTOR_OUTPUT_FORMAT: 'toml' is not one of text"),
        ("CONFIG", "nowhere.toml", "nowhere.toml: there is no such settings file"),
    ],
)
def test_a_mistake_in_the_environment(here: Path, variable: str, value: str, problem: str) -> None:
    result = run("inspect", BROKEN, env={f"CKPT_DOCTOR_{variable}": value})
    assert (result.exit_code, result.stdout) == (2, "")
    assert problem in result.stderr


def test_unknown_variables_are_no_error(here: Path) -> None:
    assert run("inspect", BROKEN, env={"CKPT_DOCTOR_FAILON": "never"}).exit_code == 1
    result = run("settings", env={"CKPT_DOCTOR_FAILON": "never", "CKPT_DOCTOR_CHECKPOINT": "x"})
    assert result.exit_code == 0
    assert result.stderr == "CKPT_DOCTOR_FAILON is not a variable of ckpt-doctor; did you mean CKPT_DOCTOR_FAIL_ON?\n"


def test_names_that_a_terminal_would_act_upon(here: Path) -> None:
    written(here, '"a\\u001b[2J\\u202e" = 1\n')
    result = run("inspect", BROKEN)
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr
    assert "\u202e" not in result.stderr


def test_every_simple_key_has_a_variable() -> None:
    assert [key.variable for key in KEYS if key.simple] == [
        f"CKPT_DOCTOR_{name}" for name in ("EXPECT", "LAYOUT", "SELECT", "IGNORE", "FAIL_ON", "OUTPUT_FORMAT", "DEEP")
    ]
