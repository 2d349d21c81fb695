"""A LoRA checkpoint folded into its base: one bfloat16 model in safetensors, written only when its logits agree."""

import shutil
from pathlib import Path

import torch
from peft import PeftModel

from models.loading import LoadOptions, load_model
from training.checkpoints import mark_whole
from utils.errors import StageError, UsageError

# In float32 folding changes the order of additions alone; larger differences mean that something else changed.
MAX_LOGIT_GAP = 1e-2


@torch.inference_mode()
def last_logits(model, prompts: list[list[int]]) -> torch.Tensor:
    """Logits of the next token after each prompt, (n_prompts, vocab), float32 on CPU."""
    return torch.cat(
        [
            model(input_ids=torch.tensor([ids], device=model.device), logits_to_keep=1)
            .logits[:, -1]
            .float()
            .cpu()
            for ids in prompts
        ]
    )


def merge_checkpoint(
    checkpoint: Path, target: Path, tokenizer, prompts: list[list[int]], facts: dict, trust_remote_code: bool
) -> dict[str, float]:
    """Write the merged model to `target`. Returns the largest logit gap in float32, and the share of equal next tokens in bfloat16.

    StageError when the float32 logits differ by more than `MAX_LOGIT_GAP`; nothing is written then.
    """
    if target.exists() and any(target.iterdir()):
        raise UsageError(f"--merge {target}: the directory is not empty; name a new one")
    try:
        model = load_model(str(checkpoint), LoadOptions(bf16=False, trust_remote_code=trust_remote_code))
    except torch.OutOfMemoryError as error:
        remedy = "put CUDA_VISIBLE_DEVICES= before the command to merge in main memory"
        raise StageError(f"--merge: {checkpoint} does not fit the GPU in float32; {remedy}") from error
    if not isinstance(model, PeftModel):
        raise UsageError(f"{checkpoint}: holds a full model, there is nothing to merge")
    expected = last_logits(model, prompts)
    model = model.merge_and_unload()
    gap = (last_logits(model, prompts) - expected).abs().max().item()
    if gap > MAX_LOGIT_GAP:
        raise StageError(
            f"--merge: logits of the merged model differ by {gap:.3g} in float32 (at most {MAX_LOGIT_GAP}); nothing was written"
        )
    model = model.to(torch.bfloat16)
    agreement = (last_logits(model, prompts).argmax(-1) == expected.argmax(-1)).float().mean().item()
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    figures = {"n_prompts": len(prompts), "max_logit_gap_float32": gap, "same_next_token_bfloat16": agreement}
    mark_whole(partial, {**facts, "merged_from": str(checkpoint), "merge": figures})
    partial.rename(target)
    return figures
