"""Drives one release of remit by its Python API: a line of JSON in, a line of JSON out.

It runs with each release's own interpreter environment, and uses what all of them have.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread

import remit


async def start(session: remit.Session, *, argv: list[str], **options: Any) -> Any:
    return (await session.start(argv, placement="keep", **options)).id


async def evaluate(session: remit.Session, *, text: str, name: str) -> Any:
    """A kept job that is a function: it returns the value of an expression."""
    return (await session.start(eval, text, placement="keep", name=name)).id


async def jobs(session: remit.Session) -> Any:
    return {
        info.id: {
            "name": info.name,
            "state": info.state.name,
            "command": info.command,
            "has_more_data": info.has_more_data,
            "lifetime": info.lifetime,
            "problem": info.problem,
            "exit_status": info.outcome and info.outcome.exit_status,
            "reason": info.outcome and info.outcome.reason,
        }
        for info in await session.jobs()
    }


async def receive(session: remit.Session, *, job: str, **how: Any) -> Any:
    """What its streams said, joined: bytes as latin-1, values as they are."""
    said: dict[str, Any] = {"stdout": "", "stderr": "", "value": []}
    handle = await session.job(job)  # held: the first release's receiver does not hold it
    async for record in handle.receive(**how):
        if isinstance(record.data, bytes):
            said[record.stream] += record.data.decode("latin-1")
        else:
            said[record.stream].append(record.data)
    return said


async def wait(session: remit.Session, *, job: str) -> Any:
    return (await (await session.job(job)).wait()).name


async def stop(session: remit.Session, *, job: str) -> Any:
    return list(await (await session.job(job)).stop())


async def suspend(session: remit.Session, *, job: str) -> Any:
    handle = await session.job(job)
    await handle.suspend()
    return handle.state.name


async def resume(session: remit.Session, *, job: str) -> Any:
    handle = await session.job(job)
    await handle.resume()
    return handle.state.name


async def signal(session: remit.Session, *, job: str, name: str) -> Any:
    try:
        await (await session.job(job)).signal(name)
    except remit.JobStateError as error:
        return error.message


async def save(session: remit.Session, *, job: str, path: str) -> Any:
    return await (await session.job(job)).save(path)


async def remove(session: remit.Session, *, job: str, force: bool = False) -> Any:
    await (await session.job(job)).remove(force=force)


async def prune(session: remit.Session) -> Any:
    return sorted(pruned.id for pruned in await session.prune(older_than=0))


VERBS: dict[str, Callable[..., Awaitable[Any]]] = {
    verb.__name__: verb
    for verb in (
        start,
        evaluate,
        jobs,
        receive,
        wait,
        stop,
        suspend,
        resume,
        signal,
        save,
        remove,
        prune,
    )
}


async def main(target: str) -> None:
    async with remit.connect(target) as session:
        print(json.dumps(remit.__file__), flush=True)
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            verb, arguments = json.loads(line)
            try:
                answer = {"answer": await VERBS[verb](session, **arguments)}
            except (remit.RemitError, OSError, ValueError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
