"""OversightService: every decision and the law behind it, for officers and auditors. Never a payload."""

import asyncio
from collections import OrderedDict
from typing import Final

import policy
from broker import decision as ruling
from broker import obligations
from broker.app import Gateway
from broker.decision import Secrets, context_of, request_of
from broker.errors import InvalidError, NotFoundError, VaultError
from broker.gateway import filters
from broker.gateway.exchange import page_row, page_size
from broker.identity import Principal
from broker.ledger.decisions import StoredDecision
from broker.sections import families
from broker.v1 import oversight_service_pb2 as pb
from policy.explain import Explanation, Logged, explain, from_log

FORMER_PACKS: Final = 4
"""Engines of packs that are no longer in force, kept for the next question about them."""


class LanguageInvalid(InvalidError):
    """A language that explanations do not exist in."""

    reason = "FIELD_INVALID"


class OversightService:
    """Reads the decisions log's index; explains from the sealed context."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._former: OrderedDict[bytes, policy.PolicyEngine] = OrderedDict()

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
        return _explanation(stored, await self._explained(stored, language), language)

    async def _explained(self, stored: StoredDecision, language: str) -> Explanation:
        """By the pack that decided, and where it comes to the same; else what the log holds, and why no more."""
        engine = await self._deciding(stored.record.pack_digest)
        if engine is None:
            return from_log(_logged(stored), "pack", language)
        try:
            asked = self._asked(stored)
        except VaultError:
            return from_log(_logged(stored), "question", language)
        decision = obligations.within_reach(engine.consider(asked))
        if not ruling.same_outcome(stored.record, decision):
            return from_log(_logged(stored), "another", language)
        return explain(engine, asked, decision, language)

    async def _deciding(self, digest: bytes) -> policy.PolicyEngine | None:
        """The engine of the packs of this digest: in force, or kept; None when it can be had no more."""
        if digest == self._gateway.engine.pack_digest:
            return self._gateway.engine
        if digest not in self._former:
            kept = self._gateway.ledger.read(lambda tx: tx.packs.sources(digest))
            try:
                found = await asyncio.to_thread(policy.restore, self._gateway.link.party, kept)
            except policy.PackError:
                return None
            if found.pack_digest != digest:
                return None
            self._former[digest] = found
            while len(self._former) > FORMER_PACKS:
                self._former.popitem(last=False)
        return self._former[digest]

    def _asked(self, stored: StoredDecision) -> policy.Request:
        """What was asked, opened. Raises VaultError when it was destroyed."""
        gateway = self._gateway
        secrets = Secrets.opened(gateway.vault, stored.key_id, gateway.ledger.keys.opening(stored.key_id))
        packed = gateway.vault.open(secrets.opening_key, stored.record.context, stored.key_id)
        return request_of(context_of(packed), stored.record.law_ms)


def _logged(stored: StoredDecision) -> Logged:
    record = stored.record
    known = families().get(record.family)
    categories = {section.name: section.category for section in known.sections} if known else {}
    return Logged(
        permit=record.permit,
        sender=record.origin,
        recipient=record.recipient,
        purpose=ruling.purpose_name(record.purpose),
        rules=record.rules.split(),
        withheld=[(name, categories.get(name, "")) for name in record.withheld.split()],
        obligations=ruling.obligations_of(record),
        pack_digest=record.pack_digest,
    )


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
        missing=said.missing,
    )
