"""Everything that can go wrong, one tree.

    PuenteError
    ├── InvalidError            the caller's bytes are wrong; never retried as they are
    │   ├── CanonicalError      not the one encoding of protocol section 1
    │   ├── FieldInvalid        a field rule of the .proto is broken (paths and rules, never values)
    │   ├── SectionError        slots, leaves or roots that do not fit
    │   ├── SignatureError      a signature, or half of one, does not verify
    │   ├── OriginError         the agency's word does not cover what came
    │   ├── KeyItemError        a key item that its owner's roots did not sign, or that must not be
    │   └── ConflictError       same message id, other statement
    ├── SealError               an envelope is not taken
    │   ├── EnvelopeError       steps 1-6
    │   ├── OpenError           step 8
    │   └── ContentError        step 9
    ├── ProofError              step 11: a message does not follow from its release
    ├── AgreementError          an agreement that does not verify, or is not in force
    ├── KeyFileError            a key file that is missing, damaged or readable by others
    ├── CertificateError        a caller who is not who a certificate must say
    ├── LinkError               the link is suspended, or has no valid key
    │   ├── AgreementExpired    no agreement is in force
    │   └── KeySuspended        the key that signed is suspended
    ├── ActError                an operator's act that cannot be carried out as things stand
    ├── DeniedError             a role that may not call this, or something it may not see
    ├── VaultError              content that cannot be opened: destroyed, or damaged
    ├── StoreError              ledger or transport down; retried
    │   ├── StoreFull           no room: on the disk, or for what waits to be sealed
    │   └── StreamLost          another owner holds a stream
    ├── BusyError               back-pressure: nothing was accepted
    └── ConfigError             a configuration that must not start

No error's text holds a value of the input: it reaches logs and callers.
"""

from collections.abc import Sequence


class PuenteError(Exception):
    """Base of all; `reason` is the word of the error table that a caller sees."""

    reason = "INTERNAL"


class InvalidError(PuenteError):
    """The caller's bytes are wrong."""

    reason = "MALFORMED_MESSAGE"


class CanonicalError(InvalidError):
    """Bytes that are not canonical (protocol section 1)."""


class FieldInvalid(InvalidError):
    """Field rules broken: (path, rule id) each, never a value."""

    reason = "FIELD_INVALID"

    def __init__(self, violations: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path or 'record'}: {rule}" for path, rule in violations))
        self.violations = tuple(violations)


class SectionError(InvalidError):
    """Slots, leaves or roots that do not fit (protocol section 2)."""


class SignatureError(InvalidError):
    """A signature that does not verify; both halves must."""

    reason = "ORIGIN_INVALID"


class OriginError(InvalidError):
    """An origin statement or its place in the signed tree is wrong (protocol section 3)."""

    reason = "ORIGIN_INVALID"


class KeyItemError(InvalidError):
    """A key item that does not count (protocol section 10)."""

    reason = "KEY_ITEM_INVALID"


class ConflictError(InvalidError):
    """The message id stands for another submission already."""

    reason = "IDEMPOTENCY_CONFLICT"


class SealError(PuenteError):
    """An envelope that is not taken (protocol section 5)."""

    reason = "ENVELOPE"


class EnvelopeError(SealError):
    """Steps 1 to 6: caps, shape, header, place, keys, signature."""


class OpenError(SealError):
    """Step 8: HPKE or padding."""

    reason = "OPEN"


class ContentError(SealError):
    """Step 9: content, count or root."""

    reason = "CONTENT"


class ProofError(PuenteError):
    """Step 11: a message does not follow from its release."""

    reason = "PROOF"


class AgreementError(PuenteError):
    """An agreement that does not verify or is not in force."""

    reason = "AGREEMENT_INVALID"


class KeyFileError(PuenteError):
    """A key file that is missing, damaged, or readable by others."""

    reason = "KEY_UNAVAILABLE"


class CertificateError(PuenteError):
    """A certificate that names nobody we serve; `reason` says why."""

    reason = "CERTIFICATE_UNMAPPED"


class CertificateExpired(CertificateError):
    """Past its not-after, whenever the connection was made."""

    reason = "CERTIFICATE_EXPIRED"


class CertificateRevoked(CertificateError):
    """On the deny list."""

    reason = "CERTIFICATE_REVOKED"


class DeniedError(PuenteError):
    """A role that may not call this."""

    reason = "ROLE_REQUIRED"


class NotFoundError(PuenteError):
    """Absent, or not for this caller to see: the two look the same."""

    reason = "NOT_FOUND"


class LinkError(PuenteError):
    """The link is suspended, or has no valid key."""

    reason = "LINK_SUSPENDED"


class AgreementExpired(LinkError):
    """No agreement is in force: none has begun, or the last one expired."""

    reason = "AGREEMENT_EXPIRED"


class KeySuspended(LinkError):
    """The key that signed is suspended by its own party."""

    reason = "KEY_SUSPENDED"


class ActError(PuenteError):
    """An operator's act that cannot be carried out as things stand; the text says why."""

    reason = "ACT_REFUSED"


class VaultError(PuenteError):
    """Content that cannot be opened: destroyed, or damaged."""

    reason = "CONTENT_DESTROYED"


class StoreError(PuenteError):
    """Ledger or transport is down or full; nothing was accepted."""

    reason = "STORE_UNAVAILABLE"
    retry_s = 1
    """When trying again makes sense, in seconds."""


class StoreFull(StoreError):
    """No room on the disk, or too much waits to be sealed; nothing was accepted."""

    reason = "STORE_FULL"
    retry_s = 30


class StreamLost(StoreError):
    """Another owner holds the stream, or its head moved: what was sealed must not be seen."""


class BusyError(PuenteError):
    """Too much is waiting; nothing was accepted."""

    reason = "RATE_LIMITED"


class ConfigError(PuenteError):
    """A configuration that must not start; `mend` says what to do."""

    reason = "CONFIG"

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what)
        self.mend = mend
