"""Decides which tests `make test-fast` leaves out: those that need a model or start a process.

The decision is read from each test's fixtures and code, so that hardly any test has to be marked by hand:
those that train in this process are, and those that build data from thousands of real records.
This module knows nothing about how long a test takes; `pytest --durations` does.
"""

import types

# A model, even a tiny one, costs seconds to make and to run; `stage` runs a whole script as a subprocess.
SLOW_FIXTURES = {"make_model", "tiny_gemma_dir", "embedded_dir", "stage", "finished_demo"}

# Whoever starts a process names one of these. `run_stage` is what the fixture `stage` returns.
PROCESS_NAMES = {"subprocess", "multiprocessing", "run_stage"}


def names_used(function: types.FunctionType, seen: set[str] | None = None) -> set[str]:
    """Every name in a function's code, in its inner functions, and in what it calls of its own module."""
    seen = set() if seen is None else seen
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        codes += [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]
        new_names = set(code.co_names) - seen
        seen |= new_names
        for name in new_names:
            called = function.__globals__.get(name)
            if isinstance(called, types.FunctionType) and called.__module__ == function.__module__:
                names_used(called, seen)
    return seen


def is_slow(item) -> bool:
    """True when a collected pytest item needs a model or starts a process."""
    if SLOW_FIXTURES & set(item.fixturenames):
        return True
    return bool(PROCESS_NAMES & names_used(item.function))
