"""The core, compiled for the tests of this folder."""

import os
from functools import partial

import pytest

from tests.csrc.compiling import Build, build_once


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return a function from the name of a sanitizer set to the folder with core.a and the objects."""
    shared = tmp_path_factory.getbasetemp()
    return partial(build_once, shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared)
