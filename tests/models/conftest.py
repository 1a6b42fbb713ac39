"""The registry of encoders."""

import pytest

from usvs.models import registry


@pytest.fixture
def own_names():
    """Leave the registry as it was."""
    before = dict(registry._registered)
    yield
    registry._registered.clear()
    registry._registered.update(before)
