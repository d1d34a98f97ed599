"""What the commands write as JSON fits the schemas in docs/schema/, which name every key."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from ckpt_doctor.cli.root import cli
from support.places import FAILURES, HEALTHY, LOADERS, REPOSITORY
from support.scenes import shards, weaver

SCHEMAS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (REPOSITORY / "docs/schema").glob("*")}
WEAVER = HEALTHY / "weaver_safetensors/weaver"
MODEL = LOADERS / "weaver_loaders.py"


def closed(schema: Any) -> Any:
    """The same schema, but no object may have keys that the schema does not name."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return {**inner, "additionalProperties": False} if "properties" in schema else inner


def written(*arguments: object) -> Any:
    done = CliRunner().invoke(cli, [*map(str, arguments), "--output-format", "json"])
    assert done.stdout, done.output
    return json.loads(done.stdout)


def check(name: str, document: Any) -> None:
    for schema in (SCHEMAS[name], closed(SCHEMAS[name])):
        errors = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(document)]
        assert not errors, errors


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_schemas_are_sound(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])


def test_every_command_with_json_has_a_schema() -> None:
    context = click.Context(cli)
    named = set()
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        for option in command.params:
            if option.name == "output_format" and "json" in getattr(option.type, "choices", ()):
                named.add(name)
    assert named == SCHEMAS.keys() - {"contract"}


def test_a_closed_schema_notices_a_new_key() -> None:
    document = {**written("rules"), "new": 1}
    assert not list(Draft202012Validator(SCHEMAS["rules"]).iter_errors(document))
    assert list(Draft202012Validator(closed(SCHEMAS["rules"])).iter_errors(document))


@pytest.mark.parametrize(
    "arguments",
    [
        (HEALTHY,),
        (FAILURES, "--statistics"),
        (HEALTHY / "peft/lora", "--deep"),
        (HEALTHY / "peft/lora/adapter_model.safetensors",),
    ],
)
def test_inspect(arguments: tuple[object, ...]) -> None:
    check("inspect", written("inspect", *arguments))


def test_inspect_of_what_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07" * 600)
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(200))
    document = written("inspect", tmp_path)
    assert document["not_judged"]
    check("inspect", document)


@pytest.mark.parametrize("options", [(), ("--latest",), ("--latest", "--fallback", "--no-deep")])
@pytest.mark.parametrize("tree", [HEALTHY / "weaver_bin", FAILURES / "both", WEAVER])
def test_gate(tree: Path, options: tuple[str, ...]) -> None:
    check("gate", written("gate", tree, *options))


@pytest.mark.slow
def test_gate_with_a_load() -> None:
    document = written("gate", WEAVER, "--model", f"{MODEL}:build", "--loader", f"{MODEL}:after_fix_2")
    assert document["verification"]
    check("gate", document)


@pytest.mark.slow
def test_verify() -> None:
    check("verify", written("verify", WEAVER, "--model", f"{MODEL}:build", "--loader", f"{MODEL}:after_fix_2"))


@pytest.mark.slow
def test_verify_of_an_adapter(tmp_path: Path) -> None:
    base = shutil.copytree(HEALTHY / "transformers/single_safetensors", tmp_path / "base")
    document = written("verify", HEALTHY / "peft/lora", "--model", base, "--mode", "keys")
    assert document["model_class"]
    check("verify", document)


@pytest.mark.parametrize("scene", [shards, weaver])
@pytest.mark.parametrize("options", [("--dry-run",), ()])
def test_fix(scene: Any, options: tuple[str, ...], tmp_path: Path) -> None:
    document = written("fix", scene(tmp_path), *options)
    assert document["repairs"][0]["steps"]
    check("fix", document)


@pytest.mark.parametrize("options", [(), ("--shared", "drop")])
@pytest.mark.parametrize("source", ["peft/lora_bin", "transformers/tied_bin", "transformers/sharded_bin"])
def test_convert(source: str, options: tuple[str, ...], tmp_path: Path) -> None:
    check("convert", written("convert", HEALTHY / source, tmp_path / "new", "--to", "safetensors", *options))


@pytest.mark.parametrize("path", [HEALTHY, FAILURES])
def test_ls(path: Path) -> None:
    check("ls", written("ls", path))


@pytest.mark.parametrize("name", ["rules", "settings"])
def test_what_needs_no_checkpoint(name: str) -> None:
    check(name, written(name))


@pytest.mark.parametrize("other", ["weaver_bf16_cuda/weaver", "trigger_run/trigger", "weaver_bin/weaver"])
def test_diff(other: str) -> None:
    check("diff", written("diff", WEAVER, HEALTHY / other, "--values"))


@pytest.mark.parametrize("options", [(), ("--values",)])
@pytest.mark.parametrize("checkpoint", ["weaver_bin/weaver", "transformers/tied_bin", "peft/lora"])
def test_contract(checkpoint: str, options: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "contract.json"
    done = CliRunner().invoke(cli, ["lock", str(HEALTHY / checkpoint), "-o", str(file), *options])
    assert done.exit_code == 0, done.output
    check("contract", json.loads(file.read_text()))
