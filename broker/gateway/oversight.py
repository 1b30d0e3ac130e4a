"""OversightService: every decision and the law behind it, for officers and auditors. Never a payload."""

from broker.app import Gateway
from broker.decision import Secrets, request_of
from broker.errors import InvalidError, NotFoundError
from broker.gateway import filters
from broker.gateway.exchange import page_row, page_size
from broker.identity import Principal
from broker.ledger.decisions import StoredDecision
from broker.v1 import oversight_service_pb2 as pb
from policy.explain import Explanation, explain


class LanguageInvalid(InvalidError):
    """A language that explanations do not exist in."""

    reason = "FIELD_INVALID"


class OversightService:
    """Reads the decisions log's index; explains from the sealed context."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def list_decisions(self, caller: Principal, request: pb.ListDecisionsRequest) -> pb.ListDecisionsResponse:
        """Newest first, filtered."""
        del caller
        where, values = filters.parse(request.filter)
        size, before = page_size(request.page_size), page_row(request.page_token)
        found = self._gateway.ledger.read(lambda tx: tx.decisions.page(where, values, before, size))
        token = str(found[-1].row) if len(found) == size else ""
        return pb.ListDecisionsResponse(decisions=[_view(d) for d in found], next_page_token=token)

    async def explain_decision(
        self, caller: Principal, request: pb.ExplainDecisionRequest
    ) -> pb.ExplainDecisionResponse:
        """What was asked, what decided it, the law with its date, what was withheld, what would have changed it."""
        del caller
        language = request.language or "en"
        if language not in {"en", "es"}:
            raise LanguageInvalid("explanations are in en and es")
        stored = self._gateway.ledger.read(lambda tx: tx.decisions.get(request.decision_id))
        if stored is None:
            raise NotFoundError("no such decision")
        gateway, record = self._gateway, stored.record
        secrets = Secrets.opened(gateway.vault, stored.key_id, gateway.ledger.keys.opening(stored.key_id))
        context = gateway.vault.open(secrets.opening_key, record.context, stored.key_id)
        asked = request_of(context, record.law_ms)
        said = explain(gateway.engine, asked, gateway.engine.consider(asked), language)
        return _explanation(stored, said, language)


def _view(stored: StoredDecision) -> pb.DecisionView:
    record = stored.record
    return pb.DecisionView(
        decision_id=record.leaf,
        time_ms=record.time_ms,
        action=record.action,
        permit=record.permit,
        family=record.family,
        kind=record.kind,
        origin_agency=record.origin,
        recipient_agency=record.recipient,
        purpose=record.purpose,  # type: ignore[arg-type]
        rules=record.rules.split(),
        withheld=record.withheld.split(),
        obligations=record.obligations.split(),
        pack_digest=record.pack_digest,
        law_ms=record.law_ms,
    )


def _explanation(stored: StoredDecision, said: Explanation, language: str) -> pb.ExplainDecisionResponse:
    return pb.ExplainDecisionResponse(
        decision=_view(stored),
        summary=said.summary,
        rules=[
            pb.RuleView(
                id=rule.id,
                effect=rule.effect,
                says=rule.says,
                cites=[
                    pb.Instrument(
                        id=i.id,
                        citation=i.citation,
                        says=i.says_es if language == "es" else i.says_en,
                        in_force_from=str(i.effective).partition("/")[0],
                        in_force_to=str(i.effective).partition("/")[2],
                        verified=i.verified,
                    )
                    for i in rule.cites
                ],
            )
            for rule in said.rules
        ],
        withheld=[
            pb.WithheldView(section=w.section, category=w.category, rule=w.rule, says=w.says) for w in said.withheld
        ],
        obligations=said.obligations,
        would_change=said.would_change,
    )
