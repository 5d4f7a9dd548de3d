"""``remit transports``: how targets can be reached here, and which plugins are faulty."""

from __future__ import annotations

from remit._plugins import plugins
from remit.abc import TakesBareWords
from remit.cli._render import array, table


def listing(*, as_json: bool) -> str:
    """Transports by scheme, then the plugins that were left out, each with its problem."""
    found = plugins()
    items = [
        {
            "scheme": scheme,
            "plugin": type(transport).__module__,
            "bare_words": isinstance(transport, TakesBareWords) and transport.bare_words,
            "problem": None,
        }
        for scheme, transport in sorted(found.transports.items())
    ]
    items += [
        {"scheme": None, "plugin": faulty.name, "bare_words": False, "problem": faulty.problem}
        for faulty in found.faulty
    ]
    if as_json:
        return array(items)
    rows = [
        [
            f"{item['scheme']}:" if item["scheme"] else "-",
            str(item["plugin"]),
            str(item["problem"] or ("takes bare words too" if item["bare_words"] else "")),
        ]
        for item in items
    ]
    return table(("SCHEME", "PLUGIN", "REMARK"), rows, None)
