"""The command `puente`: every verb, registered in the order that `--help` shows."""

import typer

from broker.cli import decode, policy, serve

app = typer.Typer(
    name="puente",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A broker through which agencies of two countries exchange the records that the law lets them exchange.",
)
app.command("serve")(serve.serve)
app.command("decode")(decode.decode)
app.add_typer(policy.app, name="policy")


def main() -> None:
    """Entry point of the distribution."""
    app()
