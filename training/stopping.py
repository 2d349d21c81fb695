"""Reasons to stop a run: SIGINT and SIGTERM as a request to save first, and nothing left to train."""

import signal

from transformers import TrainerCallback

from utils.errors import Terminated
from utils.progress import say_in_handler

_SAID = "finishing this step and saving a checkpoint (a second Ctrl-C would lose this step)"


class NothingLeft(Exception):
    """The checkpoint to resume from is that of the last step."""


class NoFurtherStep(TrainerCallback):
    """Raises NothingLeft where Trainer, resumed from the last step, would train one more."""

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step >= state.max_steps:
            raise NothingLeft


def interruption(number: int | None, message: str = "") -> KeyboardInterrupt:
    """What ends a run that a signal stopped: its exit code is 128 + the signal's number."""
    kind = Terminated if number == signal.SIGTERM else KeyboardInterrupt
    return kind(*[message] if message else [])


class StopSignals:
    """While it is entered, `number` is that of the signal that came, else None."""

    def __init__(self):
        self.number: int | None = None

    def __enter__(self):
        def on_signal(number, frame):
            if self.number:
                raise interruption(number)
            self.number = number
            # Nothing that locks: a signal may come in the middle of a printed line.
            say_in_handler(_SAID)

        signals = (signal.SIGINT, signal.SIGTERM)
        self._handlers = {number: signal.signal(number, on_signal) for number in signals}
        return self

    def __exit__(self, *exc):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
