"""SIGINT and SIGTERM as a request: finish the step, save, stop. A second signal stops at once."""

import signal
from collections.abc import Callable


class StopSignals:
    """While it is entered, `number` is that of the signal that came, else None."""

    def __init__(self, note: Callable[[str], None]):
        self.note = note
        self.number: int | None = None

    def __enter__(self):
        def on_signal(number, frame):
            if self.number:
                raise KeyboardInterrupt
            self.number = number
            self.note("finishing this step and saving a checkpoint (a second Ctrl-C would lose this step)")

        signals = (signal.SIGINT, signal.SIGTERM)
        self._handlers = {number: signal.signal(number, on_signal) for number in signals}
        return self

    def __exit__(self, *exc):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
