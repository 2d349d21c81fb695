"""A reward head while it is trained: what it learns from, what was measured, and where it is saved.

The loss is handed in. This module knows nothing about penalties but their sums.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from preferences.pairs import pair_metrics
from preferences.reward import RewardHead, head_config, rewards, save_head, score_scale


class HeadTraining:
    """`pair_loss` of (scores of chosen, scores of rejected) is the mean loss of pairs, a scalar."""

    def __init__(
        self,
        config: dict,
        features: torch.Tensor,
        penalty_sums: np.ndarray,
        split: dict,
        output_dir: Path,
        pair_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ):
        self.config = config
        # Completions alternate. Both (n_pairs, hidden).
        self.chosen = features[0::2]
        self.rejected = features[1::2]
        self.penalty_sums = penalty_sums
        self.train_rows = torch.tensor(split["train"])
        self.val_rows = split["val"]
        self.output_dir = output_dir
        self.pair_loss = pair_loss
        self.pooled = torch.cat([self.chosen[self.train_rows], self.rejected[self.train_rows]])
        self.head = RewardHead(features.shape[1])
        self.head.mean = self.pooled.mean(0)
        # A feature that never varies would divide by zero.
        self.head.std = self.pooled.std(0).clamp(min=1e-6)
        # Of each step: the loss, and beside it the learning rate and the norm of the gradient.
        self.history: dict = {"train_losses": [], "learning_rates": [], "grad_norms": [], "eval_metrics": []}
        self.history["config"] = config
        self.best = (-1.0, 0.0)

    def loss(self, rows: torch.Tensor | list[int]) -> torch.Tensor:
        """Mean loss of these pairs, a scalar."""
        # Penalties stay out of it: they have no weights to train.
        return self.pair_loss(self.head(self.chosen[rows]), self.head(self.rejected[rows]))

    def record(self, loss: float, learning_rate: float) -> None:
        """Keep what a step did, before the next one changes the gradient."""
        gradient = self.head.linear.weight.grad
        self.history["train_losses"].append(loss)
        self.history["learning_rates"].append(learning_rate)
        self.history["grad_norms"].append(float(gradient.norm()) if gradient is not None else None)

    def save(self, name: str, metrics: dict) -> None:
        """Save the head with the scale of its scores as it is now."""
        scale = score_scale(self.head, self.pooled)
        save_head(self.output_dir / name, self.head, head_config(self.config, scale, metrics))

    def evaluate(self, step: int, epoch: float) -> None:
        """Measure the head on the val pairs; the best by ROC-AUC, then by loss, is saved as best/."""
        with torch.no_grad():
            loss = float(self.loss(self.val_rows))
        scale = score_scale(self.head, self.pooled)
        rows = self.val_rows
        chosen = rewards(self.head, self.chosen[rows], self.penalty_sums[0::2][rows], scale)
        rejected = rewards(self.head, self.rejected[rows], self.penalty_sums[1::2][rows], scale)
        metrics = {"step": step, "epoch": round(epoch, 3), "loss": loss, **pair_metrics(chosen, rejected)}
        self.history["eval_metrics"].append(metrics)
        if (metrics["roc_auc"], -loss) > self.best:
            self.best = (metrics["roc_auc"], -loss)
            self.save("best", metrics)
