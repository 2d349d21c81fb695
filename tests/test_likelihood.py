"""Reading without decoding: shared beginnings save passes and change no probability and no feature."""

import pytest
import torch

from generation.likelihood import next_token_logps
from generation.readings import Texts, read_completions

KINDS = ["llama", "qwen2", "gemma2"]
# Two groups with long common beginnings and one prompt alone; all five share two tokens.
PROMPTS = [
    [2, 5, 6, 7, 20, 21],
    [2, 5, 6, 7, 22],
    [2, 5, 9, 30, 31, 32, 33, 40],
    [2, 5, 9, 30, 31, 32, 33, 41, 42],
    [2, 5, 50],
]


def collect(batches):
    found = {}
    for batch in batches:
        found |= dict(batch)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("groups", [None, [0, 0, 1, 1, 2]])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_label_logits_are_those_of_each_prompt_alone(kind, groups, batch_size, make_model):
    model = make_model(kind)
    found = collect(next_token_logps(model, PROMPTS, 0, batch_size, groups))
    for i, prompt in enumerate(PROMPTS):
        with torch.no_grad():
            alone = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        assert torch.allclose(found[i], alone, atol=1e-4)


def test_both_orders_of_a_comparison_read_their_evidence_once(make_model):
    model = make_model("llama")
    n_read = []
    evidence = list(range(3, 203))
    prompts = [
        [2, *evidence, 300, 301],
        [2, *evidence, 301, 300],
        [2, *reversed(evidence), 300, 301],
        [2, *reversed(evidence), 301, 300],
    ]
    handle = model.register_forward_pre_hook(
        lambda module, args, kw: n_read.append(kw["input_ids"].numel()), with_kwargs=True
    )
    list(next_token_logps(model, prompts, 0, 4, [0, 0, 1, 1]))
    handle.remove()
    # Four prompts of 203 tokens, but each of the two beginnings counts once.
    assert sum(n_read) < 2 * len(evidence) + 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_reading_has_hidden_states_and_log_probabilities_of_all_tokens(kind, batch_size, make_model):
    # Completions of different lengths share a suffix, and one is nothing but the end of the text.
    model = make_model(kind)
    prefix = [2, 10, 11, 12]
    suffixes = [[20, 21], [20, 21], [22, 23, 24, 25], [22, 23, 24, 25], [26]]
    completions = [[30, 31, 32, 1], [33, 1], [30, 1], [30, 34, 35, 36, 1], [1]]
    found = {}
    for batch in read_completions(model, Texts(prefix, suffixes, completions), 0, batch_size):
        found |= dict(batch)
    for i, (suffix, completion) in enumerate(zip(suffixes, completions)):
        with torch.no_grad():
            output = model(torch.tensor([prefix + suffix + completion]), output_hidden_states=True)
        n = len(completion)
        logps = output.logits[0, -n - 1 : -1].log_softmax(-1)[range(n), completion]
        assert torch.allclose(found[i].hidden[0], output.hidden_states[-1][0, -n:], atol=1e-4)
        assert torch.allclose(found[i].logps, logps, atol=1e-4)


def test_texts_longer_than_a_sliding_window_are_read_whole(make_model):
    # 512 is the window: a cached beginning with padding behind it would lose positions that the prompt still
    # sees.
    model = make_model("gemma2")
    ids = [3 + (7 * k) % 400 for k in range(600)]
    prompts = [[2, *ids], [2, *ids[:590]]]
    found = collect(next_token_logps(model, prompts, 0, 2, [0, 0]))
    for i, prompt in enumerate(prompts):
        with torch.no_grad():
            assert torch.allclose(
                found[i], model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1), atol=1e-4
            )


def test_texts_of_half_a_sliding_window_and_more_share_their_beginning(make_model):
    # 400 shared tokens and ends of up to 60: all columns fit the window of 512.
    model = make_model("gemma2")
    shared = [2, *(3 + (7 * k) % 400 for k in range(400))]
    suffixes = [shared, shared, shared, shared[:380]]
    completions = [[30] * 60 + [1], [31, 1], [32, 33, 34, 1], [35, 36, 1]]
    n_read = []
    handle = model.register_forward_pre_hook(
        lambda module, args, kw: n_read.append(kw["input_ids"].numel()), with_kwargs=True
    )
    found = collect(read_completions(model, Texts([], suffixes, completions), 0, 4))
    handle.remove()

    for i, (suffix, completion) in enumerate(zip(suffixes, completions)):
        n = len(completion)
        with torch.no_grad():
            logits = model(torch.tensor([suffix + completion])).logits
        logps = logits[0, -n - 1 : -1].log_softmax(-1)[range(n), completion]
        assert torch.allclose(found[i].logps, logps, atol=1e-4)
    # What all share once (379 tokens), the rest of two prompts, and four ends as wide as the longest.
    assert sum(n_read) < 380 + 2 * 23 + 4 * 63
