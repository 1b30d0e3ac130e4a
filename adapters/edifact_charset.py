"""The character set that UNB's syntax identifier declares: which characters are allowed, and how bytes become text."""

import re
from dataclasses import dataclass

_LEVEL_A = r"A-Z0-9 .,()/=!\"%&*;<>'+:?\-"
_LEVEL_B = _LEVEL_A + "a-z"
# Neither C0 nor C1 controls.
_GRAPHIC = r"\x20-\x7e\xa0-\U0010ffff"
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# Syntax identifier → codec, and the characters allowed of it. ISO 9735; the last three are agencies' own.
CODECS: dict[str, tuple[str, str]] = {
    "UNOA": ("ascii", _LEVEL_A),
    "UNOB": ("ascii", _LEVEL_B),
    "UNOC": ("iso8859-1", _GRAPHIC),
    "UNOD": ("iso8859-2", _GRAPHIC),
    "UNOE": ("iso8859-5", _GRAPHIC),
    "UNOF": ("iso8859-7", _GRAPHIC),
    "UNOG": ("iso8859-3", _GRAPHIC),
    "UNOH": ("iso8859-4", _GRAPHIC),
    "UNOI": ("iso8859-6", _GRAPHIC),
    "UNOJ": ("iso8859-8", _GRAPHIC),
    "UNOK": ("iso8859-9", _GRAPHIC),
    "UNOW": ("utf-8", _GRAPHIC),
    "UNOY": ("utf-8", _GRAPHIC),
    "IATA": ("ascii", _LEVEL_A),
    "IATB": ("ascii", _LEVEL_B),
    "SIRE": ("ascii", _LEVEL_B),
}


@dataclass(frozen=True, slots=True)
class Repertoire:
    """Reads the bytes of a segment as text."""

    codec: str
    allowed: re.Pattern[str]

    @classmethod
    def of(cls, identifier: str, separators: str) -> "Repertoire":
        """The set of a syntax identifier, with the separators in use; UTF-8 for one that is unknown."""
        codec, allowed = CODECS.get(identifier, ("utf-8", _GRAPHIC))
        return cls(codec, re.compile(f"[{allowed}{re.escape(separators)}]*"))

    def read(self, raw: bytes) -> tuple[str, bool]:
        """The text, and whether it keeps to the set; a control character becomes U+FFFD."""
        try:
            text = raw.decode(self.codec)
        except UnicodeDecodeError:
            return _CONTROLS.sub("�", _guess(raw)), False
        if self.allowed.fullmatch(text):
            return text, True
        return _CONTROLS.sub("�", text), False


def _guess(raw: bytes) -> str:
    """Text in a set other than the declared one: UTF-8 where it is that, else Latin-1."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
