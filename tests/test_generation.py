"""The engine against transformers' `generate`, and grouped attention against `eager`.

Batches, drafts and shared prompts change the speed and never a token.
"""

import weakref

import pytest
import torch

from generation import answering
from generation.answering import predict, sft_and_base
from generation.batches import plan_batches
from generation.drafting import Drafter
from generation.engine import GenerationSettings, generate
from generation.sampling import Sampling
from models.cpu_attention import use_grouped_attention
from models.loading import LoadOptions, load_model
from prompt_schema import SFT_TEMPLATES, PromptBuilder
from utils.completions import parse_completion
from utils.errors import UsageError

KINDS = ["llama", "qwen2", "gemma2", "gemma3_text"]


class Scripted:
    """A guide with a fixed draft function, no constraint and no end."""

    def __init__(self, draft=lambda ids: []):
        self.draft = draft

    def allowed(self, ids):
        return None

    def stop(self, ids):
        return False


def run(model, tokenizer, prompts, guide=lambda i: Scripted(), **options):
    settings = GenerationSettings(**{"batch_size": 4, "max_new_tokens": 12, **options})
    found = {}
    for batch in generate(model, tokenizer, [p.suffix for p in prompts], guide, prompts[0].prefix, settings):
        assert not set(found) & {i for i, _ in batch}
        found |= dict(batch)
    assert sorted(found) == list(range(len(prompts)))
    return [found[i] for i in range(len(prompts))]


def plain(model, tokenizer, prompt, max_new_tokens=12):
    """The tokens of transformers' own `generate`, one prompt at a time."""
    ids = torch.tensor([prompt.ids])
    mask = torch.ones_like(ids)
    output = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False
    )
    generated = output[0, len(prompt.ids) :].tolist()
    return [token for token in generated if token != tokenizer.eos_token_id]


@pytest.fixture(scope="module")
def prompts(tokenizer, samples):
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1500)
    return [builder.build(sample) for sample in samples[:9]]


@pytest.fixture(scope="module", params=KINDS)
def model_and_texts(request, make_model, tokenizer, prompts):
    model = make_model(request.param)
    return model, [plain(model, tokenizer, prompt) for prompt in prompts]


@pytest.mark.parametrize("batch_size", [1, 4, 8])
def test_greedy_tokens_equal_plain_generate(batch_size, model_and_texts, tokenizer, prompts):
    model, texts = model_and_texts
    found = run(model, tokenizer, prompts, batch_size=batch_size)
    assert [g.ids for g in found] == texts
    for prompt, generated in zip(prompts, found):
        scores = model(torch.tensor([prompt.ids])).logits[0, -1].log_softmax(-1)
        assert generated.logps[0] == pytest.approx(scores.max().item(), abs=1e-3)


def test_drafts_right_and_wrong_leave_the_tokens_as_they_are(model_and_texts, tokenizer, prompts):
    model, texts = model_and_texts
    plain_found = run(model, tokenizer, prompts)

    def drafts(text):
        # Right for a while, then wrong; the length differs from row to row and from pass to pass.
        def draft(ids):
            n = len(ids)
            right = text[n : n + 1 + n % 3]
            return (right + [3, 4, 3])[: 1 + (n + text[0]) % 5]

        return draft

    found = run(model, tokenizer, prompts, lambda i: Scripted(drafts(texts[i])))
    assert [g.ids for g in found] == texts
    for one, other in zip(found, plain_found):
        assert one.logps == pytest.approx(other.logps, abs=1e-3)


def test_a_right_draft_saves_passes(make_model, tokenizer, prompts):
    model = make_model("llama")
    texts = [plain(model, tokenizer, prompt) for prompt in prompts]
    passes = []
    handle = model.register_forward_pre_hook(lambda module, args: passes.append(1))
    run(model, tokenizer, prompts, lambda i: Scripted(lambda ids: texts[i][len(ids) :]), batch_size=9)
    handle.remove()
    # One for the prefix, one for everything else.
    assert len(passes) == 2


def test_long_prompts_of_a_sliding_window_model_stay_exact(make_model, tokenizer, samples):
    # 512 is the window, which prefix, padding and suffix exceed together: the prefix is not shared, nothing
    # is drafted.
    model = make_model("gemma2")
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1500)
    longer = [{**s, "evidence_chunks": s["evidence_chunks"] * k} for s, k in zip(samples[:2], (1, 4))]
    prompts = [builder.build(sample) for sample in longer]
    assert max(len(p.ids) for p in prompts) > 512
    found = run(model, tokenizer, prompts, lambda i: Scripted(lambda ids: [5, 6, 7]), batch_size=2)
    assert [g.ids for g in found] == [plain(model, tokenizer, prompt) for prompt in prompts]


def test_holes_never_fill_a_sliding_window(make_model, tokenizer, samples):
    # The prompt leaves room for the completion, but not for sixty wrong drafts of eight tokens.
    model = make_model("gemma2")
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1500)
    prompts = [builder.build(s) for s in samples if len(builder.build(s).ids) < 430][:2]
    found = run(
        model,
        tokenizer,
        prompts,
        lambda i: Scripted(lambda ids: [5, 6, 7, 8, 9, 10, 11, 12]),
        max_new_tokens=60,
    )
    assert [g.ids for g in found] == [plain(model, tokenizer, prompt, 60) for prompt in prompts]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_new", [1, 7, 150])
def test_grouped_attention_is_eager_attention(kind, n_new, make_model):
    eager = make_model(kind)
    grouped = use_grouped_attention(make_model(kind))
    assert grouped.config._attn_implementation == "grouped"
    ids = torch.randint(3, 500, (3, 160), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :30] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    found = []
    for model in (eager, grouped):
        with torch.no_grad():
            past = model(
                input_ids=ids[:, :-n_new],
                attention_mask=mask[:, :-n_new],
                position_ids=positions[:, :-n_new],
                use_cache=True,
            ).past_key_values
            new = {
                "input_ids": ids[:, -n_new:],
                "attention_mask": mask,
                "position_ids": positions[:, -n_new:],
                "past_key_values": past,
            }
            found.append(model(**new).logits)
    # Padding sees nothing, so its logits mean nothing; the first row starts with padding.
    assert torch.allclose(found[0][1:], found[1][1:], atol=1e-4)
    assert torch.allclose(found[0][0, -1], found[1][0, -1], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_grouped_attention_trains_like_eager_attention(kind, make_model):
    eager = make_model(kind)
    grouped = use_grouped_attention(make_model(kind))
    # More than two blocks of queries, and a last one that is not full.
    ids = torch.randint(3, 500, (3, 160), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    mask = torch.ones_like(ids)
    mask[0, :30] = 0
    labels[0, :31] = -100
    found = []
    for model in (eager, grouped):
        loss = model(
            input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), labels=labels
        ).loss
        loss.backward()
        found.append((loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()])))
    (loss, gradients), (grouped_loss, grouped_gradients) = found
    assert grouped_loss == pytest.approx(loss, rel=1e-6)
    assert torch.allclose(grouped_gradients, gradients, rtol=1e-4, atol=1e-6)


def test_sampling_repeats_with_its_seed_whatever_the_batch(make_model, tokenizer, prompts):
    model = make_model("llama")
    sampling = Sampling(1.0, 0.95, 50)

    def draws(seed, **options):
        seeds = [seed + i for i in range(len(prompts))]
        return [g.ids for g in run(model, tokenizer, prompts, sampling=sampling, seeds=seeds, **options)]

    def right_drafts(i):
        return Scripted(lambda ids: first[i][len(ids) :][:2])

    first = draws(1)
    assert first == draws(1, batch_size=2)
    # A sampled token is drawn once, whether it was drafted or not.
    assert first == draws(1, guide=right_drafts)
    assert first != draws(100)


def test_candidates_of_a_prompt_share_its_reading(make_model, tokenizer, prompts):
    model = make_model("qwen2")
    sampling = Sampling(1.0)
    read = []
    handle = model.register_forward_pre_hook(
        lambda module, args, kw: read.append(tuple(kw["input_ids"].shape)), with_kwargs=True
    )
    three = [prompt for prompt in prompts[:2] for _ in range(3)]
    together = run(model, tokenizer, three, sampling=sampling, seeds=range(6), batch_size=6)
    handle.remove()
    # The prefix, both prompts once, then single tokens of up to six rows.
    assert read[1][0] == 2
    assert read[2] == (6, 1)
    assert sum(shape[1] > 12 for shape in read) == 2
    alone = [run(model, tokenizer, [p], sampling=sampling, seeds=[i])[0] for i, p in enumerate(three)]
    assert [g.ids for g in together] == [g.ids for g in alone]
    # More candidates than rows: the prompt is read again.
    apart = run(model, tokenizer, three, sampling=sampling, seeds=range(6), batch_size=2)
    assert [g.ids for g in apart] == [g.ids for g in alone]


def test_constrained_completions_are_valid_whatever_the_model(make_model, tokenizer, prompts):
    # The weights are random, so nothing but the schema makes these completions valid.
    settings = GenerationSettings(batch_size=4, max_new_tokens=200)
    rows = []
    for batch in predict(
        make_model("llama"), tokenizer, dict(enumerate(prompts)), "x", settings, constrained=True
    ):
        rows += batch
    assert len(rows) == 9
    for row in rows:
        assert parse_completion(row["completion"], len(row["shown"]), strict=True).is_valid


def test_a_compiled_model_says_the_same(make_model, tokenizer, prompts):
    model = make_model("llama")
    texts = [plain(model, tokenizer, prompt, 4) for prompt in prompts[:2]]
    # The eager backend captures the graph as the real one does, and needs no compiler.
    model.forward = torch.compile(model.forward, dynamic=True, backend="eager")
    drafter = Drafter()
    drafter.learn(texts[0], 4)
    found = run(model, tokenizer, prompts[:2], lambda i: Scripted(drafter.draft), max_new_tokens=4)
    assert [g.ids for g in found] == texts


def test_batches_are_sorted_by_length_complete_and_within_their_tokens():
    assert plan_batches([5, 9, 1, 7, 3], 2) == [[1, 3], [0, 4], [2]]
    assert plan_batches([5, 9, 1, 7, 3], 4, max_tokens=14) == [[1], [3, 0], [4, 2]]
    assert plan_batches([5, 9, 1], 4, n_rows=[2, 3, 2]) == [[1], [0, 2]]


@pytest.fixture
def adapter_dir(tiny_gemma_dir, tokenizer, tmp_path):
    """A PEFT checkpoint with random adapters on the tiny base model."""
    from peft import LoraConfig, get_peft_model

    base = load_model(str(tiny_gemma_dir), LoadOptions(bf16=False))
    lora = LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    get_peft_model(base, lora).save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    return str(tmp_path / "adapter")


@pytest.fixture
def loaded(monkeypatch):
    """The names of the models that are loaded, in order."""
    names = []
    load_generator = answering.load_generator

    def load_and_note(name, *args):
        names.append(name)
        return load_generator(name, *args)

    monkeypatch.setattr(answering, "load_generator", load_and_note)
    return names


def test_an_adapter_and_its_base_are_one_load(adapter_dir, tiny_gemma_dir, loaded):
    ids = torch.tensor([[2, 9, 10, 11]])
    base = str(tiny_gemma_dir)
    options = LoadOptions(bf16=False)
    expected = load_model(base, options)(ids).logits
    with sft_and_base(adapter_dir, base, options) as models, torch.inference_mode():
        with models.sft():
            assert not torch.allclose(models.model(ids).logits, expected, atol=1e-3)
        with models.base():
            assert torch.allclose(models.model(ids).logits, expected, atol=1e-4)
        with models.sft():
            assert not torch.allclose(models.model(ids).logits, expected, atol=1e-3)
    assert loaded == [adapter_dir]


def test_a_model_and_another_base_are_loaded_one_after_the_other(adapter_dir, tiny_gemma_dir, loaded):
    # A full model as checkpoint: nothing says that it shares weights with the base.
    checkpoint = str(tiny_gemma_dir)
    with sft_and_base(checkpoint, adapter_dir, LoadOptions(bf16=False)) as models:
        assert loaded == [checkpoint]
        sft_model = weakref.ref(models.model)
        for _ in range(2):
            with models.base():
                # The first model is gone: both at once may not fit the device.
                assert sft_model() is None
        assert loaded == [checkpoint, adapter_dir]
    assert models.model is None
    assert models.base_revision is None


def test_the_base_model_must_be_named(tiny_gemma_dir):
    unnamed = pytest.raises(UsageError, match="name it with --base-model")
    with sft_and_base(str(tiny_gemma_dir), None) as models, unnamed, models.base():
        pass
