"""Reading a model without decoding: probabilities of label tokens, and features of given completions."""

from collections.abc import Iterator

import torch

from utils.generation import expand_cache, last_positions, pad_left, plan_batches, prefix_cache


@torch.inference_mode()
def last_logits(model, prompts: list[list[int]], pad_id: int, batch_size: int) -> Iterator[list[tuple[int, torch.Tensor]]]:
    """Batches of (index, log-probabilities of the next token, (vocab,), float32 on CPU)."""
    for batch in plan_batches([len(prompt) for prompt in prompts], batch_size):
        ids, mask = pad_left([prompts[i] for i in batch], pad_id, model.device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=last_positions(ids, 1)).logits
        yield list(zip(batch, logits[:, -1].float().log_softmax(-1).cpu()))


@torch.inference_mode()
def completion_features(
    model, prefix: list[int], suffixes: list[list[int]], completions: list[list[int]], pad_id: int, batch_size: int
) -> Iterator[list[tuple[int, torch.Tensor, float]]]:
    """Batches of (index, hidden state of the last completion token (hidden,), mean log-probability of the completion tokens).

    Rows are `[prefix][pad][suffix][completion]`; the prefix is computed once. The hidden state is what the output layer reads.
    """
    seen = {}
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda module, inputs: seen.update(hidden=inputs[0]))
    cache = prefix_cache(model, prefix)
    rows = [suffix + completion for suffix, completion in zip(suffixes, completions)]
    try:
        for batch in plan_batches([len(row) for row in rows], batch_size):
            ids, mask = pad_left([rows[i] for i in batch], pad_id, model.device)
            n_kept = max(len(completions[i]) for i in batch) + 1
            mask = torch.cat([mask.new_ones(len(batch), len(prefix)), mask], dim=1)
            positions = (mask.cumsum(1) - 1).clamp(min=0)[:, len(prefix) :]
            past = expand_cache(model, cache, len(batch))
            kept = last_positions(ids, n_kept)
            logits = model(  # (batch, n_kept, vocab)
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=past, use_cache=True, logits_to_keep=kept
            ).logits
            targets = ids[:, -(n_kept - 1) :]
            logps = logits[:, :-1].float().log_softmax(-1).gather(-1, targets[..., None])[..., 0]
            means = [float(logps[row, -len(completions[i]) :].mean()) for row, i in enumerate(batch)]
            # Left padding: the last position of every row is the last completion token.
            yield list(zip(batch, seen["hidden"][:, -1].float().cpu(), means))
    finally:
        hook.remove()
