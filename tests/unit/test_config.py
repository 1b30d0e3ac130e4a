"""A configuration that must not start says what is wrong, and how to mend it."""

import pytest

from broker import app, config, development
from broker.errors import ConfigError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return development.create(tmp_path_factory.mktemp("config") / "link", ports={"us": 1, "mx": 2})


def changed(made, before: str, after: str):
    path = made.configs["us"].with_name("changed.toml")
    path.write_text(made.configs["us"].read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
    return path


def test_a_gateway_does_not_start_with_another_agreement_than_its_configuration_names(made):
    settings = config.load(changed(made, 'agreement_digest = "', 'agreement_digest = "00'))
    with pytest.raises(ConfigError, match="not the one") as refused:
        app.gateway(settings, app.load_code("us"))
    assert refused.value.mend


def test_a_development_agreement_is_refused_outside_development(made):
    settings = config.load(changed(made, "development = true", "development = false"))
    with pytest.raises(ConfigError, match="development"):
        app.gateway(settings, app.load_code("us"))


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ('party = "us"', 'partty = "us"', "unknown key"),
        ('party = "us"', "", "lacks party"),
        ('kind = "sqlite"', 'kind = "pigeon"', "kind"),
        ('party = "us"', "party =", "not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(made, before, after, what):
    with pytest.raises(ConfigError, match=what):
        config.load(changed(made, before, after))
