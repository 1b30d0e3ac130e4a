"""What an agency system imports; needs none of the gateway's dependencies."""

from broker.client.blocking import BlockingClient
from broker.client.calls import Credentials, Patience
from broker.client.catalog import Catalog
from broker.client.client import Client
from broker.client.delivery import Delivery, Origin, RecallAsked, Withheld
from broker.client.receiver import Receiver
from broker.client.store import Journal
from broker.client.submission import Submitted

__all__ = [
    "BlockingClient",
    "Catalog",
    "Client",
    "Credentials",
    "Delivery",
    "Journal",
    "Origin",
    "Patience",
    "RecallAsked",
    "Receiver",
    "Submitted",
    "Withheld",
]
