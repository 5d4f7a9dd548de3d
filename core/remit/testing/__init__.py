"""The kit that plugin authors test with; remit's own plugins do too. Needs pytest.

Subclass `TransportConformance` or `PlacementConformance`, and give it the fixtures that it asks
for. ``pytest_plugins = ["remit.testing"]`` in a conftest.py brings the fixture ``stub_tool`` to
tests of other kinds.
"""

import pytest

# So that a promise that is not kept is shown with the values that broke it.
pytest.register_assert_rewrite(
    "remit.testing._transport", "remit.testing._link", "remit.testing._placement"
)

from remit.testing._channel import FakeChannel  # noqa: E402
from remit.testing._fake import FakePeer, FakeTransport  # noqa: E402
from remit.testing._faulty import Fault, FaultyTransport  # noqa: E402
from remit.testing._link import LinkConformance  # noqa: E402
from remit.testing._placement import PlacementConformance  # noqa: E402
from remit.testing._stub import StubTool, stub_tool  # noqa: E402
from remit.testing._transport import StreamConformance, TransportConformance  # noqa: E402

__all__ = [
    "FakeChannel",
    "FakePeer",
    "FakeTransport",
    "Fault",
    "FaultyTransport",
    "LinkConformance",
    "PlacementConformance",
    "StreamConformance",
    "StubTool",
    "TransportConformance",
    "stub_tool",
]
