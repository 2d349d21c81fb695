"""Packed optimizer steps: the losses and gradients of rows that run one by one, in fewer passes."""

import copy
import inspect
import itertools
import json
import shutil

import pytest
import torch
import transformers
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TrainerCallback
from transformers import modeling_flash_attention_utils as flash

import train_sft
from models.cpu_attention import use_grouped_attention
from tests.conftest import TINY, TWO_PROCESSES, TWO_PROCESSES_ENV, tiny_config
from tests.test_base_models import CONFIGS as OTHER_CONFIGS
from tests.test_base_models import TOKENS
from tests.test_sft_runs import FSDP
from tests.test_train_sft import config_text
from train_sft import SFTTrainer, make_collator
from training.logits import keeps_rows_apart, row_after_row_logits
from training.packing import at_least, join, plan_passes, plan_shared_passes, take
from training.sampler import RowOrder
from training.sft_config import DEFAULTS, check_config
from training.steps import rows_per_pass
from training.trainer import training_arguments
from utils.errors import UsageError
from utils.jsonl import read_json

PREFIX = list(range(10, 30))
# Narrower than a row with its prefix: what a window hides differs from place to place.
WINDOW = {"sliding_window": 16}
CONFIGS = {
    "llama": lambda: tiny_config("llama", 200),
    "qwen2": lambda: tiny_config("qwen2", 200),
    "gemma2": lambda: transformers.Gemma2Config(
        **{**tiny_config("gemma2", 200).to_dict(), "sliding_window": 16, "attn_logit_softcapping": 2.0}
    ),
    "gemma3_text": lambda: transformers.Gemma3TextConfig(**TINY, **TOKENS, **WINDOW, head_dim=8),
    "mistral": lambda: transformers.MistralConfig(**TINY, **TOKENS, **WINDOW),
    "phi3": lambda: transformers.Phi3Config(**TINY, **TOKENS, **WINDOW),
    "gpt_neox": OTHER_CONFIGS["gpt_neox"],
    "gpt2": lambda: transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, n_positions=512, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, **TOKENS
    ),
    "mamba": lambda: transformers.MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=8, **TOKENS),
}

# Mamba's state reads on; Bloom and GPT-OSS (transformers 5.23) hand no positions to what makes their masks.
MIXING = ("mamba", "bloom", "gpt_oss")


def make(kind: str, attention: str = "eager"):
    """A tiny model in which attention matters; "grouped" is our own on a CPU."""
    torch.manual_seed(0)
    name = "eager" if attention == "grouped" else attention
    config = (OTHER_CONFIGS | CONFIGS)[kind]()
    model = AutoModelForCausalLM.from_config(config, attn_implementation=name)
    for name, weight in model.named_parameters():
        if weight.dim() > 1 and not any(part in name for part in ("embed", "wte", "lm_head")):
            weight.data.normal_(std=weight.shape[-1] ** -0.5)
    return use_grouped_attention(model) if attention == "grouped" else model


def make_rows(n_rows: int) -> list[dict]:
    """Rows of 9 to 52 tokens, a third of them twins of the one before, some with another weight."""
    generator = torch.Generator().manual_seed(1)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    rows = []
    for i in range(n_rows):
        row = {
            "id": str(i),
            "suffix": [draw(30, 200) for _ in range(draw(6, 40))],
            "completion": [*(draw(30, 200) for _ in range(draw(2, 12))), 1],
            "unit": str(i - i % 3 // 2),
            "answerable": i % 3 != 2,
            "weight": 1.0 if i % 4 else 1.5,
        }
        # Every fifth token of a completion may have no label (training/skeleton.py).
        labels = [-100 if (i + k) % 5 == 0 else token for k, token in enumerate(row["completion"])]
        rows.append({**row, "labels": labels})
    return rows


class Recorder(TrainerCallback):
    """The gradient of every optimizer step."""

    def __init__(self):
        self.gradients = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        parts = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        self.gradients.append(torch.cat(parts))


def train(model, rows, folder, share_prefix=False, **training):
    """Losses and gradients of the steps, evaluation losses, and the tokens of each training pass."""
    model = copy.deepcopy(model)
    config = copy.deepcopy(DEFAULTS) | {"bf16": False}
    config["training"] |= {
        "gradient_accumulation_steps": 4,
        "learning_rate": 1e-3,
        "max_steps": 2,
        "logging_steps": 1,
        "eval_steps": 1,
        "gradient_checkpointing": False,
        **training,
    }
    check_config(config)
    arguments = training_arguments(config, folder, 2)
    arguments.save_strategy = "no"
    recorder = Recorder()
    n_tokens = []

    def count(module, args, kwargs):
        if module.training:
            n_tokens.append(kwargs["input_ids"].numel())

    model.register_forward_pre_hook(count, with_kwargs=True)
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows[:5]),
        data_collator=make_collator(0),
        callbacks=[recorder],
        prefix=PREFIX,
        share_prefix=share_prefix,
        order=RowOrder(twins_adjacent=True),
    )
    trainer.train()
    log = trainer.state.log_history
    losses = [entry["loss"] for entry in log if "loss" in entry]
    eval_losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    return losses, recorder.gradients, eval_losses, n_tokens


# --- which rows share a pass


def test_passes_keep_the_limit_and_are_few():
    lengths = [50, 10, 700, 30, 60, 40, 10, 100]
    passes = plan_passes(lengths, 100)
    assert sorted(itertools.chain(*passes)) == list(range(8))
    # 300 tokens fit three passes; the long row comes on top, as it is.
    assert [2] in passes
    assert sorted(sum(lengths[i] for i in rows) for rows in passes) == [100, 100, 100, 700]


def test_a_shared_prefix_counts_once_and_padding_as_tokens():
    passes = plan_shared_passes([30, 10, 28, 9, 200], 100, 40)
    assert passes == [[4], [0, 2], [1, 3]]
    # No room beside the prefix: a row each.
    assert len(plan_shared_passes([30, 10], 20, 40)) == 2


def test_processes_agree_on_a_number_of_passes():
    assert at_least([[0, 1, 2, 3], [4]], 3) == [[4], [0, 2], [1, 3]]
    assert at_least([[0], [1]], 1) == [[0], [1]]
    assert sorted(at_least([[0, 1, 2]], 9)) == [[0], [1], [2]]


def test_plans_count_the_rows_of_a_pass():
    batches = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8}
    counts = {None: 2, 4096: 8, 100_000: 16, 100: 1}
    for max_tokens, n_rows in counts.items():
        assert rows_per_pass({**batches, "tokens_per_pass": max_tokens}, 500) == n_rows


def test_joined_rows_are_those_of_the_collator():
    rows = make_rows(7)
    collate = make_collator(0)
    joined = join([collate(rows[:3]), collate(rows[3:4]), collate(rows[4:])])
    for chosen in ([0, 1, 2, 3, 4, 5, 6], [5], [6, 2]):
        expected = collate([rows[i] for i in chosen])
        found = take(joined, chosen)
        assert found.keys() == expected.keys()
        for key in expected:
            assert torch.equal(found[key], expected[key]), key


# --- the same step


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, attention",
    [
        ("llama", "sdpa"),
        ("llama", "grouped"),
        ("qwen2", "eager"),
        ("gemma2", "eager"),
        ("gemma2", "grouped"),
        ("gemma3_text", "sdpa"),
        ("gemma3_text", "grouped"),
        ("mistral", "sdpa"),
        ("phi3", "eager"),
        ("gpt_neox", "sdpa"),
        ("gpt2", "eager"),
    ],
)
def test_packed_rows_have_the_gradients_of_rows_alone(kind, attention):
    rows = make_rows(6)
    collate = make_collator(0)
    trainer = SFTTrainer.__new__(SFTTrainer)
    trainer.prefix = PREFIX
    trainer.share_prefix = False
    found = {}
    for tokens_per_pass in (None, 10_000):
        trainer.tokens_per_pass = tokens_per_pass
        model = make(kind, attention).train()
        losses = []
        for part in [rows] if tokens_per_pass else [[row] for row in rows]:
            of_part, _ = trainer.row_losses(model, collate(part))
            of_part.sum().backward()
            losses += of_part.tolist()
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        found[tokens_per_pass] = torch.tensor(losses), torch.cat(gradients)
    for packed, alone in zip(found[10_000], found[None]):
        torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)


def varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, **options):
    """flash_attn_varlen_func of flash-attn 2.8, by its definition; q (n_tokens, n_heads, dim)."""
    assert options["causal"] and not options["dropout_p"]
    assert torch.equal(cu_seqlens_q, cu_seqlens_k) and cu_seqlens_q.dtype == torch.int32
    longest = int(cu_seqlens_q.diff().max())
    for name in ("max_seqlen_q", "max_seqlen_k"):
        # The kernel takes no tensors here.
        assert type(options[name]) is int and options[name] == longest
    left = options.get("window_size", (-1, -1))[0]
    softcap = options.get("softcap")
    mixed = []
    for start, end in itertools.pairwise(cu_seqlens_q.tolist()):
        n_shared = q.shape[1] // k.shape[1]
        keys = k[start:end].repeat_interleave(n_shared, 1)
        values = v[start:end].repeat_interleave(n_shared, 1)
        scores = torch.einsum("qhd,khd->hqk", q[start:end], keys) * options["softmax_scale"]
        if softcap:
            scores = torch.tanh(scores / softcap) * softcap
        seen = torch.ones(end - start, end - start, dtype=torch.bool).tril()
        if left >= 0:
            seen = seen.triu(-left)
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        mixed.append(torch.einsum("hqk,khd->qhd", weights, values))
    return torch.cat(mixed)


# transformers passes the options that it finds in the signature.
varlen.__signature__ = inspect.Signature(
    [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for name in (
            *("q", "k", "v", "cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k"),
            *("dropout_p", "softmax_scale", "causal", "window_size", "softcap", "deterministic"),
        )
    ]
)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "mistral"])
def test_flash_attention_gets_the_limits_of_the_rows(kind, monkeypatch):
    functions = (None, varlen, None, None, None), (flash._lazy_define_process_function(varlen), dict)
    monkeypatch.setattr(flash, "lazy_import_flash_attention", lambda *args, **kwargs: functions)
    rows = make_rows(6)
    batch = make_collator(0)(rows)
    model = make(kind)
    expected = []
    for row in rows:
        ids = torch.tensor([PREFIX + row["suffix"] + row["completion"]])
        expected.append(model(ids).logits[0, -len(row["completion"]) - 1 :])
    model.config._attn_implementation = "flash_attention_2"
    n_labels = batch["labels"].shape[1]
    found = row_after_row_logits(model, PREFIX, batch["input_ids"], batch["attention_mask"], n_labels)
    for logits, of_row in zip(found, expected):
        torch.testing.assert_close(logits[-len(of_row) :], of_row, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["sdpa", "grouped"])
@pytest.mark.parametrize("batch_size, max_tokens", [(1, 150), (2, 150), (4, 10_000), (4, 1)])
def test_a_packed_step_is_the_step_of_its_batches(attention, batch_size, max_tokens, tmp_path):
    rows = make_rows(40)
    model = make("llama", attention)
    batches = {"per_device_train_batch_size": batch_size}
    for share_prefix in (False, True):
        plain = train(model, rows, tmp_path, share_prefix, **batches)
        packed = train(model, rows, tmp_path, share_prefix, **batches, tokens_per_pass=max_tokens)
        assert packed[0] == pytest.approx(plain[0], rel=1e-4)
        assert packed[2] == pytest.approx(plain[2], rel=1e-4)
        torch.testing.assert_close(packed[1], plain[1], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_passes_have_at_most_the_tokens_asked_for(tmp_path):
    rows = make_rows(64)
    model = make("gemma2")
    sizes = {}
    for max_tokens in (None, 150, 400):
        options = {"gradient_accumulation_steps": 32, "tokens_per_pass": max_tokens}
        sizes[max_tokens] = train(model, rows, tmp_path, gradient_checkpointing=True, **options)[-1]
    assert len(sizes[None]) == 64
    n_tokens = sum(sizes[None])
    for max_tokens in (150, 400):
        passes = sizes[max_tokens]
        # Not one token of padding, and few passes that could be fuller.
        assert sum(passes) == n_tokens
        assert max(passes) <= max_tokens
        assert len(passes) <= 1.25 * n_tokens / max_tokens + 2
    assert len(sizes[400]) < len(sizes[150]) < 32


# --- models that cannot be packed


@pytest.mark.parametrize("kind", OTHER_CONFIGS | CONFIGS)
def test_a_model_that_mixes_rows_is_known(kind):
    model = make(kind).eval()
    ids = torch.arange(40, 72)
    assert keeps_rows_apart(model, ids, 1e-3) == (kind not in MIXING)
    assert not model.training


def test_a_model_that_mixes_rows_is_refused(tmp_path):
    rows = make_rows(8)
    with pytest.raises(UsageError, match="tokens_per_pass: mamba models read on .* set it to null"):
        train(make("mamba"), rows, tmp_path, tokens_per_pass=200)


def test_the_key_takes_a_count_or_null():
    config = copy.deepcopy(DEFAULTS)
    for value, is_right in ((None, True), (1, True), (0, False), (-1, False), (True, False), (1.5, False)):
        config["training"]["tokens_per_pass"] = value
        if is_right:
            check_config(config)
        else:
            with pytest.raises(UsageError, match=r"training\.tokens_per_pass: expected a whole number"):
                check_config(config)


# --- whole runs

SAME = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "gradient_checkpointing": True}


def test_a_packed_run_stops_and_resumes_like_one_of_single_rows(tiny_gemma_dir, home):
    config = home / "c.yaml"
    config.write_text(config_text(tiny_gemma_dir, **SAME))
    arguments = ["-c", str(config), "--set", "bf16=false", "--set"]
    train_sft.main([*arguments, "output_dir=plain"])
    packed = [*arguments, "training.tokens_per_pass=1200"]
    train_sft.main(packed)
    plain = read_json(home / "plain/training_history.json")
    history = read_json(home / "sft/training_history.json")
    for block, name in (
        ("train_losses", "loss"),
        ("train_losses", "grad_norm"),
        ("eval_metrics", "eval_loss"),
    ):
        expected = [log[name] for log in plain[block]]
        assert [log[name] for log in history[block]] == pytest.approx(expected, rel=1e-3)

    # As a kill after the second step leaves it.
    shutil.rmtree(home / "sft/checkpoint-4")
    manifest = read_json(home / "sft/run.json")
    (home / "sft/run.json").write_text(json.dumps({**manifest, "status": "running"}))
    before = [log["loss"] for log in history["train_losses"]]
    train_sft.main(packed)
    resumed = read_json(home / "sft/training_history.json")
    assert [log["loss"] for log in resumed["train_losses"]] == before


@pytest.mark.parametrize("launch", [[*TWO_PROCESSES, "train_sft.py"], FSDP], ids=["ddp", "fsdp"])
def test_two_packing_processes_learn_what_one_learns_from_single_rows(launch, tiny_gemma_dir, home, stage):
    config = home / "c.yaml"
    config.write_text(config_text(tiny_gemma_dir, **SAME, max_steps=2))
    arguments = ["-c", str(config), "--set", "bf16=false", "--set"]
    # Of the first step, one process could read its rows in two passes; the other needs three.
    packed = [*launch, *arguments, "training.tokens_per_pass=800"]
    done = stage(*packed, home=home, env=TWO_PROCESSES_ENV)
    assert done.returncode == 0, done.stderr[-3000:]
    alone = ["output_dir=one", "--set", "training.gradient_accumulation_steps=8"]
    train_sft.main([*arguments, *alone])
    found = [log["loss"] for log in read_json(home / "sft/training_history.json")["train_losses"]]
    expected = [log["loss"] for log in read_json(home / "one/training_history.json")["train_losses"]]
    assert found == pytest.approx(expected, rel=1e-4)
    weights = load_file(home / "sft/checkpoint-final/adapter_model.safetensors")
    expected_weights = load_file(home / "one/checkpoint-final/adapter_model.safetensors")
    for key, weight in expected_weights.items():
        torch.testing.assert_close(weights[key], weight, rtol=0, atol=1e-5)
