"""Time, tokens per second and memory of a generation run: what the facts of its results say of it."""

import time
from collections.abc import Hashable, Mapping
from typing import Any

from models.peak_memory import peak_memory_gb


class Throughput:
    """Counts the prompts that a run is given and the rows of `predict`, from the moment it is made."""

    def __init__(self, prompts: Mapping[Hashable, Any], n_processes: int = 1):
        self.prompts = prompts
        self.n_processes = n_processes
        self.started = time.monotonic()
        self.n_rows = 0
        self.n_new_tokens = 0
        self.n_prompt_tokens = 0

    def add(self, rows: list[dict]) -> None:
        self.n_rows += len(rows)
        self.n_new_tokens += sum(row["n_tokens"] for row in rows)
        self.n_prompt_tokens += sum(len(self.prompts[row["id"]].ids) for row in rows)

    def facts(self) -> dict[str, float | None]:
        """Seconds, throughput and peak memory of this process, which is one of `processes`.

        `tokens_per_second`: prompts and completions. The prompt of each row counts as a whole, also where
        rows share its reading.
        """
        seconds = max(time.monotonic() - self.started, 1e-9)
        return {
            "seconds": round(seconds, 1),
            "samples_per_second": round(self.n_rows / seconds, 3),
            "tokens_per_second": round((self.n_prompt_tokens + self.n_new_tokens) / seconds, 1),
            "prompt_tokens": self.n_prompt_tokens,
            "new_tokens": self.n_new_tokens,
            "n_generated": self.n_rows,
            "processes": self.n_processes,
            "peak_memory_gb": peak_memory_gb(),
        }
