"""Work shared by the processes of a launch: split by sample, streamed to disk, merged in input order.

Without a launch, everything here works for one process. It knows the order of rows, not their content.
"""

import atexit
import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from utils.aside import note_aside, restore_aside
from utils.errors import StageError
from utils.jsonl import append_jsonl, read_appended, sha256_value, write_jsonl
from utils.launch import is_first_process, process_count
from utils.locks import output_lock
from utils.runs import note


class Shards:
    """This process within an `accelerate launch`; rank 0 of 1 without one."""

    def __init__(self):
        self.rank = int(os.environ.get("RANK", 0))
        self.n_processes = process_count()
        self.is_main = self.rank == 0
        if self.n_processes > 1:
            # A single process needs no accelerate, which takes seconds to import.
            from accelerate import PartialState

            from models.hardware import has_cuda

            # The first process to finish waits for the last, which the default timeout (30 minutes) may end.
            self._state = PartialState(cpu=not has_cuda(), timeout=timedelta(days=7))
            # A process that ends late may find the connections of the others closed, and gloo's thread then
            # aborts it although its work is done (once seen in a test: SIGABRT of a run with nothing to do).
            atexit.register(self._state.destroy_process_group)

    def mine(self, items: list) -> list:
        """The share of this process: every n-th item, so that all shares have similar lengths."""
        return items[self.rank :: self.n_processes]

    def share(self, value):
        """The value of the first process, in all of them."""
        if self.n_processes == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def decide(self, choose: Callable):
        """The value of `choose()`, which the first process calls; its error is raised in all."""
        # An error in one process alone would leave the others waiting for it.
        answer = None
        if self.is_main:
            try:
                answer = choose()
            except (StageError, OSError) as error:
                answer = error
        answer = self.share(answer)
        if isinstance(answer, (StageError, OSError)):
            raise answer
        return answer

    @contextlib.contextmanager
    def hold(self, lock: contextlib.AbstractContextManager) -> Iterator[None]:
        """Have a lock of `utils/locks.py` in the first process, for all; its error is raised in all."""
        with contextlib.ExitStack() as stack:

            def take() -> None:
                stack.enter_context(lock)

            self.decide(take)
            yield

    def say(self, text: str, hint: str) -> None:
        """Print a result, and a note with what comes next, in the first process alone."""
        if self.is_main:
            print(text)
            note(hint)

    def gather(self, items: list) -> list:
        """The items of all processes, in all of them."""
        if self.n_processes == 1:
            return items
        from accelerate.utils import gather_object

        return gather_object(items)

    def wait(self) -> None:
        if self.n_processes > 1:
            self._state.wait_for_everyone()


def note_in_first_process(texts: list[str]) -> None:
    """Notes that every process of a launch would print: the first one alone does."""
    if is_first_process():
        for text in texts:
            note(text)


@contextlib.contextmanager
def hold_output(output: Path) -> Iterator[Shards]:
    """The processes of this launch, which have an output for themselves. UsageError if another run has it.

    A run that fails before its first output puts back the one that it was to replace; a later one says how.
    """
    shards = Shards()
    with shards.hold(output_lock(output)):
        try:
            yield shards
        finally:
            if shards.is_main:
                restore_aside(output)
                note_aside(output)


def _partial(path: Path, rank: int | str) -> Path:
    return path.with_name(f".{path.stem}.partial-{rank}.jsonl")


def drop_partials(path: Path) -> None:
    """Delete the hidden files of a log whose rows are all in `path`: a kill may leave them behind."""
    # Of a single process by name, as a drive may not show it yet.
    for partial in {*path.parent.glob(_partial(path, "*").name), _partial(path, 0)}:
        partial.unlink(missing_ok=True)


class ShardLog:
    """Rows that reach the disk batch by batch, in one hidden file per process; `finish` merges them.

    A rerun with the same settings, on any number of processes, resumes after the last complete batch. A
    batch is one line, so that a kill leaves all of its rows or none: what is missing is then whole batches,
    and they are made as they would have been.
    """

    def __init__(self, path: Path, settings: dict, shards: Shards):
        self.path = path
        self.shards = shards
        # The first row of each file: rows made with other settings are never mixed with these.
        self.signature = {"settings": sha256_value(settings)}
        self.own = _partial(path, shards.rank)
        if read_appended(self.own)[:1] != [self.signature]:
            self.own.unlink(missing_ok=True)
            append_jsonl(self.own, [self.signature])
        shards.wait()

    def rows(self) -> list[dict]:
        """The rows of all processes so far, those of an interrupted run with the same settings included."""
        rows = []
        found_files = set(self.path.parent.glob(_partial(self.path, "*").name))
        # A network drive may show a new file some seconds later; those of this launch are known by name.
        found_files |= {_partial(self.path, rank) for rank in range(self.shards.n_processes)}
        for path in sorted(found_files):
            found = read_appended(path)
            if found[:1] != [self.signature]:
                continue
            for line in found[1:]:
                # Earlier versions wrote one row per line.
                rows += line.get("batch", [line])
        return rows

    def add(self, rows: list[dict]) -> None:
        append_jsonl(self.own, [{"batch": rows}])

    def merged(self, order: Callable[[dict], tuple]) -> list[dict]:
        """All rows sorted by `order`. The files stay until the run needs them no more (`drop_partials`)."""
        self.shards.wait()
        rows = sorted(self.rows(), key=order)
        # No process may delete the files before all have read them.
        self.shards.wait()
        return rows

    def finish(self, order: Callable[[dict], tuple]) -> list[dict]:
        """All rows sorted by `order`, once the first process has written them to `path`."""
        rows = self.merged(order)
        if self.shards.is_main:
            write_jsonl(self.path, rows)
            drop_partials(self.path)
        self.shards.wait()
        return rows
