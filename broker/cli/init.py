"""`puente init`: a development link on one machine."""

import os
from typing import Annotated

import typer

from broker.cli.callers import HOME, HomeOption
from broker.cli.output import Exit, Output, OutputOption, emit_json, emit_table, fail

US_PORT, MX_PORT = 7411, 7412


def init(
    home: HomeOption = HOME,
    us_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the gateway of us, on loopback.")] = US_PORT,
    mx_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the gateway of mx, on loopback.")] = MX_PORT,
    output: OutputOption = Output.table,
) -> None:
    """Make a development agreement, keys and certificates for two parties, their agencies, officers and operators.

    Never for real use: everything is made by one hand, and a gateway outside development refuses it.
    """
    from broker import development

    if us_port == mx_port:
        fail("nothing was made", "both gateways cannot have one port", "name two ports", Exit.USAGE)
    os.umask(0o077)
    try:
        if home.exists() and any(home.iterdir()):
            fail("nothing was made", "the home folder is not empty", "name another --home, or empty it", Exit.USAGE)
        made = development.create(home, ports={"us": us_port, "mx": mx_port})
    except OSError as error:
        fail("nothing was made", f"the home folder: {error.strerror}", "name another --home", Exit.USAGE)
    configs = {party: str(path) for party, path in made.configs.items()}
    if output is Output.json:
        emit_json(
            {
                "schema": "puente.init/1",
                "ok": True,
                "home": str(home),
                "configs": configs,
                "callers": sorted(made.callers),
            }
        )
        return
    emit_table("A development link", ("what", "where"), [
        *((f"gateway {party}", path) for party, path in configs.items()),
        *((f"caller {name}", str(path)) for name, path in made.callers.items()),
    ])  # fmt: skip
    typer.echo(
        f"Next: puente serve --config {configs['us']}   and in another shell   puente serve --config {configs['mx']}"
    )
