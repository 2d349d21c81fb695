"""What a pass of generation asks of the device: one answer, whatever is drafted, sampled or constrained.

There is no GPU here. `Waits` counts the operations for which torch would wait for one, and `look_ahead`
makes the engine work as it does where waiting costs something.
"""

import sys

import pytest
import torch
from torch.overrides import TorchFunctionMode

from generation import choice
from generation.batches import hide_last, pad_left
from generation.choice import Choice, Place
from generation.constrained import Schema, SchemaGuide
from generation.drafting import Drafter
from generation.engine import GenerationSettings, generate
from generation.sampling import Sampling
from prompt_schema import SFT_TEMPLATES, PromptBuilder
from utils.completions import render_completion
from utils.errors import StageError
from utils.tokens import encode_completion

# Each of these reads a result of the device. `multinomial` checks its input.
READS = ("tolist", "item", "cpu", "numpy", "nonzero", "multinomial", "__bool__", "__int__", "__float__")

# What a schema allows is found in main memory, and a forced token stays there.
IN_MEMORY = ("__int__ in pick", "numpy in allowed")


class Waits(TorchFunctionMode):
    """Notes calls that would wait for a GPU: results that Python reads, blocking copies to the device."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        # A layer of a cache starts with a tensor of no numbers.
        copies = name == "tensor" and kwargs.get("device") is not None and args[0] != []
        # A list as an index is copied, and so is what moves without `non_blocking`.
        by_list = name == "__getitem__" and isinstance(args[1], list)
        moves = name == "to" and torch.device("cuda") in args and not kwargs.get("non_blocking")
        if name in READS or copies or by_list or moves:
            self.calls.append(f"{name} in {sys._getframe(1).f_code.co_name}")
        return func(*args, **kwargs)


class Scripted:
    """A guide that drafts a text, spoiled at every `wrong`-th token."""

    def __init__(self, text, wrong):
        self.text = text
        self.wrong = wrong

    def draft(self, ids):
        coming = self.text[len(ids) : len(ids) + 6]
        return [token if (len(ids) + k + 1) % self.wrong else 3 for k, token in enumerate(coming)]

    def allowed(self, ids):
        return None

    def stop(self, ids):
        return False


def look_ahead(monkeypatch):
    """From here on the engine works as on a device that Python can wait for."""
    monkeypatch.setattr(choice, "is_remote", lambda device: True)


@pytest.fixture(scope="module")
def model(make_model):
    return make_model("llama")


@pytest.fixture(scope="module")
def prompts(tokenizer, samples):
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1500)
    return [builder.build(sample) for sample in samples[:5]]


@pytest.fixture(scope="module")
def schema(tokenizer):
    return Schema(tokenizer)


SAMPLINGS = {"greedy": Sampling(), "warm": Sampling(1.0), "cut": Sampling(0.7, 0.9, 40)}


def run(model, tokenizer, prompts, guide, sampling=SAMPLINGS["greedy"], **options):
    settings = GenerationSettings(
        **{"batch_size": 3, "max_new_tokens": 24, "sampling": sampling, "seeds": range(5), **options}
    )
    found = {}
    for batch in generate(model, tokenizer, [p.suffix for p in prompts], guide, prompts[0].prefix, settings):
        found |= {i: (generated.ids, generated.logps) for i, generated in batch}
    return [found[i] for i in range(len(prompts))]


def schema_guides(schema):
    """Guides whose drafts are partly right: the skeleton of the schema, and citations that may be others."""
    text = render_completion("supported", [0], 0.9)
    drafter = Drafter([encode_completion(schema.tokenizer, text)])
    return lambda i: SchemaGuide(schema, drafter, 4)


@pytest.mark.parametrize("kind", SAMPLINGS)
def test_looking_ahead_along_drafts_changes_no_token(kind, model, tokenizer, prompts, monkeypatch):
    look_ahead(monkeypatch)
    plain = run(model, tokenizer, prompts, lambda i: Scripted([], 9), SAMPLINGS[kind])
    for wrong in (2, 3, 9):
        guides = [Scripted(ids, wrong) for ids, _ in plain]
        found = run(model, tokenizer, prompts, guides.__getitem__, SAMPLINGS[kind])
        assert [ids for ids, _ in found] == [ids for ids, _ in plain]
        for (_, logps), (_, expected) in zip(found, plain):
            assert logps == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("kind", SAMPLINGS)
def test_looking_ahead_within_a_schema_changes_no_token(kind, model, tokenizer, prompts, schema, monkeypatch):
    options = {"sampling": SAMPLINGS[kind], "max_new_tokens": 60}
    step_by_step = run(model, tokenizer, prompts, schema_guides(schema), **options)
    look_ahead(monkeypatch)
    # The passes are the same, so the numbers are too.
    assert run(model, tokenizer, prompts, schema_guides(schema), **options) == step_by_step
    alone = run(model, tokenizer, prompts, schema_guides(schema), **options, batch_size=1)
    assert [ids for ids, _ in alone] == [ids for ids, _ in step_by_step]


@pytest.mark.parametrize("kind", SAMPLINGS)
@pytest.mark.parametrize("within", ["all tokens", "the schema"])
def test_a_pass_waits_for_the_device_once(kind, within, model, tokenizer, prompts, monkeypatch):
    look_ahead(monkeypatch)
    passes = []
    handle = model.register_forward_pre_hook(lambda *_: passes.append(1))
    known = run(model, tokenizer, prompts, lambda i: Scripted([], 9), SAMPLINGS[kind])
    guides = [Scripted(ids, 3) for ids, _ in known]
    guide = schema_guides(Schema(tokenizer)) if within == "the schema" else guides.__getitem__
    passes.clear()
    with Waits() as waits:
        run(model, tokenizer, prompts, guide, SAMPLINGS[kind], batch_size=5)
    handle.remove()
    assert len(passes) > 5
    found = [call for call in waits.calls if call not in IN_MEMORY]
    assert set(found) <= {"tolist in _best", "tolist in fetch"}
    # The pass that reads the prefix is not waited for, nor one whose tokens are all forced. The
    # log-probabilities of a greedy batch come at its end.
    assert len(passes) - 3 <= len(found) <= len(passes)


def pick_alone(logits, allowed, sampling, generator):
    """One place alone: the token at which the sum of the probabilities passes a random number."""
    if allowed is not None:
        logits = logits[allowed]
    logps = logits.float().log_softmax(-1)
    weights = sampling.warpers()(None, logps[None]).softmax(-1)[0]
    number = torch.rand(1, dtype=torch.float64, generator=generator)
    place = int(torch.searchsorted(weights.double().cumsum(-1), number, right=True))
    return (place if allowed is None else int(allowed[place])), float(logps[place])


@pytest.mark.parametrize("sampling", [Sampling(1.0), Sampling(0.7, 0.9, 40), Sampling(1.5, 1.0, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_drawn_together_get_what_each_gets_alone(sampling, dtype, monkeypatch):
    # Few logits at once: the rows are drawn in several parts.
    monkeypatch.setattr(choice, "_MAX_LOGITS", 3000)
    logits = (torch.randn(7, 2, 1000, generator=torch.Generator().manual_seed(0)) * 3).to(dtype)
    some = torch.arange(5, 900, 7)
    for allowed in (None, some):
        mine = [torch.Generator().manual_seed(100 + row) for row in range(7)]
        theirs = [torch.Generator().manual_seed(100 + row) for row in range(7)]
        for _ in range(5):
            places = [Place(row, 1, allowed, mine[row]) for row in range(7)]
            expected = [pick_alone(logits[row, 1], allowed, sampling, theirs[row]) for row in range(7)]
            assert Choice(logits, sampling).pick(places) == expected


def test_allowed_tokens_wait_on_the_device_and_a_forced_one_in_main_memory(tokenizer):
    # `meta` stands in for a GPU: it has a place, and no numbers to read.
    schema = Schema(tokenizer, "meta")
    guide = SchemaGuide(schema, Drafter(), 4)
    opening = guide.draft([])
    assert guide.allowed([]).tolist() == opening[:1]
    word = encode_completion(tokenizer, '{"answer": "so')[len(opening) :]
    first = guide.allowed(opening + word)
    assert first.device.type == "meta" and len(first) > 100
    # Longer answers and other rows share it.
    assert guide.allowed(opening + word * 2) is first
    assert SchemaGuide(schema, Drafter(), 7).allowed(opening + word) is first


def test_a_guide_takes_a_look_ahead_back(schema, tokenizer):
    ids = encode_completion(tokenizer, render_completion("yes", [0], 0.5))
    fresh = [SchemaGuide(schema, Drafter(), 4).allowed(ids[:n]).tolist() for n in range(len(ids))]
    guide = SchemaGuide(schema, Drafter(), 4)
    for n in range(len(ids)):
        # Complete, then broken, then back.
        assert len(guide.allowed(ids)) == 0
        assert len(guide.allowed([*ids[:n], tokenizer.eos_token_id])) == 0
        assert guide.allowed(ids[:n]).tolist() == fresh[n]
        assert not guide.stop(ids[:n])
    assert guide.stop(ids)


@pytest.mark.parametrize("kind", SAMPLINGS)
def test_logits_that_are_no_numbers_end_the_run_in_one_line(kind, make_model, tokenizer, prompts):
    model = make_model("qwen2")
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(StageError, match="not numbers"):
        run(model, tokenizer, prompts, lambda i: Scripted([], 9), SAMPLINGS[kind])


def test_wrong_drafts_are_hidden_row_by_row():
    _, mask = pad_left([[1, 2, 3, 4], [5, 6]], 0, "cpu")
    assert hide_last(mask, [0, 0]) is mask
    assert hide_last(mask, [1, 0]).tolist() == [[1, 1, 1, 0], [0, 0, 1, 1]]
