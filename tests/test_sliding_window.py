"""The CPU's own attention in models with sliding windows (Gemma-3): training, packed rows, generation.

Everything is compared with transformers' eager attention and PEFT, in float32, for rows that fit into the
window and for longer ones.
"""

import copy

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from generation.batches import pad_left
from generation.drafting import Drafter, FreeGuide
from generation.engine import GenerationSettings, generate
from models.cpu_attention import takes_packed, use_grouped_attention
from models.cpu_layers import speed_up_layers
from tests.conftest import TINY
from training.logits import logits_after_prefix
from training.shared_evidence import group_columns, grouped_logits

TOKENS = {"vocab_size": 200, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
LAYERS = {"layer_types": ["sliding_attention", "full_attention"]}
PREFIX = list(range(10, 40))
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# The longest row below has 30 tokens of prefix and 70 of its own.
FITS = 100
NARROW = 48


def make(window: int, **options):
    """A random Gemma-3 in which attention, its window and the weights of norms matter."""
    torch.manual_seed(0)
    sizes = {**TINY, **TOKENS, **LAYERS, "head_dim": 8, "query_pre_attn_scalar": 8}
    config = transformers.Gemma3TextConfig(**sizes, sliding_window=window, **options)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            weight.data.normal_(std=0.3)
        elif "embed" not in name:
            weight.data.normal_(std=weight.shape[-1] ** -0.5)
    return model.eval()


def rows(lengths=(70, 12, 41)) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, 200, (n,), generator=generator).tolist() for n in lengths]


def with_adapters(model):
    torch.manual_seed(1)
    model = get_peft_model(model, LoraConfig(r=4, target_modules=PROJECTIONS, task_type="CAUSAL_LM"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model.train()


def loss_and_gradient(model, logits_of, n_labels=5):
    """Of the last `n_labels` tokens of every row."""
    ids, mask = pad_left(rows(), 0, "cpu")
    logits = logits_of(model, PREFIX, ids, mask, n_labels + 1)[:, :-1]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, -n_labels:].flatten())
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def row_by_row(model, prefix, ids, mask, n_labels):
    """Every row alone, without padding: what transformers computes without any of our code."""
    found = []
    for row, of_row in zip(ids, mask.bool()):
        whole = torch.tensor([prefix + row[of_row].tolist()])
        found.append(model(input_ids=whole, use_cache=False).logits[0, -n_labels:])
    return torch.stack(found)


@pytest.mark.parametrize("window, reads_prefix_once", [(FITS, True), (FITS - 1, False), (NARROW, False)])
@pytest.mark.parametrize("pack", [False, True])
def test_a_training_step_has_the_loss_and_gradient_of_peft_and_eager(window, reads_prefix_once, pack):
    plain = with_adapters(make(window))
    fast = copy.deepcopy(plain)
    speed_up_layers(fast)
    use_grouped_attention(fast.get_base_model())
    assert takes_packed(fast) and not takes_packed(plain)
    widths = []

    def note_width(module, args, kwargs):
        widths.append(kwargs["input_ids"].numel())

    fast.register_forward_pre_hook(note_width, with_kwargs=True)
    loss, gradient = loss_and_gradient(plain, row_by_row)
    fast_loss, fast_gradient = loss_and_gradient(fast, logits_after_prefix(fast, True, pack))
    assert fast_loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(fast_gradient, gradient, rtol=1e-4, atol=1e-6)
    # Where the window is as long as the longest row, the prefix is read once; else with every row.
    assert (widths == [len(PREFIX) + 3 * 70]) == reads_prefix_once


@pytest.mark.parametrize("window, n_passes", [(FITS, 1), (FITS - 1, 2)])
def test_rows_that_share_evidence_are_read_in_one_pass_where_the_window_is_wide_enough(window, n_passes):
    long, short, alone = rows((70, 12, 41))
    # Two questions on one evidence, which is most of both, and a row of its own.
    grouped = [long, long[:60] + short[:8], alone]
    ids, mask = pad_left(grouped, 0, "cpu")
    model = use_grouped_attention(make(window))
    passes = []
    model.register_forward_pre_hook(lambda module, inputs: passes.append(1))
    inputs = {"input_ids": ids, "attention_mask": mask} | group_columns(grouped, 0)
    assert inputs["n_shared"].tolist() == [60, 60, 0]
    with torch.no_grad():
        found = grouped_logits(logits_after_prefix(model, True), model, PREFIX, inputs, 4)
        n_read = len(passes)
        expected = row_by_row(make(window), PREFIX, ids, mask, 4)
    assert n_read == n_passes
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("window", [1 << 10, NARROW])
@pytest.mark.parametrize("n_new", [1, 7, 60])
def test_attention_is_eager_attention_with_and_without_a_cache(window, n_new):
    eager = make(window)
    grouped = use_grouped_attention(make(window))
    assert grouped.config._attn_implementation == "grouped"
    ids = torch.randint(3, 200, (2, 160), generator=torch.Generator().manual_seed(0))
    found = []
    for model in (eager, grouped):
        with torch.no_grad():
            past = model(input_ids=ids[:, :-n_new], use_cache=True).past_key_values
            found.append(model(input_ids=ids[:, -n_new:], past_key_values=past).logits)
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("window", [1 << 10, NARROW])
def test_generated_tokens_are_those_of_eager_attention(window):
    class Tokenizer:
        eos_token_id = 1
        pad_token_id = 0

    eager = make(window)
    grouped = use_grouped_attention(make(window))
    prompts = rows((70, 12, 41, 5, 33))
    settings = GenerationSettings(batch_size=3, max_new_tokens=16)
    guide = FreeGuide(Drafter(), lambda ids: False)
    found = []
    for model in (eager, grouped):
        ids = {}
        for batch in generate(model, Tokenizer(), prompts, lambda i: guide, PREFIX, settings):
            ids |= {i: generated.ids for i, generated in batch}
        found.append([ids[i] for i in range(len(prompts))])
    assert found[0] == found[1]
    limits = {"max_new_tokens": 16, "do_sample": False}
    for prompt, ids in zip(prompts, found[1]):
        whole = torch.tensor([PREFIX + prompt])
        output = eager.generate(whole, attention_mask=torch.ones_like(whole), **limits)
        new_ids = output[0, whole.shape[1] :].tolist()
        assert ids == [token for token in new_ids if token != 1]


def test_a_model_that_looks_ahead_keeps_its_attention():
    model = make(FITS, use_bidirectional_attention=True)
    assert use_grouped_attention(model).config._attn_implementation == "eager"
