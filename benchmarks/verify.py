"""What proof costs: ``keys`` against importing the libraries, and a proven load against the load alone.

    python benchmarks/verify.py [--parameters 1.5e9]

Every line is a process of its own; the lines of a ratio take turns. Only ratios carry over to another machine. The
models have random weights and are written to a temporary folder, which needs as many bytes as they have.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).parents[1]
SIZES = {
    "7B": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "70B": {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
    },
}
IMPORTS = "import transformers, peft; transformers.AutoModelForCausalLM, transformers.LlamaForCausalLM, peft.PeftModel"


def measured(code: str, *args: str) -> tuple[float, float, dict[str, float]]:
    """Seconds, megabytes of peak memory, and what the process printed as JSON in its last line."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    wrapped = f"{code}\nimport json, resource, sys\n"
    wrapped += "print(json.dumps({**globals().get('found', {}), "
    wrapped += "'peak': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", wrapped, *args], env=env, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    return seconds, found["peak"], found


def adapter_and_config(size: str, folder: Path) -> tuple[Path, Path]:
    """A LoRA on the attention of a model of this size, of which only the config is there."""
    code = """
import sys, json, torch, transformers, peft
config = transformers.LlamaConfig(**json.loads(sys.argv[1]), vocab_size=32000, architectures=["LlamaForCausalLM"])
config.save_pretrained(sys.argv[2] + "/base")
with torch.device("meta"):
    base = transformers.LlamaForCausalLM(config)
    model = peft.get_peft_model(base, peft.LoraConfig(r=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
state = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
state = {name: torch.randn(value.shape, dtype=torch.bfloat16) for name, value in state.items()}
from safetensors.torch import save_file
model.peft_config["default"].save_pretrained(sys.argv[2] + "/adapter")
save_file(state, sys.argv[2] + "/adapter/adapter_model.safetensors", metadata={"format": "pt"})
"""
    measured(code, json.dumps(SIZES[size]), str(folder))
    return folder / "adapter", folder / "base"


def keys(size: str, rounds: int) -> None:
    """``verify --mode keys`` against importing transformers and peft."""
    with tempfile.TemporaryDirectory() as name:
        adapter, base = adapter_and_config(size, Path(name))
        imports, ours, peaks = [], [], []
        for _ in range(rounds):
            imports.append(measured(IMPORTS)[0])
            code = "import sys, ckpt_doctor\ncoverage = ckpt_doctor.verify(sys.argv[1], sys.argv[2], mode='keys')\n"
            seconds, peak, _ = measured(code + "assert coverage.complete", str(adapter), str(base))
            ours.append(seconds)
            peaks.append(peak)
    one, two = median(imports), median(ours)
    print(
        f"| keys, {size} config | {two:.1f} s | {max(peaks):.0f} MB | importing transformers and peft, {one:.1f} s |"
        f" {two / one:.2f} (+{two - one:.1f} s) |"
    )


LOAD = """
import sys, time, torch, transformers, resource
transformers.logging.set_verbosity_error()
{imports}
start = time.perf_counter()
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
{body}
found = dict(seconds=time.perf_counter() - start, **locals().get("more", {{}}))
"""
ALONE = "model = transformers.LlamaForCausalLM.from_pretrained(sys.argv[1], dtype='auto')"
PROVEN = """
coverage = ckpt_doctor.verify(sys.argv[1])
assert coverage.complete, coverage.findings
"""
JUDGED = (
    ALONE
    + """
# Weights may be mapped from the file: what is in memory once they are used belongs to the model.
for parameter in model.parameters():
    parameter.detach().view(torch.int16).amax()
before = peak()
judged = time.perf_counter()
coverage = ckpt_doctor.load_coverage(model, sys.argv[1])
assert coverage.complete, coverage.findings
more = dict(judging=time.perf_counter() - judged, extra=peak() - before)
"""
)


BY_HAND = """
def read():
    from safetensors.torch import load_file
    from pathlib import Path
    for file in sorted(Path(sys.argv[1]).glob("*.safetensors")):
        model.load_state_dict(load_file(file), strict=False)
with torch.device("meta"):
    model = transformers.LlamaForCausalLM(transformers.AutoConfig.from_pretrained(sys.argv[1]))
model = model.to(torch.bfloat16).to_empty(device="cpu")
for value in model.parameters():
    value.detach().zero_()
start = time.perf_counter()
"""
READ = BY_HAND + "read()\n"
WATCHED = (
    BY_HAND
    + """
with ckpt_doctor.watch_load(model, sys.argv[1]) as coverage:
    read()
assert coverage.complete, coverage.findings
"""
)


def load(parameters: float, rounds: int) -> None:
    """A load that is proven against the load alone, of a bfloat16 model of about this many parameters."""
    with tempfile.TemporaryDirectory() as name:
        layers = max(1, round((parameters - 2 * 32000 * 2048) / 50.3e6))
        code = """
import sys, torch, transformers
config = transformers.LlamaConfig(hidden_size=2048, intermediate_size=5504, num_hidden_layers=int(sys.argv[1]),
                                  num_attention_heads=16, vocab_size=32000)
torch.set_default_dtype(torch.bfloat16)
model = transformers.LlamaForCausalLM(config)
model.save_pretrained(sys.argv[2])
found = dict(parameters=sum(value.numel() for value in model.parameters()))
"""
        _, _, made = measured(code, str(layers), name)
        alone, proven, extra, judging, read, watched = [], [], [], [], [], []
        for _ in range(rounds):
            alone.append(measured(LOAD.format(imports="", body=ALONE), name)[2]["seconds"])
            code = LOAD.format(imports="import ckpt_doctor\nimport ckpt_doctor.verification", body=PROVEN)
            proven.append(measured(code, name)[2]["seconds"])
            code = LOAD.format(imports="import ckpt_doctor\nimport ckpt_doctor.verification", body=JUDGED)
            found = measured(code, name)[2]
            extra.append(found["extra"])
            judging.append(found["judging"])
            imports = "import ckpt_doctor\nimport ckpt_doctor.verification"
            read.append(measured(LOAD.format(imports=imports, body=READ), name)[2]["seconds"])
            watched.append(measured(LOAD.format(imports=imports, body=WATCHED), name)[2]["seconds"])
    one, two = median(alone), median(proven)
    print(
        f"| load, {made['parameters'] / 1e9:.2f}B parameters, bfloat16 | {two:.2f} s | +{max(extra):.0f} MB |"
        f" `from_pretrained`, {one:.2f} s | {two / one:.2f} (comparing alone {median(judging):.2f} s) |"
    )
    one, two = median(read), median(watched)
    print(
        f"| watch_load, the same model | {two:.2f} s | | `load_file` and `load_state_dict`, {one:.2f} s |"
        f" {two / one:.2f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parameters", type=float, default=1.5e9)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("| what | time | peak memory | against | ratio |\n|---|---|---|---|---|")
    for size in SIZES:
        keys(size, options.rounds)
    load(options.parameters, options.rounds)


if __name__ == "__main__":
    main()
