"""Each section of each page is run as it stands."""

import pytest

from docs import pages
from docs.pages import Section
from docs.world import World

_RUNNABLE = [
    section for page in pages.all_pages() for section in pages.sections(page) if section.runnable
]
_ON = [
    pytest.param(section, backend, id=f"{section.page}-{section.title}-{backend}")
    for section in _RUNNABLE
    for backend in (["asyncio", "trio"] if section.has_programs else ["shell"])
]


@pytest.mark.parametrize(("section", "backend"), _ON)
def test_what_a_section_says_is_so(section: Section, backend: str, world: World) -> None:
    world.run(section, backend)
