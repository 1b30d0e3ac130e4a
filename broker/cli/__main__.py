"""`python -m broker.cli` is `puente`."""

from broker.cli.main import main

main()
