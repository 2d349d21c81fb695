"""`lora` of train_rm.py: an adapter of the base model that is trained for the reward, before its head is.

The adapter learns with a direction of its own, which is then forgotten: the head is trained on features of
the model with this adapter, as on those of any frozen one. The loss is handed in.
"""

import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import get_cosine_schedule_with_warmup

from models.base import trained_on
from models.folders import header_problem
from models.hardware import choose_dtype
from models.loading import load_tokenizer
from models.manifest import damage, describe_files
from models.memory import release_memory
from models.revisions import base_facts
from preferences.adapter_limits import check_loss, memory_errors
from preferences.adapter_model import trainable
from preferences.adapter_scores import AdapterScorer, PromptPairs, pairs_by_prompt
from preferences.adapter_state import load_state, save_state
from preferences.completion_reader import PromptSource
from preferences.cuts import COMPLETION_TOKENS
from preferences.head_training import PairFacts, pair_facts
from utils.config import home_path, input_path
from utils.jsonl import write_json
from utils.moving import move_folder
from utils.progress import progress
from utils.runs import note

PairLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
_PROGRESS = "progress.safetensors"


def with_adapter(config: dict) -> dict:
    """The config of the head: with `lora`, its base model is the adapter of this run, trained or not yet."""
    if not config["lora"]["r"]:
        return config
    return config | {"base_model": str(Path(config["output_dir"]) / "lora")}


class AdapterTraining:
    """Steps over the prompts of the train pairs, saved every `lora.save_steps` of them.

    `pair_loss` of (scores of chosen, of rejected, margins, weights) is the mean loss of pairs, a scalar.
    """

    def __init__(
        self, config: dict, prompts: list[PromptPairs], facts: PairFacts, scorer: AdapterScorer, folder: Path
    ):
        self.lora = config["lora"]
        self.seed = config["seed"]
        self.prompts = prompts
        self.facts = facts
        self.scorer = scorer
        self.path = folder / _PROGRESS
        self.steps_per_epoch = -(-len(prompts) // self.lora["batch_size"])
        self.n_steps = self.steps_per_epoch * self.lora["num_epochs"]
        self.optimizer = torch.optim.AdamW(
            scorer.parameters(), lr=self.lora["learning_rate"], weight_decay=config["weight_decay"]
        )
        # The first step of a warmup has a rate of 0, so that a run of one step would learn nothing.
        n_warmup = min(math.ceil(self.n_steps * config["warmup_ratio"]), self.n_steps - 1)
        self.schedule = get_cosine_schedule_with_warmup(self.optimizer, n_warmup, self.n_steps)
        self.dtype = choose_dtype()
        # In float16 small gradients would become zero; elsewhere it does nothing.
        is_half = self.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(scorer.model.device.type, enabled=is_half)
        self.step = 0
        # Of each step: its mean loss, and the share of its pairs that it ranks right before it learns them.
        self.history: dict[str, list[float]] = {"losses": [], "accuracies": []}

    def save(self) -> None:
        """Write all that the next step depends on."""
        facts = {"step": self.step, "history": self.history, "scaler": self.scaler.state_dict()}
        save_state(self.path, self.scorer.parameters(), self.optimizer, self.schedule, facts)

    def resume(self) -> None:
        """Go on behind the last saved step, if there is one."""
        if not self.path.is_file():
            return
        if problem := header_problem(self.path):
            note(f"{self.path}: {problem.partition(';')[0]}, so the adapter is trained from its first step")
            return
        facts = load_state(self.path, self.scorer.parameters(), self.optimizer, self.schedule)
        self.history = facts["history"]
        self.step = facts["step"]
        # States of earlier versions have none.
        if facts.get("scaler"):
            self.scaler.load_state_dict(facts["scaler"])
        note(f"lora: going on behind step {self.step} of {self.n_steps}")

    def _batch(self, step: int) -> list[PromptPairs]:
        epoch, place = divmod(step, self.steps_per_epoch)
        order = list(self.prompts)
        random.Random(f"{self.seed}:{epoch}").shuffle(order)
        start = place * self.lora["batch_size"]
        return order[start : start + self.lora["batch_size"]]

    def run(self, pair_loss: PairLoss, logging_steps: int) -> None:
        """All steps that are left."""
        with progress(self.n_steps, "training the adapter", "step", initial=self.step) as bar:
            while self.step < self.n_steps:
                self._take_step(pair_loss)
                bar.update(1)
                if self.step % logging_steps == 0:
                    loss = sum(self.history["losses"][-logging_steps:]) / logging_steps
                    right = sum(self.history["accuracies"][-logging_steps:]) / logging_steps
                    note(f"lora: step {self.step}/{self.n_steps}: loss {loss:.4f}, ranked right {right:.3f}")
                if self.step % self.lora["save_steps"] == 0 or self.step == self.n_steps:
                    self.save()

    def _take_step(self, pair_loss: PairLoss) -> None:
        # For dropout: a resumed step draws what it would have drawn.
        torch.manual_seed(self.seed + self.step)
        batch = self._batch(self.step)
        n_pairs = sum(len(prompt.rows) for prompt in batch)
        device = self.scorer.model.device
        total = 0.0
        n_right = 0
        for prompt in batch:
            with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
                scores = self.scorer.scores(prompt.prompt, prompt.completions)
            chosen = scores[prompt.chosen]
            rejected = scores[prompt.rejected]
            margins = self.facts.margins[prompt.rows].to(device)
            weights = self.facts.weights[prompt.rows].to(device)
            # One prompt after another, as memory allows; together they are the mean over the step's pairs.
            loss = pair_loss(chosen, rejected, margins, weights) * len(prompt.rows) / n_pairs
            self.scaler.scale(loss).backward()
            total += loss.item()
            n_right += int((chosen > rejected).sum())
        check_loss(total, self.step + 1, self.dtype)
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.scorer.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.schedule.step()
        self.step += 1
        self.history["losses"].append(total)
        self.history["accuracies"].append(n_right / n_pairs)


def train_adapter(
    config: dict,
    preferences: list[dict],
    train_rows: list[int],
    prompts: PromptSource,
    pair_loss: PairLoss,
) -> Path:
    """Train and write the adapter of a run, unless it is there; returns its folder, a model to be read.

    The folder is complete or absent. An interrupted training goes on behind its last saved step.
    """
    folder = home_path(with_adapter(config)["base_model"])
    if folder.is_dir() and (problem := damage(folder)):
        note(f"lora: the trained adapter in {folder} cannot be used ({problem}), so it is trained again")
        shutil.rmtree(folder)
    if folder.is_dir():
        # A kill right behind the renaming left it.
        (folder / _PROGRESS).unlink(missing_ok=True)
        note(f"lora: found the trained adapter in {folder}")
        return folder
    partial = folder.with_name(f".{folder.name}.partial")
    name = config["base_model"]
    tokenizer = load_tokenizer(name, config["trust_remote_code"], config["max_seq_length"])
    builder = prompts.builder(tokenizer, max_tokens=config["max_seq_length"] - COMPLETION_TOKENS)
    torch.manual_seed(config["seed"])
    model = trainable(config)
    scorer = AdapterScorer(model, tokenizer.pad_token_id)
    pairs = pairs_by_prompt(preferences, train_rows, tokenizer, builder)
    # Penalties are no part of the loss.
    facts = pair_facts(preferences, np.zeros(2 * len(preferences)), config)
    training = AdapterTraining(config, pairs, facts, scorer, partial)
    training.resume()
    with memory_errors(config):
        training.run(pair_loss, config["logging_steps"])
    # The embeddings are those of the base; PEFT would look for its config at the path of the YAML.
    model.save_pretrained(partial, save_embedding_layers=False)
    tokenizer.save_pretrained(partial)
    # PEFT writes a card that says nothing.
    (partial / "README.md").unlink(missing_ok=True)
    write_json(partial / "training_history.json", training.history)
    files = describe_files(path for path in partial.iterdir() if path.is_file() and path.name != _PROGRESS)
    write_json(partial / "run.json", _base_facts(config) | files | {"status": "complete"})
    move_folder(partial, folder)
    (folder / _PROGRESS).unlink()
    del model, scorer, training
    release_memory()
    return folder


def _base_facts(config: dict) -> dict:
    """By which the base of the adapter is known again. An adapter that was trained further has its own."""
    name = config["base_model"]
    base = trained_on(input_path(name))
    if base is None:
        return base_facts(name)
    return {"base_model": base.name, "base_revision": base.revision, "base_weights": base.weights}
