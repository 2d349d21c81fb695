"""The process that runs stages with faults, shared by the tests of a file."""

import pytest

from tests.faults.stage_world import FaultServer


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = FaultServer(tmp_path_factory.mktemp("logs"))
    yield found
    found.close()
