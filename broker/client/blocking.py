"""The client for code without an event loop: the same methods, each waited for.

`BlockingClient` is not a second client. It runs the asynchronous one on a thread of its own and hands out its objects
behind one generic wrapper: coroutines are waited for, asynchronous iterators become iterators, all else passes through.
"""

import asyncio
import inspect
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Self

from broker.client.calls import Patience
from broker.client.client import Client
from broker.client.delivery import Delivery, RecallAsked
from broker.client.receiver import Receiver

_WRAPPED = (Delivery, RecallAsked, Receiver)


class _Loop:
    """An event loop on a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="puente-client", daemon=True)
        self._thread.start()

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it there and wait here."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def stop(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Blocking:
    """An asynchronous object whose methods are waited for."""

    def __init__(self, target: Any, loop: _Loop) -> None:
        self._target = target
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found) or name.startswith("_"):
            return self._out(found)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._out(self._loop.wait(_call(found, [_in(arg) for arg in args], kwargs)))

        return call

    def __iter__(self) -> Iterator[Any]:
        iterator = aiter(self._target)
        try:
            while True:
                try:
                    found = self._loop.wait(_next(iterator))
                except StopAsyncIteration:
                    return
                yield self._out(found)
        finally:
            self._loop.wait(iterator.aclose())

    def __enter__(self) -> Self:
        self._loop.wait(self._target.__aenter__())
        return self

    def __exit__(self, *raised: object) -> None:
        self._loop.wait(self._target.__aexit__(*raised))

    def _out(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._out(item) for item in value]
        if isinstance(value, _WRAPPED) or inspect.isasyncgen(value):
            return Blocking(value, self._loop)
        return value


class BlockingClient(Blocking):
    """`Client`, waited for: `with BlockingClient.open(folder) as client`."""

    def __init__(self, client: Client) -> None:
        super().__init__(client, _Loop())

    @classmethod
    def open(cls, folder: Path, *, durable: bool = True, patience: Patience = Patience()) -> Self:  # noqa: B008
        """As `Client.open`."""
        return cls(Client.open(folder, durable=durable, patience=patience))

    def __exit__(self, *raised: object) -> None:
        try:
            super().__exit__(*raised)
        finally:
            self._loop.stop()


async def _call(found: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Call on the loop's thread, so that what is made there belongs there."""
    result = found(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


async def _next(iterator: Any) -> Any:
    return await anext(iterator)


def _in(value: Any) -> Any:
    if isinstance(value, list):
        return [_in(item) for item in value]
    return value._target if isinstance(value, Blocking) else value  # noqa: SLF001
