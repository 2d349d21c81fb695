"""`make test-fast` leaves out what needs a model or a process, and nothing else."""

import subprocess
from types import SimpleNamespace

import pytest

from tests.slow_marks import SLOW_FIXTURES, is_slow


def starts_a_process():
    return subprocess.run(["true"])


def calls_a_helper():
    return [starts_a_process() for _ in range(2)]


def stays_here():
    return "subprocess"


def item(function, *fixtures):
    return SimpleNamespace(function=function, fixturenames=list(fixtures))


@pytest.mark.parametrize("function", [starts_a_process, calls_a_helper])
def test_a_test_that_starts_a_process_is_slow_through_its_helpers_too(function):
    assert is_slow(item(function))


@pytest.mark.parametrize("fixture", sorted(SLOW_FIXTURES))
def test_a_test_that_uses_a_model_or_a_stage_is_slow(fixture):
    assert is_slow(item(stays_here, fixture))


def test_any_other_test_is_fast():
    assert not is_slow(item(stays_here, "tmp_path", "sample"))


def test_a_fast_test_cannot_start_a_process_unseen():
    # The call is hidden from the marks by `getattr`; the guard in conftest.py sees it all the same.
    hidden = globals()["".join(("sub", "process"))]
    with pytest.raises(AssertionError, match="marked slow"):
        hidden.run(["true"])


def test_most_tests_are_fast(request):
    items = request.session.items
    if len({item.path for item in items}) < 20:
        pytest.skip("only a part of the tests was collected")
    slow = [item for item in items if item.get_closest_marker("slow")]
    assert len(slow) < 0.4 * len(items)
