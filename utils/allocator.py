"""jemalloc in place of the C library's malloc, for trainings on a CPU.

Every batch has tensors of other sizes. glibc's malloc searches ever longer lists of freed pieces for them: in
the hour of a training it came to a fifth of the time and more, and the memory grew (docs/log.md, 2026-11-28).
This module must run before anything allocates much, so it imports nothing that is not needed for that.
"""

import ctypes.util
import os
import sys

# Otherwise pieces over 8 MB go back to the system at once, and each page that comes from it is cleared first.
# Unused memory is offered to the system after seconds, and stays usable until the system takes it ("muzzy"):
# that halves the time of passes over many tokens. Never offered, it grew to 19 GB in three minutes.
_SETTINGS = "oversize_threshold:0,muzzy_decay_ms:-1"


def jemalloc_environment(environ: dict[str, str], library: str | None) -> dict[str, str] | None:
    """The environment variables of a process with jemalloc; None where nothing is to change.

    A preloaded library is the user's choice and stays (Colab has tcmalloc); so does an empty LD_PRELOAD.
    """
    if library is None or "LD_PRELOAD" in environ:
        return None
    return {"MALLOC_CONF": _SETTINGS, **environ, "LD_PRELOAD": library}


def has_jemalloc() -> bool:
    """Whether this process began with jemalloc."""
    return "jemalloc" in os.environ.get("LD_PRELOAD", "")


def restart_with_jemalloc() -> None:
    """Start this process again, with its id and its arguments, where Linux has jemalloc and it is not loaded.

    A library can only replace malloc in a process that begins with it. Nothing happens unless Python was
    started with this script and these arguments: a notebook's kernel that runs a script would be lost.
    """
    is_own_process = sys.orig_argv[-len(sys.argv) :] == sys.argv
    if sys.platform != "linux" or not is_own_process:
        return
    environment = jemalloc_environment(dict(os.environ), ctypes.util.find_library("jemalloc"))
    if environment is not None:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
