"""Both of our placements keep what a placement promises."""

import pytest

from remit.abc import Placement
from remit.testing import PlacementConformance
from remit_keep import Keep
from remit_return import Return


class TestReturn(PlacementConformance):
    @pytest.fixture
    def placement(self) -> Placement:
        return Return()


class TestKeep(PlacementConformance):
    @pytest.fixture
    def placement(self) -> Placement:
        return Keep()
