"""Several processes under `accelerate launch`: work split by sample, streamed to disk by each, merged in input order."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from tqdm.auto import tqdm

from utils.errors import StageError
from utils.jsonl import append_jsonl, read_appended, sha256_value, write_jsonl


class Shards:
    """This process among those of the launch; alone without one."""

    def __init__(self):
        self.rank = int(os.environ.get("RANK", 0))
        self.n_processes = int(os.environ.get("WORLD_SIZE", 1))
        self.is_main = self.rank == 0
        if self.n_processes > 1:
            # The first to finish waits for the last; the default of half an hour would end a long run.
            self._state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))

    def mine(self, items: list) -> list:
        """This process's share: every n-th item, so that all have equally many and equally long ones."""
        return items[self.rank :: self.n_processes]

    def share(self, value):
        """The first process's value, in all of them."""
        return broadcast_object_list([value])[0] if self.n_processes > 1 else value

    def decide(self, choose: Callable):
        """`choose()` called by the first process alone; every process gets its value, or the StageError that it raised."""
        answer = None
        if self.is_main:
            try:
                answer = choose()
            except StageError as error:
                answer = error
        answer = self.share(answer)
        if isinstance(answer, StageError):
            raise answer
        return answer

    def gather(self, items: list) -> list:
        """The items of all processes, in all of them."""
        return gather_object(items) if self.n_processes > 1 else items

    def wait(self) -> None:
        if self.n_processes > 1:
            self._state.wait_for_everyone()


def progress(total: int, what: str, unit: str) -> tqdm:
    """A bar with rate and time left, of the first process alone and only in a terminal or notebook."""
    n_processes = int(os.environ.get("WORLD_SIZE", 1))
    share = f" (process 1 of {n_processes})" if n_processes > 1 else ""
    return tqdm(
        total=total, desc=what + share, unit=unit, disable=True if int(os.environ.get("RANK", 0)) else None
    )


class ShardLog:
    """Rows that reach the disk batch by batch, in one hidden file a process beside `path`; `finish` makes `path` of them.

    A rerun with the same settings, on however many processes, goes on after the last whole row.
    """

    def __init__(self, path: Path, settings: dict, shards: Shards):
        self.path = path
        self.shards = shards
        self.signature = {"settings": sha256_value(settings)}
        self.own = self._partial(shards.rank)
        if read_appended(self.own)[:1] != [self.signature]:
            self.own.unlink(missing_ok=True)
            append_jsonl(self.own, [self.signature])
        shards.wait()

    def _partial(self, rank: int | str) -> Path:
        return self.path.with_name(f".{self.path.stem}.partial-{rank}.jsonl")

    def rows(self) -> list[dict]:
        """Rows of all processes so far."""
        found = [read_appended(path) for path in sorted(self.path.parent.glob(self._partial("*").name))]
        return [row for rows in found if rows[:1] == [self.signature] for row in rows[1:]]

    def add(self, rows: list[dict]) -> None:
        append_jsonl(self.own, rows)

    def finish(self, order: Callable[[dict], tuple]) -> list[dict]:
        """All rows in order, written to `path` by the first process; every process waits until they are."""
        self.shards.wait()
        rows = sorted(self.rows(), key=order)
        self.shards.wait()
        if self.shards.is_main:
            write_jsonl(self.path, rows)
            for path in self.path.parent.glob(self._partial("*").name):
                path.unlink()
        self.shards.wait()
        return rows
