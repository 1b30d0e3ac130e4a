"""A server with a gateway's TLS that answers with as many bytes as it is asked for: the baseline of RPCs."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import grpc

from broker import config
from broker.gateway.server import OPTIONS, _credentials


async def _answer(request: bytes, _context: object) -> bytes:
    return bytes(int.from_bytes(request[:4]))


async def _serve(path: Path) -> None:
    settings = config.load(path)
    server = grpc.aio.server(options=OPTIONS)
    handler = grpc.unary_unary_rpc_method_handler(_answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Baseline", {"Call": handler}),))
    server.add_secure_port(settings.listen, _credentials(settings))
    await server.start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    sys.stdout.write(json.dumps({"pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    await stopping.wait()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[sys.argv.index("--config") + 1])))
