"""GPU check: do the CUDA paths work, and how fast are they beside plain transformers and TRL?

Needs no network: models have random weights. Writes OUT/gpu_check.json after every section, so that a run
that is cut keeps what it has, each time with `bars`: the comparison with what is wanted of a GPU
(docs/gpu.md). A section that fails says why, and the next one runs; a section that no longer fits the budget
is skipped and named.
`pip install trl==1.16.0` for the comparison of training.

    python benchmarks/gpu_check.py --data data/processed/train.jsonl --size 2b --budget 540 --out gpu
    python benchmarks/gpu_check.py --data data/processed/train.jsonl --size tiny --budget 600 --out gpu
"""

import argparse
import contextlib
import copy
import importlib.metadata
import importlib.util
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# Before the libraries are imported, which read them.
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import torch

from benchmarks.device import clock, device_name, forget_peak
from benchmarks.gpu_generation import (
    NEW_TOKENS,
    compare_generation,
    compare_precisions,
    compare_reward_features,
    load,
)
from benchmarks.gpu_stages import (
    compare_fast,
    further_commands,
    notebook_commands,
    planned_memory,
    run_commands,
    write_home,
)
from benchmarks.random_models import gemma_config, long_samples, write_models
from benchmarks.sft import SYSTEMS, make_bench, make_ours, measure
from generation.engine import GenerationSettings
from models.choices import ATTENTION_FLAGS
from models.hardware import attention_fault, choose_attention, choose_dtype, device, has_cuda
from models.peak_memory import peak_memory_gb
from training.sft_config import DEFAULTS
from utils.config import input_path

_VERSIONS = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "trl")
_IMPLEMENTATIONS = ("eager", "flash_attention_2", "flex_attention", "sdpa")
_OPTIONAL = ("bitsandbytes", "trl", "liger_kernel", "flash_attn", "kernels", "vllm")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--data", required=True, type=Path, help="a sample file with at least 80 rows")
    add("--out", required=True, type=Path, help="folder for gpu_check.json")
    size_help = "shape of the model that is timed; tiny: only whether all sections run, also on a CPU"
    add("--size", default="2b", choices=("2b", "tiny"), help=size_help)
    add("--budget", type=float, default=540, metavar="SECONDS", help="no section starts that would end later")
    add("--stage-timeout", type=float, default=75, metavar="SECONDS", help="limit of one stage command")
    only_help = "comma-separated sections to run, beside `make`, which writes the models"
    add("--only", default="", help=only_help)
    return parser


@dataclass(frozen=True)
class Check:
    """What every section is given, and what the sections before it found."""

    args: argparse.Namespace
    # For models, checkpoints and the home of the stages; deleted at the end.
    work: Path
    started: float = field(default_factory=time.monotonic)
    results: dict[str, dict] = field(default_factory=dict)
    # What the running section has found so far, which stays if the rest of it fails.
    so_far: dict = field(default_factory=dict)

    def left(self) -> float:
        return self.args.budget - (time.monotonic() - self.started)

    @property
    def home(self) -> Path:
        return self.work / "home"

    def model(self, size: str = "") -> str:
        return str(self.work / (size or self.args.size))

    def samples(self) -> list[dict]:
        return long_samples(self.args.data)

    def is_large(self) -> bool:
        return self.args.size != "tiny"

    @property
    def n_rows(self) -> int:
        """Rows that are trained on."""
        return 40 if self.is_large() else 16


def is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


# --- what is there


def show_environment(check: Check) -> dict:
    found: dict = {"device": device_name()}
    for name in _VERSIONS:
        if is_installed(name):
            found[name] = importlib.metadata.version(name)
    if has_cuda():
        found["capability"] = torch.cuda.get_device_capability()
    return found | {"present": [name for name in _OPTIONAL if is_installed(name)]}


def make_models(check: Check) -> dict:
    write_home(check.home, check.args.data)
    return write_models(check.work, {"tiny", check.args.size}, check.samples())


def show_choices(check: Check) -> dict:
    config = gemma_config("2b")
    chosen = {flag: choose_attention(flag, config) for flag in ATTENTION_FLAGS}
    faults = {name: attention_fault(name, config) for name in _IMPLEMENTATIONS}
    return {"chosen": chosen, "faults": faults, "dtype": str(choose_dtype())}


# --- right


def check_attention(check: Check) -> dict:
    """Distance of the logits from float32 eager, with holes in the mask, by implementation and precision."""
    from transformers import AutoModelForCausalLM

    def load(name: str, dtype: torch.dtype):
        model = AutoModelForCausalLM.from_pretrained(
            check.model("tiny"), dtype=dtype, attn_implementation=name
        )
        return model.to(device()).eval()

    ids = torch.randint(3, 4000, (3, 40), device=device())
    mask = torch.ones_like(ids)
    # As wrong drafts and padding leave them.
    mask[0, 4:9] = 0
    mask[1, :7] = 0
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
        "logits_to_keep": 5,
    }
    usable = [name for name in _IMPLEMENTATIONS if not attention_fault(name, gemma_config("tiny"))]
    found = {}
    with torch.inference_mode():
        expected = load("eager", torch.float32)(**inputs).logits
        for name in usable:
            for dtype in (torch.float32, torch.bfloat16):
                try:
                    logits = load(name, dtype)(**inputs).logits.float()
                    distance = ((logits - expected).norm() / expected.norm()).item()
                    found[f"{name} {dtype}"] = f"{distance:.1e}"
                except (RuntimeError, ValueError, ImportError) as error:
                    found[f"{name} {dtype}"] = f"{type(error).__name__}: {str(error)[:160]}"
    return found


def sft_config(model: str, **changes) -> dict:
    """The defaults of train_sft.py with steps of eight rows; `changes` by their YAML key, in either block."""
    config = copy.deepcopy(DEFAULTS)
    config |= {"model_name": model, "attn_implementation": "eager"}
    config["training"] |= {"gradient_accumulation_steps": 8, "logging_steps": 1, "learning_rate": 1e-4}
    for key, value in changes.items():
        block = config["training"] if key in config["training"] else config
        block[key] = value
    return config


def gradient_norms(check: Check, flag: str) -> list[float]:
    """The norm of the adapter's gradient before and after a pass without gradients."""
    config = sft_config(check.model("tiny"), **{flag: True})
    config["lora"]["dropout"] = 0.0
    bench, _ = make_bench(config, check.samples()[:8], 2, 2048, check.work / "gradients")
    trainer = make_ours(bench, plain=False)
    model = trainer.model
    inputs = trainer._prepare_inputs(trainer.data_collator(bench.rows))
    norms = []
    for _ in range(2):
        model.train()
        model.zero_grad()
        with trainer.compute_loss_context_manager():
            loss = trainer.compute_loss(model, inputs)
        loss.backward()
        gradients = [p.grad.flatten().float() for p in model.parameters() if p.grad is not None]
        norms.append(float(torch.cat(gradients).norm()))
        model.eval()
        with torch.inference_mode():
            model(input_ids=inputs["input_ids"])
    return norms


def check_gradients(check: Check) -> dict:
    if not is_installed("bitsandbytes"):
        return {"skipped": "bitsandbytes is not installed"}
    return {flag: gradient_norms(check, flag) for flag in ("load_in_4bit", "load_in_8bit")}


def run_notebook(check: Check) -> dict:
    # Every later stage needs the checkpoint of the first, which must not fail for its 4 bits alone.
    quantized = is_installed("bitsandbytes") and "failed" not in check.results.get("gradients", {})
    commands = notebook_commands(check.model("tiny"), quantized)
    check.so_far.update(run_commands(commands, check.home, check.args.stage_timeout, check.left))
    check.so_far["fast"] = compare_fast(check.home)
    return check.so_far


def run_further(check: Check) -> dict:
    commands = further_commands(check.model("tiny"), is_installed("bitsandbytes"))
    return run_commands(commands, check.home, check.args.stage_timeout, check.left)


# --- fast


def train(check: Check, system: str, **changes) -> dict:
    """Train a few steps with a system of benchmarks/sft.py. Returns tokens/s, peak memory and losses."""
    if system.startswith("trl") and not is_installed("trl"):
        return {"skipped": "trl is not installed"}
    if changes.get("load_in_4bit") and not is_installed("bitsandbytes"):
        return {"skipped": "bitsandbytes is not installed"}
    if "liger" in system and not is_installed("liger_kernel"):
        return {"skipped": "liger_kernel is not installed"}
    config = sft_config(check.model(), **changes)
    bench, _ = make_bench(config, check.samples(), check.n_rows, 2048, check.work / "train")
    # The same first weights of the adapter for every system.
    torch.manual_seed(0)
    trainer = SYSTEMS[system](bench)
    forget_peak()
    return measure(trainer, bench)


def training(system: str, **changes) -> Callable[[Check], dict]:
    return lambda check: train(check, system, **changes)


QLORA = {"load_in_4bit": True}
PACKED = {"tokens_per_pass": 4096}
# The scores of eager attention grow with the square of a pass, so that half of it may be faster.
PACKED_HALF = {"tokens_per_pass": 2048}
# Four rows share a pass, and nothing is computed twice.
ROOMY = {
    "gradient_checkpointing": False,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
}


def generation(
    attention: str, batch_size: int, n_prompts: int, compiled: str | None = None
) -> Callable[[Check], dict]:
    n_tiny = 8

    def section(check: Check) -> dict:
        if (attention == "flex" or compiled) and not has_cuda():
            return {"skipped": "needs a GPU"}
        n = n_prompts if check.is_large() else n_tiny
        settings = GenerationSettings(batch_size, NEW_TOKENS)
        loaded = load(check.model(), check.samples()[:n], attention)
        return compare_generation(loaded, settings, check.left, check.so_far, compiled)

    return section


def reward_features(check: Check) -> dict:
    return compare_reward_features(check.model(), check.samples()[: 32 if check.is_large() else 4])


def precisions(check: Check) -> dict:
    if not is_installed("bitsandbytes"):
        return {"skipped": "bitsandbytes is not installed"}
    samples = check.samples()[: 24 if check.is_large() else 4]
    return compare_precisions(check.model(), samples, check.so_far)


def compare_plan(check: Check) -> dict:
    """The memory that a dry run of training on the same rows names, beside the measured peak."""
    found = {}
    samples = check.samples()[: check.n_rows]
    for name, changes in (("train_4bit", QLORA), ("train_bf16", {})):
        measured = check.results.get(name, {}).get("peak_gb")
        if measured is None:
            continue
        # The peak of a GPU is that of its tensors.
        config = sft_config(check.model(), **changes)
        planned = planned_memory(check.home, config, samples, has_cuda())
        found[name] = {"planned_gb": planned, "measured_gb": measured}
    return found or {"skipped": "nothing was trained"}


# --- what is wanted


def value_of(results: dict, section: str, name: str) -> float | None:
    return results.get(section, {}).get(name)


def ratio_of(results: dict, one: tuple[str, str], other: tuple[str, str]) -> float | None:
    """One figure over another; None if either was not measured."""
    above = value_of(results, *one)
    below = value_of(results, *other)
    return round(above / below, 3) if above is not None and below else None


def stage_commands(results: dict) -> dict[str, dict]:
    """What is known of each stage command, by its name."""
    found = {}
    for section in ("notebook", "further"):
        for name, command in results.get(section, {}).items():
            # Beside the commands there are the section's own time and memory.
            if isinstance(command, dict) and ("exit" in command or "skipped" in command):
                found[name] = command
    return found


def failed_commands(results: dict) -> list[str]:
    """Stage commands that ran and did not exit with 0."""
    commands = stage_commands(results)
    return [name for name, command in commands.items() if command.get("exit", 0) != 0]


def all_exited(results: dict) -> bool | None:
    """Whether every stage command exited with 0; None if some were left out and no other failed."""
    commands = stage_commands(results)
    if failed_commands(results):
        return False
    return True if commands and all("exit" in command for command in commands.values()) else None


def trl_section(results: dict) -> str:
    """TRL's faster QLoRA run: ours takes Liger's kernels where they are installed, and so may TRL."""
    names = ("train_trl_4bit", "train_trl_4bit_liger")
    return max(names, key=lambda name: value_of(results, name, "tokens_per_s") or 0.0)


def judge(check: Check) -> dict:
    """Each wanted figure: what was found, and whether it is met; None: not measured here."""
    results = check.results
    ours = "train_4bit"
    trl = trl_section(results)
    loss = ratio_of(results, (ours, "first_loss"), (trl, "first_loss"))
    speed = ratio_of(results, (ours, "tokens_per_s"), (trl, "tokens_per_s"))
    packed_rates = []
    for name in ("train_4bit_packed", "train_4bit_packed_half"):
        packed_rates.append(ratio_of(results, (name, "tokens_per_s"), (trl, "tokens_per_s")))
    packed = max((rate for rate in packed_rates if rate is not None), default=None)
    memory = ratio_of(results, (ours, "peak_gb"), (trl, "peak_gb"))
    section = "generate_eager"
    answers = ratio_of(results, (section, "drafts samples_per_s"), (section, "generate samples_per_s"))
    failed = failed_commands(results)
    plans = [found for found in results.get("plan", {}).values() if isinstance(found, dict)]
    gaps = [abs(p["planned_gb"] / p["measured_gb"] - 1) for p in plans if p["planned_gb"]]
    met = {
        "every stage command exits with 0": (
            failed if stage_commands(results) else None,
            all_exited(results),
        ),
        "first loss within 1% of TRL's": (loss, None if loss is None else abs(loss - 1) <= 0.01),
        "QLoRA at least 1.3 times TRL": (speed, None if speed is None else speed >= 1.3),
        "packed, at least 1.6 times TRL": (packed, None if packed is None else packed >= 1.6),
        "memory not above TRL's": (memory, None if memory is None else memory <= 1),
        "at least 1.5 times generate": (answers, None if answers is None else answers >= 1.5),
        "plan within 20% of the peak": (gaps, max(gaps) <= 0.2 if gaps else None),
    }
    return {name: {"found": found, "met": is_met} for name, (found, is_met) in met.items()}


# --- the run

# Name -> (seconds that it takes on a fast GPU, the section). What decides most comes first.
SECTIONS: dict[str, tuple[int, Callable[[Check], dict]]] = {
    "environment": (0, show_environment),
    "make": (0, make_models),
    "choices": (5, show_choices),
    "gradients": (20, check_gradients),
    "notebook": (60, run_notebook),
    "train_4bit": (25, training("ours", **QLORA)),
    "train_trl_4bit": (25, training("trl", **QLORA)),
    "train_trl_4bit_liger": (25, training("trl_liger", **QLORA)),
    "train_4bit_packed": (20, training("ours", **QLORA, **PACKED)),
    "train_4bit_packed_half": (20, training("ours", **QLORA, **PACKED_HALF)),
    "generate_eager": (40, generation("eager", 16, 64)),
    "train_bf16": (20, training("ours")),
    "plan": (15, compare_plan),
    "further": (60, run_further),
    # FlexAttention compiles here, which nothing takes unless it is asked for.
    "attention": (40, check_attention),
    "reward_features": (20, reward_features),
    "precisions": (20, precisions),
    "train_bf16_batch4": (20, training("ours", **ROOMY)),
    "train_trl_bf16": (20, training("trl")),
    "generate_batch4": (20, generation("eager", 4, 16)),
    "generate_flex": (60, generation("flex", 16, 32)),
    "generate_static": (60, generation("eager", 16, 32, compiled="static")),
    "generate_compiled": (120, generation("eager", 16, 32, compiled="dynamic")),
    "train_4bit_flex": (60, training("ours", **QLORA, attn_implementation="flex")),
    "bars": (0, judge),
}


@contextlib.contextmanager
def own_layers() -> Iterator[None]:
    """Gives Gemma-2 the layers of transformers back: Liger replaces them for all models loaded later too."""
    from transformers.models.gemma2 import modeling_gemma2

    before = dict(vars(modeling_gemma2))
    try:
        yield
    finally:
        vars(modeling_gemma2).update(before)


def run_section(check: Check, name: str) -> dict:
    """What a section found, or why it did not; every section's own peak of memory."""
    n_seconds, section = SECTIONS[name]
    if check.left() < n_seconds:
        return {"skipped": f"{check.left():.0f} s left, {n_seconds} wanted"}
    # No clock that waits for the GPU: after some faults every call to it fails, this one too.
    started = time.perf_counter()
    check.so_far.clear()
    try:
        torch.compiler.reset()
        forget_peak()
        with own_layers():
            found = dict(section(check))
        clock()
        found.setdefault("peak_gb", peak_memory_gb())
    # The other sections must run whatever this one met.
    except Exception as error:
        places = traceback.format_exc().strip().splitlines()[-6:]
        found = {**check.so_far, "failed": f"{type(error).__name__}: {str(error)[:600]}", "where": places}
    found["seconds"] = round(time.perf_counter() - started, 1)
    return found


def write(check: Check) -> None:
    """Everything so far, with the figures that are wanted: a run may end here."""
    results = check.results | {"bars": judge(check)}
    (check.args.out / "gpu_check.json").write_text(
        json.dumps(results, indent=1, default=str), encoding="utf-8"
    )


def main(args: argparse.Namespace) -> None:
    wanted = {"make", *args.only.split(",")} if args.only else set(SECTIONS)
    if unknown := wanted - set(SECTIONS):
        sys.exit(f"--only {', '.join(unknown)}: choose from {', '.join(SECTIONS)}")
    args.data = input_path(args.data)
    # Each section would fail for it, and some of them load a model first.
    if not args.data.is_file():
        sys.exit(f"--data {args.data}: no such file; build_data.py writes one")
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        check = Check(args, Path(folder))
        for name in SECTIONS:
            if name in wanted:
                check.results[name] = run_section(check, name)
                write(check)
                print(f"{name}: {json.dumps(check.results[name], default=str)[:900]}", flush=True)
    failed = [name for name in check.results if "failed" in check.results[name]]
    failed += failed_commands(check.results)
    print(f"wrote {args.out / 'gpu_check.json'}; what failed: {', '.join(failed) or 'nothing'}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main(build_parser().parse_args())
