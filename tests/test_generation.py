import pytest
import torch

from prompt_schema import SFT_TEMPLATES, PromptBuilder
from utils.generation import Sampling, generate, json_object_end, pad_left, plan_batches
from utils.scoring import completion_features, last_logits


def never(ids):
    return False


def run(model, tokenizer, prompts, **options):
    found = {}
    for batch in generate(model, tokenizer, [p.suffix for p in prompts], prefix=prompts[0].prefix, max_new_tokens=12, stop=never, **options):
        found |= dict(batch)
    return found


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma2"])
def test_greedy_tokens_equal_plain_generate(kind, make_model, tokenizer, samples):
    model = make_model(kind)
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1500)
    prompts = [builder.build(sample) for sample in samples[:9]]
    found = run(model, tokenizer, prompts, batch_size=4)
    assert sorted(found) == list(range(9))
    for i, prompt in enumerate(prompts):
        ids = torch.tensor([prompt.ids])
        plain = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)[0, len(prompt.ids) :].tolist()
        assert found[i].ids == [token for token in plain if token != tokenizer.eos_token_id]
        scores = model(ids).logits[0, -1].log_softmax(-1)
        assert found[i].logps[0] == pytest.approx(scores.max().item(), abs=1e-3)


def test_long_prompts_of_a_sliding_window_model_stay_exact(make_model, tokenizer, samples):
    # 512 is the window: prefix, padding and suffix together pass it, so the prefix is not shared here.
    model = make_model("gemma2")
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1500)
    longer = [{**s, "evidence_chunks": s["evidence_chunks"] * k} for s, k in zip(samples[:2], (1, 4))]
    prompts = [builder.build(sample) for sample in longer]
    assert max(len(p.ids) for p in prompts) > 512
    found = run(model, tokenizer, prompts, batch_size=2)
    for i, prompt in enumerate(prompts):
        ids = torch.tensor([prompt.ids])
        plain = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)[0, len(prompt.ids) :].tolist()
        assert found[i].ids == [token for token in plain if token != tokenizer.eos_token_id]


def test_sampling_repeats_with_its_seed_and_varies_without(make_model, tokenizer, samples):
    model = make_model("llama")
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1500)
    prompts = [builder.build(sample) for sample in samples[:4]]
    draws = [[g.ids for _, g in sorted(run(model, tokenizer, prompts, batch_size=4, sampling=Sampling(1.0, 0.95, 50, seed)).items())] for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_generation_stops_at_the_end_of_the_object(tokenizer):
    stop = json_object_end(tokenizer)

    def ids(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    assert stop(ids('{"answer": "a } b", "citations": [0]}'))
    assert not stop(ids('{"answer": "a }'))
    assert not stop(ids('{"answer": "quoted \\" }'))
    assert not stop(ids("prose } without an object"))
    assert not stop(ids('{"a": {"b": 1}'))


def test_batches_are_sorted_by_length_and_complete():
    batches = plan_batches([5, 9, 1, 7, 3], 2)
    assert batches == [[1, 3], [0, 4], [2]]


def test_buckets_set_the_width():
    ids, mask = pad_left([[1, 2, 3], [4]], 0, "cpu", buckets=(2, 8, 16))
    assert ids.shape == (2, 8) and ids[1].tolist() == [0] * 7 + [4] and mask.sum().item() == 4
    assert pad_left([[1] * 20], 0, "cpu", buckets=(8, 16))[0].shape == (1, 20)


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_features_are_the_hidden_state_of_the_last_token_and_its_log_probability(kind, make_model, tokenizer):
    model = make_model(kind)
    prefix, suffixes = [2, 10, 11, 12], [[20, 21], [22, 23, 24, 25]]
    completions = [[30, 31, 32, 1], [33, 1]]
    found = {}
    for batch in completion_features(model, prefix, suffixes, completions, 0, batch_size=2):
        found |= {i: (hidden, logp) for i, hidden, logp in batch}
    for i in range(2):
        ids = torch.tensor([prefix + suffixes[i] + completions[i]])
        with torch.no_grad():
            output = model(ids, output_hidden_states=True)
        n = len(completions[i])
        logps = output.logits[0, -n - 1 : -1].log_softmax(-1)[range(n), completions[i]]
        assert torch.allclose(found[i][0], output.hidden_states[-1][0, -1], atol=1e-4)
        assert found[i][1] == pytest.approx(logps.mean().item(), abs=1e-4)


def test_label_logits_do_not_depend_on_the_batch(make_model):
    model, prompts = make_model("llama"), [[2, 5, 6], [2, 7, 8, 9, 10], [2, 11]]
    together = {i: logps for batch in last_logits(model, prompts, 0, 3) for i, logps in batch}
    alone = {i: logps for batch in last_logits(model, prompts, 0, 1) for i, logps in batch}
    assert all(torch.allclose(together[i], alone[i], atol=1e-4) for i in range(3))
