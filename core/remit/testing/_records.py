"""What a reader gave, gathered, for the conformance of placements."""

from __future__ import annotations

from remit._types import Record
from remit.abc import DecodedRecord, RecordDecoder, StoreReader


async def read_into(records: list[Record], reader: StoreReader) -> None:
    """All that it gives, as it comes."""
    while (record := await reader.next()) is not None:
        records.append(record)


async def read_all(reader: StoreReader) -> list[Record]:
    """All that it gives, to its end."""
    records: list[Record] = []
    await read_into(records, reader)
    return records


def streams(records: list[Record]) -> dict[str, bytes]:
    """What each stream holds, however it was cut. Asserts that nothing lies between the pieces."""
    whole: dict[str, bytes] = {}
    ends: dict[str, int] = {}
    for record in records:
        assert isinstance(record.data, bytes)
        assert ends.setdefault(record.stream, record.offset) == record.offset
        ends[record.stream] = record.end
        whole[record.stream] = whole.get(record.stream, b"") + record.data
    return whole


def decoded(records: list[Record], offset: int) -> list[DecodedRecord]:
    """What the bytes of the stream ``records`` from ``offset`` on say."""
    decoder = RecordDecoder(offset)
    said = [decoder.feed(record.data) for record in records if record.stream == "records"]
    return [one for some in said for one in some]
