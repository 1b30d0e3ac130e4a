"""Who a command acts as: a caller's folder of certificate, key, CA and endpoint; and officers' calls."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, TypeVar

import grpc
import typer
from google.protobuf.message import Message

from broker.cli.output import Exit, fail
from broker.client.calls import OPTIONS, Credentials
from broker.client.errors import (
    ClientError,
    Conflict,
    Denied,
    Invalid,
    Suspended,
    Unauthenticated,
    Unavailable,
    VerificationError,
    of,
)
from broker.errors import ConfigError, KeyFileError

DEADLINE_S: Final = 30.0
ACT_REFUSED: Final = "ACT_REFUSED"
HomeOption = Annotated[
    Path, typer.Option("--home", envvar="PUENTE_HOME", help="The folder that `puente init` made, or one like it.")
]
HOME: Final = Path("puente-dev")
_M = TypeVar("_M", bound=Message)
_EXITS: Final[tuple[tuple[type[ClientError], Exit], ...]] = (
    (Unauthenticated, Exit.UNAUTHENTICATED),
    (Denied, Exit.DENIED),
    (VerificationError, Exit.VERIFICATION),
    (Conflict, Exit.CONFLICT),
    (Unavailable, Exit.UNAVAILABLE),
    (Suspended, Exit.UNAVAILABLE),
    (Invalid, Exit.USAGE),
)


def folder(home: Path, caller: str) -> Path:
    """A caller's folder; a clear refusal when there is none."""
    found = home / "callers" / caller
    if not found.is_dir():
        fail(
            "this caller is not known here",
            "the home folder has no such folder under callers/",
            "run `puente init`, or name --home",
            Exit.USAGE,
        )
    return found


class Caller:
    """Unary calls of an officer, operator or auditor."""

    def __init__(self, own: Path) -> None:
        credentials = Credentials.read(own)
        secure = grpc.ssl_channel_credentials(credentials.ca, credentials.key, credentials.certificate)
        endpoint = (own / "endpoint").read_text(encoding="ascii").strip()
        self._channel = grpc.secure_channel(endpoint, secure, options=OPTIONS)

    def call(self, method: str, request: Message, answer: type[_M]) -> _M:
        """Call `Service/Method`. Raises ClientError."""
        behaviour = self._channel.unary_unary(
            f"/broker.v1.{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            found: _M = behaviour(request, timeout=DEADLINE_S)
        except grpc.RpcError as error:
            raise of(error) from None  # type: ignore[arg-type]  # it has the same details
        return found

    def close(self) -> None:
        """End the connection."""
        self._channel.close()


@contextmanager
def calling(home: Path, caller: str) -> Iterator[Caller]:
    """A caller for the time of a command; what goes wrong ends it with a reason and an exit code."""
    own = folder(home, caller)
    with explained():
        made = Caller(own)
        try:
            yield made
        finally:
            made.close()


@contextmanager
def explained() -> Iterator[None]:
    """Turn what a client can hear into words and an exit code."""
    try:
        yield
    except ClientError as error:
        code = next((exit_code for kind, exit_code in _EXITS if isinstance(error, kind)), Exit.FAILURE)
        if error.reason == ACT_REFUSED:
            fail("this cannot be done as things stand", error.said, "see docs/operating.md", Exit.FAILURE)
        what = f"{error.reason}" + (f", request {error.request_id}" if error.request_id else "")
        fail(str(error), what, _mend(error), code)
    except (KeyFileError, ConfigError, OSError) as error:
        fail("this caller's files cannot be used", str(error), "run `puente init`, or check the caller's folder")


def _mend(error: ClientError) -> str:
    if isinstance(error, Unavailable):
        return "see that the gateway runs: `puente serve --config ...`"
    if isinstance(error, Unauthenticated | Denied):
        return "use the certificate of a caller who may do this"
    return "see the reason in docs/operating.md"
