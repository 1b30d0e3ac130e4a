"""The command `puente`: every verb, registered in the order that `--help` shows."""

import typer

from broker.cli import decision, decode, demo, flow, init, keys, links, message, policy, receive, serve, submit

app = typer.Typer(
    name="puente",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A broker through which agencies of two countries exchange the records that the law lets them exchange.",
)
app.command()(demo.demo)
app.command()(init.init)
app.command()(serve.serve)
app.command()(decode.decode)
app.command()(submit.submit)
app.command()(receive.receive)
app.add_typer(message.app, name="message")
app.add_typer(decision.app, name="decision")
app.add_typer(policy.app, name="policy")
app.command()(flow.flow)
app.add_typer(links.app, name="links")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Entry point of the distribution."""
    app()
