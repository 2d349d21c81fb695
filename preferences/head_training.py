"""A reward head while it is trained: what it learns from, what was measured, and where it is saved.

The loss is handed in. This module knows nothing about penalties but their sums.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from preferences.pairs import pair_metrics
from preferences.reward import RewardHead, head_config, rewards, save_head, score_scale
from utils.pair_rules import kind_of
from utils.public import public_value


@dataclass(frozen=True)
class PairFacts:
    """What the loss and the metrics know of each pair: its margin and weight (n_pairs,), and its kind.

    `penalty_sums` (2 n_pairs,) are the weighted penalties of its completions, which alternate.
    """

    margins: torch.Tensor
    weights: torch.Tensor
    kinds: list[str]
    penalty_sums: np.ndarray


def kinds_of(preferences: list[dict]) -> list[str]:
    """The kind of each pair; those of older files and of other programs have none."""
    return [kind_of(row) for row in preferences]


def balanced_weights(preferences: list[dict], balanced: list[str]) -> np.ndarray:
    """Weights of pairs, (n_pairs,), whose mean is 1.

    With "group" in `balanced` all groups weigh alike, however many pairs they have; with "kind" behind it so
    do all kinds.
    """
    weights = np.ones(len(preferences))
    names = {"group": [row["group"] for row in preferences], "kind": kinds_of(preferences)}
    for name in balanced:
        sums: dict[str, float] = {}
        for of_row, weight in zip(names[name], weights):
            sums[of_row] = sums.get(of_row, 0.0) + weight
        weights /= [sums[of_row] for of_row in names[name]]
    return weights / weights.mean()


def pair_facts(preferences: list[dict], penalty_sums: np.ndarray, config: dict) -> PairFacts:
    """The facts of preference rows."""
    margins = config["margin_scale"] * np.array([row["margin"] for row in preferences])
    return PairFacts(
        torch.tensor(margins, dtype=torch.float32),
        torch.tensor(balanced_weights(preferences, config["pair_weights"]), dtype=torch.float32),
        kinds_of(preferences),
        penalty_sums,
    )


def macro_metrics(chosen: np.ndarray, rejected: np.ndarray, kinds: list[str]) -> dict[str, float]:
    """The means over kinds of `pair_metrics`, so that a rare kind counts as much as a frequent one."""
    names = sorted(set(kinds))
    sums: Counter[str] = Counter()
    for kind in names:
        places = [i for i, of_pair in enumerate(kinds) if of_pair == kind]
        sums.update(pair_metrics(chosen[places], rejected[places]))
    return {name: total / len(names) for name, total in sums.items()}


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within it, torch computes on one thread: in steps of microseconds, threads wait for each other."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


class HeadTraining:
    """`pair_loss` of (scores of chosen, of rejected, margins, weights) is the loss of pairs, a scalar."""

    def __init__(
        self,
        config: dict,
        features: torch.Tensor,
        pairs: PairFacts,
        split: dict,
        output_dir: Path,
        pair_loss: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    ):
        self.config = config
        # Completions alternate. Both (n_pairs, hidden).
        self.chosen = features[0::2]
        self.rejected = features[1::2]
        self.pairs = pairs
        self.train_rows = torch.tensor(split["train"])
        self.val_rows = split["val"]
        self.output_dir = output_dir
        self.pair_loss = pair_loss
        self.pooled = torch.cat([self.chosen[self.train_rows], self.rejected[self.train_rows]])
        self.head = RewardHead(features.shape[1], config["head_width"])
        self.head.mean = self.pooled.mean(0)
        # A feature that never varies would divide by zero.
        self.head.std = self.pooled.std(0).clamp(min=1e-6)
        # Of each step: the loss, and beside it the learning rate and the norm of the gradient.
        self.history: dict = {"train_losses": [], "learning_rates": [], "grad_norms": [], "eval_metrics": []}
        self.history["config"] = public_value(config)
        # The loss on val of a head that scores both sides alike: log 2 where no margin is asked for.
        alike = torch.zeros(len(self.val_rows))
        of_val = (pairs.margins[self.val_rows], pairs.weights[self.val_rows])
        self.history["chance_loss"] = float(pair_loss(alike, alike, *of_val))
        self.best = (-1.0, 0.0)

    def loss(self, rows: torch.Tensor | list[int]) -> torch.Tensor:
        """Mean loss of these pairs, a scalar."""
        # Penalties stay out of it: they have no weights to train.
        scores = (self.head(self.chosen[rows]), self.head(self.rejected[rows]))
        return self.pair_loss(*scores, self.pairs.margins[rows], self.pairs.weights[rows])

    def record(self, loss: float, learning_rate: float) -> None:
        """Keep what a step did, before the next one changes the gradient."""
        gradients = [weight.grad.norm() for weight in self.head.parameters() if weight.grad is not None]
        self.history["train_losses"].append(loss)
        self.history["learning_rates"].append(learning_rate)
        self.history["grad_norms"].append(float(torch.stack(gradients).norm()) if gradients else None)

    def save(self, name: str, metrics: dict) -> None:
        """Save the head with the scale of its scores as it is now."""
        scale = score_scale(self.head, self.pooled)
        save_head(self.output_dir / name, self.head, head_config(self.config, scale, metrics))

    def evaluate(self, step: int, epoch: float) -> None:
        """Measure the head on the val pairs; the best is saved as best/.

        By ROC-AUC, kinds of pairs weighing alike, then by loss.
        """
        with torch.no_grad():
            loss = float(self.loss(self.val_rows))
        scale = score_scale(self.head, self.pooled)
        rows = self.val_rows
        chosen = rewards(self.head, self.chosen[rows], self.pairs.penalty_sums[0::2][rows], scale)
        rejected = rewards(self.head, self.rejected[rows], self.pairs.penalty_sums[1::2][rows], scale)
        kinds = [self.pairs.kinds[i] for i in rows]
        macro = {f"macro_{name}": value for name, value in macro_metrics(chosen, rejected, kinds).items()}
        metrics = {"step": step, "epoch": round(epoch, 3), "loss": loss}
        metrics |= pair_metrics(chosen, rejected) | macro
        self.history["eval_metrics"].append(metrics)
        if (metrics["macro_roc_auc"], -loss) > self.best:
            self.best = (metrics["macro_roc_auc"], -loss)
            self.save("best", metrics)
