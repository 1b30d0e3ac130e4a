"""`puente keys new`, `draft` and `sign`: what holders and officers do offline, without any gateway."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from broker import agreement, keyitem, keys
from broker.agreement import Agreement
from broker.canonical import encode
from broker.cli import words
from broker.cli.output import Exit, Output, OutputOption, emit_json, emit_table, fail
from broker.errors import PuenteError
from broker.v1 import codes_pb2
from broker.v1.envelope_pb2 import KEY_ACT_ADD, KEY_ACT_REINSTATE, KeyAct, KeyItem


class Use(str, Enum):
    """What a key that an item may concern is for."""

    origin = "origin"
    receipt = "receipt"
    attest = "attest"
    envelope = "envelope"

    @property
    def number(self) -> "codes_pb2.KeyUse.ValueType":
        """The code of the protocol."""
        return codes_pb2.KeyUse.Value(f"KEY_USE_{self.value.upper()}")


AgreementOption = Annotated[Path, typer.Option("--agreement", help="The agreement's file, as both parties signed it.")]
UseOption = Annotated[Use, typer.Option("--use", help="What the key is for.")]
VersionOption = Annotated[
    int, typer.Option("--version", min=1, help="One above the key's version in `puente keys list`; 1 for a new key.")
]
DAYS_MAX = 3660


def new(path: Annotated[Path, typer.Argument(help="The key file to make, mode 0600.")], use: UseOption,
        output: OutputOption = Output.table) -> None:  # fmt: skip
    """Make a signing key where it is to be used. Its public half is written beside it, with the ending .pub."""
    key = keys.SigningKey.generate()
    with _explained():
        keys.write_key_file(path, use.number, key.seed)
        path.with_suffix(".pub").write_bytes(key.public)
    kid = keys.kid(keys.SUITE, use.number, key.public).hex()
    _told({"schema": "puente.keys.new/1", "ok": True, "kid": kid, "use": use.value}, output)


def draft_add(
    item: Annotated[Path, typer.Argument(help="The file to write: the item, not signed yet.")],
    public: Annotated[Path, typer.Option("--public", help="The key's public half, as `puente keys new` wrote it.")],
    use: UseOption,
    owner: Annotated[str, typer.Option("--owner", help="Our agency, or our party for attest and envelope.")],
    days: Annotated[int, typer.Option("--days", min=1, max=DAYS_MAX, help="How long it counts, from now on.")],
    version: VersionOption = 1,
    output: OutputOption = Output.table,
) -> None:
    """Draft the item that adds a key. It ends with the agreement in force, unless the next one has the key."""
    now = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
    with _explained():
        drafted = KeyItem(
            public_key=public.read_bytes(),
            suite=keys.SUITE,
            use=use.number,
            owner=owner,
            not_before_ms=now,
            not_after_ms=now + days * 86_400_000,
            act=KEY_ACT_ADD,
            version=version,
        )
        _write(item, drafted)
    _shown(drafted, "puente.keys.draft/1", output)


def draft_reinstate(
    item: Annotated[Path, typer.Argument(help="The file to write: the item, not signed yet.")],
    kid: Annotated[str, typer.Option("--kid", help="The suspended key, 64 hex digits.")],
    version: VersionOption,
    path: AgreementOption,
    output: OutputOption = Output.table,
) -> None:
    """Draft the item that reinstates a suspended key of the agreement. An envelope key is never reinstated."""
    with _explained():
        key = next((one for one in _agreement(path).keys.values() if one.kid.hex() == kid.lower()), None)
        if key is None:
            fail("no such key", "the agreement does not have it", "see `puente keys list`", Exit.USAGE)
        drafted = KeyItem(
            public_key=key.public,
            suite=key.suite,
            use=key.use,  # type: ignore[arg-type]
            owner=key.owner,
            act=KEY_ACT_REINSTATE,
            version=version,
        )
        _write(item, drafted)
    _shown(drafted, "puente.keys.draft/1", output)


def sign(
    item: Annotated[Path, typer.Argument(help="The item; its signature is added to the file.")],
    root: Annotated[Path, typer.Option("--root", help="A root key file of our party.")],
    path: AgreementOption,
    output: OutputOption = Output.table,
) -> None:
    """Sign an item with one root key, offline. Run it once for each root, until the party's threshold is met."""
    with _explained():
        drafted = keyitem.parse_item(item.read_bytes())
        file = keys.read_key_file(root)
        if file.use != codes_pb2.KEY_USE_ROOT:
            fail("this cannot be signed", "the key file holds a key of another use", "name a root key", Exit.USAGE)
        signed = keyitem.sign(drafted, _agreement(path).link_id, [keys.SigningKey.from_seed(file.seed)])
        item.write_bytes(signed)
    _shown(KeyItem.FromString(signed), "puente.keys.sign/1", output)


def _write(path: Path, item: KeyItem) -> None:
    data = encode(item)
    keyitem.parse_item(data)
    path.write_bytes(data)


def _agreement(path: Path) -> Agreement:
    return agreement.load(path.read_bytes())


def _shown(item: KeyItem, schema: str, output: Output) -> None:
    """What is being signed, for the eyes of whoever signs it."""
    _told(
        {
            "schema": schema,
            "ok": True,
            "act": KeyAct.Name(item.act).removeprefix("KEY_ACT_").lower(),
            "kid": keyitem.kid_of(item).hex(),
            "use": words.use(item.use),
            "owner": item.owner,
            "version": item.version,
            "not_before": words.instant(item.not_before_ms),
            "not_after": words.instant(item.not_after_ms),
            "signatures": len(item.signatures),
        },
        output,
    )


def _told(value: dict[str, object], output: Output) -> None:
    if output is Output.json:
        emit_json(value)
        return
    rows = [(key, "" if said is None else str(said)) for key, said in value.items() if key not in {"schema", "ok"}]
    emit_table("key", ("", ""), rows)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what can go wrong with files and bytes into words and an exit code."""
    try:
        yield
    except OSError as error:
        fail("a file cannot be used", str(error.strerror), "check the paths", Exit.USAGE)
    except PuenteError as error:
        fail("this is not a key item that could count", str(error), "see docs/operating.md", Exit.USAGE)
