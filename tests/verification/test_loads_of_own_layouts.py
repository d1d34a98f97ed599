"""A team's own kind of checkpoint by ``--loader auto``: each part into the module that takes it, never by a guess."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import adapted, qwen2
from torch import nn

from ckpt_doctor.core.coverage import Coverage
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.core.layout import Layout, LayoutPart
from ckpt_doctor.verification import verify
from support.command_line import run
from support.projects import enter_project

# PEFT asks transformers for properties that will have other names some day.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

POLICY = LayoutPart("adapter", ("policy",), "folder", "policy")
CRITIC = LayoutPart("adapter", ("critic",), "folder", "critic")
HEAD = LayoutPart("value-head", ("value_head.safetensors",), "file", "value-head")
WHOLE = LayoutPart("model", ("base",), "folder", "base")


class Agent(nn.Module):
    """A language model and linear heads, as a training with rewards has them; nothing in it is trained."""

    def __init__(self, *heads: str) -> None:
        super().__init__()
        self.language = qwen2(seed=3)
        for name in heads:
            self.add_module(name, nn.Linear(32, 1))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """An adapter ``policy`` and a head, as saved after a training."""
    root = tmp_path / "run"
    adapted(qwen2(seed=3), "default").save_pretrained(root / "policy", save_embedding_layers=False)
    save_file({"weight": torch.randn(1, 32), "bias": torch.randn(1)}, root / "value_head.safetensors")
    return root


def judged(checkpoint: Path, model: Any, *parts: LayoutPart, **options: Any) -> Coverage:
    layout = Layout("agent", parts, markers=("policy",))
    return verify(checkpoint, model, loader=options.pop("loader", "auto"), layouts=(layout,), **options)


def codes(coverage: Coverage) -> list[str]:
    return [finding.code for finding in coverage.findings]


def trained(*names: str) -> Any:
    return adapted(qwen2(seed=3), *names)


class TestAdapterAndHead:
    @pytest.mark.slow
    @pytest.mark.parametrize("mode", ["load", "forward"])
    def test_each_goes_where_it_belongs(self, checkpoint: Path, mode: str) -> None:
        coverage = judged(checkpoint, lambda: Agent("value_head", "other_head"), POLICY, HEAD, mode=mode)
        assert (codes(coverage), coverage.restored, coverage.expected) == ([], 10, 10)
        parameters = {item.parameter for item in coverage.tensors if item.file == "value_head.safetensors"}
        assert parameters == {"value_head.weight", "value_head.bias"}
        assert coverage.complete or mode == "forward"

    def test_by_names_and_shapes_where_nothing_is_called_so(self, checkpoint: Path) -> None:
        assert judged(checkpoint, lambda: Agent("reward"), POLICY, HEAD).complete

    @pytest.mark.slow
    def test_by_full_names(self, checkpoint: Path) -> None:
        file = checkpoint / "value_head.safetensors"
        save_file({f"value_head.{name}": value for name, value in load_file(file).items()}, file)
        assert judged(checkpoint, lambda: Agent("value_head", "other_head"), POLICY, HEAD).complete
        part = HEAD._replace(role="extras", name="extras")
        assert judged(checkpoint, lambda: Agent("value_head", "other_head"), POLICY, part).complete

    def test_into_an_adapter_that_is_there(self, checkpoint: Path) -> None:
        def build() -> Agent:
            agent = Agent("value_head")
            agent.language = peft.get_peft_model(
                agent.language, peft.PeftConfig.from_pretrained(str(checkpoint / "policy")), adapter_name="policy"
            )
            return agent

        assert judged(checkpoint, build, POLICY, HEAD).complete

    @pytest.mark.slow
    def test_a_bin_is_read_without_running_its_pickle(self, checkpoint: Path) -> None:
        torch.save({"weight": torch.randn(1, 32), "bias": torch.randn(1)}, checkpoint / "value_head.pt")
        part = HEAD._replace(paths=("value_head.pt",))
        assert judged(checkpoint, lambda: Agent("value_head"), POLICY, part).complete


class TestDamage:
    def test_a_head_without_its_bias(self, checkpoint: Path) -> None:
        save_file({"weight": torch.randn(1, 32)}, checkpoint / "value_head.safetensors")
        coverage = judged(checkpoint, lambda: Agent("value_head"), POLICY, HEAD)
        assert (coverage.complete, codes(coverage)[0]) == (False, "CKD002")
        assert "bias" in coverage.findings[0].message

    def test_a_head_of_another_size(self, checkpoint: Path) -> None:
        save_file({"weight": torch.randn(1, 16), "bias": torch.randn(1)}, checkpoint / "value_head.safetensors")
        coverage = judged(checkpoint, lambda: Agent("value_head"), POLICY, HEAD)
        assert not coverage.complete
        assert "CKD002" in codes(coverage)

    @pytest.mark.slow
    def test_an_adapter_that_lost_a_tensor(self, checkpoint: Path) -> None:
        file = checkpoint / "policy" / "adapter_model.safetensors"
        state = load_file(file)
        del state[next(name for name in state if "lora_B" in name)]
        save_file(state, file, metadata={"format": "pt"})
        coverage = judged(checkpoint, lambda: Agent("value_head"), POLICY, HEAD)
        assert not coverage.complete
        assert "CKD003" in codes(coverage)

    @pytest.mark.slow
    def test_a_head_that_is_absent(self, checkpoint: Path) -> None:
        (checkpoint / "value_head.safetensors").unlink()
        coverage = judged(checkpoint, lambda: Agent("value_head"), POLICY, HEAD)
        assert not coverage.complete
        assert coverage.restored == 8


class TestUnclear:
    @pytest.mark.slow
    def test_two_modules_would_do(self, checkpoint: Path) -> None:
        with pytest.raises(VerificationError, match=r"fits into first and second: .*--loader FILE\.py:FUNCTION"):
            judged(checkpoint, lambda: Agent("first", "second"), POLICY, HEAD)

    @pytest.mark.slow
    def test_none_would_do(self, checkpoint: Path) -> None:
        with pytest.raises(VerificationError, match=r"how to load an? agent .*no module that the value-head fits into"):
            judged(checkpoint, lambda: Agent(), POLICY, HEAD)

    def test_two_bases_would_do(self, checkpoint: Path) -> None:
        def build() -> Agent:
            agent = Agent("value_head")
            agent.copy = copy.deepcopy(agent.language)
            return agent

        with pytest.raises(VerificationError, match=r"policy adapter .* fits into language and copy"):
            judged(checkpoint, build, POLICY, HEAD)

        def named() -> Agent:
            agent = build()
            agent.policy = agent.copy
            del agent.copy
            return agent

        assert judged(checkpoint, named, POLICY, HEAD).complete

    def test_a_head_needs_the_users_model(self, checkpoint: Path, tmp_path: Path) -> None:
        qwen2(seed=3).save_pretrained(tmp_path / "reference")
        with pytest.raises(VerificationError, match=r"how to load a agent checkpoint \(policy adapter, value-head\)"):
            judged(checkpoint, str(tmp_path / "reference"), POLICY, HEAD)

    @pytest.mark.slow
    def test_the_users_loader_may_have_a_base_model(self, checkpoint: Path, tmp_path: Path) -> None:
        qwen2(seed=3).save_pretrained(tmp_path / "reference")

        def load(model: Any, path: str) -> Any:
            return peft.PeftModel.from_pretrained(model, f"{path}/policy")

        coverage = judged(checkpoint, str(tmp_path / "reference"), POLICY, HEAD, loader=load)
        assert coverage.restored == 8


@pytest.mark.slow
class TestOneBase:
    @pytest.fixture
    def adapters(self, tmp_path: Path) -> Path:
        root = tmp_path / "run"
        trained("policy", "critic").save_pretrained(root, save_embedding_layers=False)
        return root

    @pytest.mark.parametrize("mode", ["load", "keys"])
    def test_two_adapters_in_one_base(self, adapters: Path, tmp_path: Path, mode: str) -> None:
        qwen2(seed=3).save_pretrained(tmp_path / "reference")
        coverage = judged(adapters, str(tmp_path / "reference"), POLICY, CRITIC, mode=mode)
        assert (codes(coverage), coverage.restored, coverage.complete) == ([], 16, True)
        assert any(".critic." in (item.parameter or "") for item in coverage.tensors)

    def test_each_in_the_users_model(self, adapters: Path) -> None:
        assert judged(adapters, lambda: Agent(), POLICY, CRITIC).complete

    @pytest.mark.parametrize("mode", ["load", "keys"])
    def test_a_model_with_its_adapter(self, checkpoint: Path, mode: str) -> None:
        qwen2(seed=3).save_pretrained(checkpoint / "base")
        coverage = judged(checkpoint, None, POLICY, WHOLE, mode=mode)
        assert (codes(coverage), coverage.complete) == ([], True)

    def test_a_model_and_its_adapter_in_the_users(self, checkpoint: Path) -> None:
        qwen2(seed=5).save_pretrained(checkpoint / "base")
        assert judged(checkpoint, lambda: Agent(), POLICY, WHOLE).complete


SETTINGS = """
[[layouts]]
name = "agent"
marker = "policy"
files = [{ role = "adapter", path = "policy" }, { role = "value-head", path = "value_head.safetensors" }]
"""
NETWORK = """
import sys
from pathlib import Path
import torch
from tiny_models import qwen2

def build(*heads):
    agent = torch.nn.Module()
    agent.language = qwen2(seed=3)
    for name in heads:
        agent.add_module(name, torch.nn.Linear(32, 1))
    return agent

def one():
    return build("value_head")

def two():
    return build("first", "second")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "damage", "code"),
    [
        ("one", None, 0),
        ("one", lambda root: save_file({"weight": torch.ones(1, 32)}, root / "value_head.safetensors"), 1),
        ("two", None, 2),
    ],
    ids=["healthy", "damaged", "unclear"],
)
def test_exit_codes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    checkpoint: Path,
    model: str,
    damage: Callable[[Path], None] | None,
    code: int,
) -> None:
    project = enter_project(tmp_path, monkeypatch)
    (project / "ckpt-doctor.toml").write_text(SETTINGS)
    path = f"import sys\nsys.path.append({str(Path(qwen2.__code__.co_filename).parent)!r})\n"
    (project / "network.py").write_text(path + NETWORK)
    if damage is not None:
        damage(checkpoint)
    result = run("verify", checkpoint, "--model", f"network.py:{model}", "--loader", "auto")
    assert result.exit_code == code, result.output
