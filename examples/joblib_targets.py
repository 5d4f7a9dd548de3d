"""A joblib run over several computers: ``python joblib_targets.py web1 web2 build7``.

`RemitBackend` is a backend of joblib's: each batch of calls goes to the computer that has least to
do. joblib itself is needed here alone.
"""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import joblib
from joblib.parallel import ParallelBackendBase

import remit


def run_batch(calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]) -> list[Any]:
    return [function(*args, **keywords) for function, args, keywords in calls]


class RemitBackend(ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """``joblib.parallel_config("remit", targets=["web1", "web2"], workers=4)``."""

    supports_retrieve_callback = True
    uses_threads = False
    supports_sharedmem = False

    def __init__(self, targets: list[str], workers: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self._targets = targets
        self._workers = workers
        self._executors: list[remit.Executor] = []
        self._load: dict[remit.Executor, int] = {}
        self._choosing = threading.Lock()

    def effective_n_jobs(self, n_jobs: int) -> int:
        return len(self._targets) * self._workers

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        self.parallel = parallel
        self._executors = [remit.Executor(t, workers=self._workers) for t in self._targets]
        self._load = dict.fromkeys(self._executors, 0)
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: Any, callback: Callable[..., Any] | None = None) -> Future[Any]:
        with self._choosing:
            executor = min(self._executors, key=self._load.__getitem__)
            self._load[executor] += 1
        future = executor.submit(run_batch, func.items)
        future.add_done_callback(lambda _: self._done(executor))
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def _done(self, executor: remit.Executor) -> None:
        with self._choosing:
            self._load[executor] -= 1

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        self._close()
        if ensure_ready:
            self.configure(parallel=self.parallel)

    def terminate(self) -> None:
        self._close()

    def _close(self) -> None:
        for executor in self._executors:
            executor.shutdown(cancel_futures=True)


joblib.register_parallel_backend("remit", RemitBackend)


def where(number: int) -> tuple[int, int]:
    """A number, and the process that squared it."""
    import os

    return number * number, os.getpid()


def main(targets: list[str]) -> list[tuple[int, int]]:
    with joblib.parallel_config("remit", targets=targets):
        found = joblib.Parallel(batch_size=2)(joblib.delayed(where)(n) for n in range(40))
    return list(found)


if __name__ == "__main__":
    squares = main(sys.argv[1:] or ["local:"])
    print(sum(square for square, _ in squares), "by", len({pid for _, pid in squares}), "processes")
