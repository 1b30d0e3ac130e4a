"""The example of docs/integrating.md does what the page says, against two real gateways."""

import asyncio
import re
from pathlib import Path

from tests.fixtures import two_gateways

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "integrating.md").read_text(encoding="utf-8")


def example():
    [found] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    return found


def test_the_example_fits_on_a_page():
    assert len([line for line in example().splitlines() if line.strip()]) <= 20


async def test_the_example_submits_one_record_and_receives_it(capsys):
    with two_gateways() as gateways:
        names = {}
        exec(compile(example(), "integrating.md", "exec"), names)
        async with asyncio.timeout(30):
            await names["main"](gateways.folder / "callers")
    sent, received = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"accepted [0-9a-f]{32}", sent)
    assert received == "us.cbp api ('kind', 'identity', 'travel', 'documents') PRUEBA"


def test_every_file_that_the_page_names_is_there():
    for path in (
        "proto/broker/v1",
        "broker/v1/descriptor_set.binpb",
        "tests/vectors/puente-v1.json",
        "tests/vectors/verify.mjs",
    ):
        assert path in PAGE
        assert (ROOT / path).exists()


def test_every_error_that_the_page_names_is_the_clients_and_none_is_missing():
    from broker.client import errors

    table = PAGE.partition("## Errors")[2].partition("##")[0]
    named = {
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`([A-Z]\w+)`", row.split("|")[1])
    }
    there = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and kind.__base__ is errors.ClientError
    }
    assert named == there
