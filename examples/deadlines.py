"""Probes with a deadline each, within a deadline for all: ``python deadlines.py web1 web2``.

trio's nurseries and deadlines end what they are around. A probe that takes too long is stopped on
its target, and the others go on.
"""

import sys

import trio

import remit

PROBES = {"load": "cat /proc/loadavg", "users": "who | wc -l", "slow": "sleep 1000"}
FOR_A_PROBE = 3.0
FOR_ALL = 60.0


async def probe(session: remit.Session, name: str, found: dict[str, str]) -> None:
    found[name] = "took too long"
    with trio.move_on_after(FOR_A_PROBE):
        found[name] = (await session.run(PROBES[name], check=True)).text.strip()


async def visit(target: str, report: dict[str, dict[str, str]]) -> None:
    found = report[target] = {}
    try:
        async with remit.connect(target) as session, trio.open_nursery() as nursery:
            for name in PROBES:
                nursery.start_soon(probe, session, name, found)
    except remit.ConnectError as error:
        found["error"] = error.message


async def main(targets: list[str]) -> dict[str, dict[str, str]]:
    report: dict[str, dict[str, str]] = {}
    with trio.move_on_after(FOR_ALL):
        async with trio.open_nursery() as nursery:
            for target in targets:
                nursery.start_soon(visit, target, report)
    return report


if __name__ == "__main__":
    for target, found in trio.run(main, sys.argv[1:] or ["local:"]).items():
        print(target, found)
