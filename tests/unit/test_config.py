"""A configuration that must not start says what is wrong, and how to mend it."""

import pytest

from broker import agreement, app, config, development, keys
from broker.errors import AgreementError, ConfigError
from broker.v1 import agreement_pb2


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


def successor(made, change=lambda _: None):
    """(file, digest) of the next agreement, signed by the roots of both."""
    old = agreement.load((made.folder / "us" / "agreement.bin").read_bytes())
    document = agreement_pb2.AgreementDocument.FromString(agreement_pb2.Agreement.FromString(old.data).document)
    document.version, document.previous, document.not_before_ms = 2, old.digest, document.not_before_ms + 1
    change(document)
    roots = [keys.read_key_file(made.folder / "roots" / f"{party}.json").seed for party in ("us", "mx")]
    data = agreement.build(document, [keys.SigningKey.from_seed(seed) for seed in roots])
    path = made.configs["us"].with_name("agreement-2.bin")
    path.write_bytes(data)
    return path.name, agreement.load(data).digest.hex()


def with_successor(made, digest=None, change=lambda _: None):
    file, real = successor(made, change)
    table = f'[[agreements]]\nfile = "{file}"\ndigest = "{digest or real}"\n\n[tls]'
    return config.load(changed(made, "[tls]", table))


def test_a_configuration_may_name_the_next_agreement_too(made):
    settings = with_successor(made)
    gateway = app.gateway(settings, app.load_code("us"))
    assert [one.version for one in gateway.link.agreements] == [1, 2]
    gateway.close()


@pytest.mark.parametrize(
    ("how", "error", "what"),
    [
        ({"digest": "00" * 32}, ConfigError, "not the one"),
        ({"change": lambda d: setattr(d, "link_id", bytes(16))}, AgreementError, "another link"),
        ({"change": lambda d: setattr(d, "version", 3)}, AgreementError, "next version"),
        ({"change": lambda d: setattr(d.families[0], "partitions", 9)}, AgreementError, "slots and partitions"),
    ],
)
def test_a_next_agreement_that_does_not_follow_is_refused_with_a_reason(made, how, error, what):
    settings = with_successor(made, **how)
    with pytest.raises(error, match=what):
        app.load_agreements(settings)


@pytest.mark.parametrize("text", ["agreements = 3", "[agreements]", "agreements = [3]"])
def test_agreements_that_are_no_list_of_tables_are_named(made, text):
    with pytest.raises(ConfigError, match="agreements"):
        config.load(changed(made, 'party = "us"', f'party = "us"\n{text}' if "=" in text else text))


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
        ('listen = "127.0.0.1:1"', 'listen = "127.0.0.1:99999"', "port up to 65535"),
        ('listen = "127.0.0.1:1"', 'listen = "nonsense"', "host:port"),
    ],
)
def test_a_mistake_in_the_file_is_named(made, before, after, what):
    with pytest.raises(ConfigError, match=what):
        config.load(changed(made, before, after))


def test_two_gateways_do_not_run_on_one_data_folder_and_the_next_one_may_when_the_first_has_ended(made):
    settings, code = config.load(made.configs["us"]), app.load_code("us")
    first = app.gateway(settings, code)
    with pytest.raises(ConfigError, match="another gateway runs"):
        app.gateway(settings, code)
    first.close()
    app.gateway(settings, code).close()
