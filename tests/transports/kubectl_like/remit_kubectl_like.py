"""Reach a pod: ``remit run kubectl-like:NAMESPACE/POD -- COMMAND``."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import attrs

import remit


@attrs.frozen
class KubectlLike:
    scheme: str = "kubectl-like"
    program: str = "kubectl"
    api: int = 1

    def open(
        self, target: remit.Target, argv: Sequence[str]
    ) -> AbstractAsyncContextManager[remit.ByteStream]:
        namespace, _, pod = target.address.partition("/")
        if not (namespace and pod) or "-" in (namespace[0], pod[0]):
            raise remit.TargetError(f"{target} names no pod", hint="kubectl-like:default/web-0")
        return remit.open_process([self.program, "exec", "-i", "-n", namespace, pod, "--", *argv])


@remit.hookimpl
def remit_transports() -> list[remit.Transport]:
    return [KubectlLike()]
