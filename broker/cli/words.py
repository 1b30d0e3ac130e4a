"""How codes, ids and times are written in every command's output."""

import datetime as dt
from typing import Any

from broker.v1 import codes_pb2
from broker.v1 import exchange_service_pb2 as pb


def instant(ms: int) -> str | None:
    """RFC 3339 UTC with milliseconds; None for 0."""
    if not ms:
        return None
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def state(number: int) -> str:
    """Acknowledged and the like."""
    return codes_pb2.State.Name(number).removeprefix("STATE_").lower()  # type: ignore[arg-type]


def reason(number: int) -> str:
    """policy, expired and the like; '' where nothing is to be said."""
    name = codes_pb2.Reason.Name(number).removeprefix("REASON_").lower()  # type: ignore[arg-type]
    return "" if name in {"none", "unspecified"} else name


def purpose(number: int) -> str:
    """border_security and the like."""
    return codes_pb2.Purpose.Name(number).removeprefix("PURPOSE_").lower()  # type: ignore[arg-type]


def caveat(number: int) -> str:
    """no_onward_transfer and the like."""
    return codes_pb2.Caveat.Name(number).removeprefix("CAVEAT_").lower()  # type: ignore[arg-type]


def notice(number: int) -> str:
    """not_for_this_purpose and the like."""
    return codes_pb2.NoticeCode.Name(number).removeprefix("NOTICE_CODE_").lower()  # type: ignore[arg-type]


def use(number: int) -> str:
    """origin, envelope and the like."""
    return codes_pb2.KeyUse.Name(number).removeprefix("KEY_USE_").lower()  # type: ignore[arg-type]


def message(view: pb.MessageView) -> dict[str, Any]:
    """A message as `message show` and `message list` print it."""
    return {
        "message_id": view.message_id.hex(),
        "release": view.release.hex() or None,
        "way": "out" if view.way == pb.WAY_OUT else "in",
        "family": view.family,
        "kind": view.kind,
        "origin": view.origin_agency,
        "recipient": view.recipient_agency,
        "purpose": purpose(view.purpose),
        "state": state(view.state),
        "reason": reason(view.reason),
        "states": [states(one) for one in view.states],
        "decision_id": view.decision_id.hex() or None,
        "conversation": view.conversation.hex(),
        "expires": instant(view.expires_ms),
        "destroy_by": instant(view.destroy_by_ms),
        "content_destroyed": view.content_destroyed,
    }


def states(view: pb.StateView) -> dict[str, Any]:
    """One state, when, and by whose word: agency, gateway, or none."""
    receipt = "agency" if view.agency_signed else "gateway" if view.receipt else None
    return {"state": state(view.state), "reason": reason(view.reason), "at": instant(view.at_ms), "receipt": receipt}
