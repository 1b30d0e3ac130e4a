"""PAXLST, the passenger and crew list of UN/EDIFACT: `decode(bytes)` → records, `encode(records)` → bytes.

>>> decoded = decode(data, tolerant=True)      # raises DecodeError
>>> [(one.key, one.record.identity.name.surname) for one in decoded.records]
"""

from adapters.findings import DecodeError, Deviation, Limits
from adapters.paxlst_decode import Decoded, DecodedRecord, Source, Totals, decode
from adapters.paxlst_encode import EncodeError, encode
from adapters.paxlst_legs import Leg

__all__ = [
    "DecodeError",
    "Decoded",
    "DecodedRecord",
    "Deviation",
    "EncodeError",
    "Leg",
    "Limits",
    "Source",
    "Totals",
    "decode",
    "encode",
]
