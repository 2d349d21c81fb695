"""The checkpoints of a policy: the best is the model before the first step until a later one beats it.

It compares metrics of generated val answers, and knows nothing about how the policy is trained.
"""

from training.checkpoints import RunFiles
from training.sft_config import LOSS
from utils.own_files import CHECKPOINT
from utils.runs import note
from utils.shapes import read_shaped

# Metric -> the key of the YAML's `keep` block that says by how much it may fall.
_KEPT = {"eval_em_answerable": "max_em_drop", "eval_answered_rate": "max_answered_drop"}


class PolicyFiles(RunFiles):
    """`keep`: by how much EM and the answered share may fall from what they were before the first step."""

    keep: dict[str, float] = {}

    def is_better(self, value: float) -> bool:
        """As of SFT, but never for a checkpoint that answers fewer questions, or fewer of them right."""
        return super().is_better(value) and not self.lost()

    def _start(self) -> dict:
        """The first evaluation of the run, which is that of the model before its first step."""
        logs = [log for log in self.trainer.state.log_history if LOSS in log]
        return logs[0] if logs else {}

    def lost(self) -> list[str]:
        """What the last evaluation lost by more than `keep` allows, in words."""
        start = self._start()
        measured = self.measured(self.trainer.state.global_step)
        found = []
        for metric, key in _KEPT.items():
            before = start.get(metric)
            now = measured.get(metric)
            # Without answerable samples there is no EM to lose.
            if before is not None and now is not None and now < before - self.keep[key] - 1e-9:
                found.append(f"{metric} {now:.3f} after {before:.3f} (keep.{key}: {self.keep[key]})")
        return found

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        control = super().on_evaluate(args, state, control, metrics=metrics, **kwargs)
        for loss in self.lost():
            self._note(f"step {state.global_step} is not kept: {loss}")
        return control

    def verdict(self) -> dict:
        """What is said of a finished round: the step of checkpoint-best, and whether the round is kept."""
        wanted = {**CHECKPOINT, "step": int, self.metric: float}
        best = read_shaped(self.output_dir / "checkpoint-best" / "run.json", wanted)
        start = {name: value for name, value in self._start().items() if name.startswith("eval_")}
        is_kept = best["step"] > 0
        if is_kept:
            gain = best[self.metric] - start[self.metric]
            note(f"round kept: {self.metric} on val {gain:+.4f} at step {best['step']}")
        else:
            note(
                f"round not kept: no step had a better {self.metric} on val with as many answers, as many of "
                "them right; checkpoint-best is the SFT model as it was"
            )
        return {"kept": is_kept, "best_step": best["step"], "before": start}
