"""Commands started from a browser and watched there: ``TARGET=web1 uvicorn web:app``.

One hub for the life of the application; all requests share its session. A job is kept on the
target: a browser that leaves ends nothing, and one that comes back sees all from the start.
"""

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import remit

TARGET = os.environ.get("TARGET", "local:")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[dict[str, remit.Hub]]:
    async with remit.open_hub() as hub:
        yield {"hub": hub}


async def start(request: Request) -> Response:
    """``POST /jobs`` with words as JSON, ``["make", "-j8"]``."""
    words = await request.json()
    session = await request.state.hub.session(TARGET)
    job = await session.start([str(word) for word in words], placement="keep", name="web")
    return JSONResponse({"id": job.id}, status_code=201)


async def events(request: Request) -> Response:
    """``GET /jobs/ID/events``: an event for each line, and one for the end."""
    session = await request.state.hub.session(TARGET)
    try:
        job = await session.job(request.path_params["id"])
    except remit.JobNotFound as error:
        return JSONResponse({"error": error.message}, status_code=404)
    return StreamingResponse(Events(job), media_type="text/event-stream")


class Events(AsyncIterator[str]):
    """Not a generator: those that are left half-way have to be closed, and nobody would."""

    def __init__(self, job: remit.Job) -> None:
        self._job = job
        self._lines = job.lines(keep=True, from_start=True)
        self._is_over = False

    async def __anext__(self) -> str:
        if self._is_over:
            raise StopAsyncIteration
        try:
            return f"data: {json.dumps(await anext(self._lines))}\n\n"
        except StopAsyncIteration:
            self._is_over = True
            return f"event: end\ndata: {self._job.state}\n\n"


routes = [
    Route("/jobs", start, methods=["POST"]),
    Route("/jobs/{id}/events", events),
]
app = Starlette(routes=routes, lifespan=lifespan)
