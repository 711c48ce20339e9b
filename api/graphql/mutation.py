"""Mutations."""

from __future__ import annotations

import json
from datetime import datetime

import strawberry

from api.graphql.context import type_info
from api.graphql.keys import ApiKeyInput, ApiKeyType, NewApiKey
from api.graphql.models import PromotionResult, Stage
from api.identity.identity import Identity, parse_role, parse_scope
from api.identity.keys import parse_days
from api.ingest.rows import ParsedRow
from api.ingest.service import MAX_ROWS
from core.errors import InvalidInputError


@strawberry.input(description="The true label of a prediction.")
class FeedbackInput:
    prediction_id: strawberry.ID
    label: str
    labelled_at: datetime | None = strawberry.field(default=None, description="When it was given; default now.")
    source: str | None = None


@strawberry.type(description="The verdict about one label, in the order of the input.")
class FeedbackResult:
    prediction_id: strawberry.ID
    accepted: bool = strawberry.field(description="True when it is durable in the log.")
    code: str | None
    message: str | None


@strawberry.type
class Mutation:
    @strawberry.mutation(description="Send labels back, in any order, late or corrected; the last by `labelledAt` counts.")
    async def submit_feedback(
        self,
        info: type_info,
        input: list[FeedbackInput],  # noqa: A002  # the contract's name
    ) -> list[FeedbackResult]:
        if len(input) > MAX_ROWS:
            raise InvalidInputError(f"there are more than {MAX_ROWS} labels", fix="Send them in several requests.")
        rows = [_row(number, label) for number, label in enumerate(input)]
        answer = await info.context.services.ingestion.labels(info.context.caller("feedback").tenant, rows)
        rejected = {refusal.row: refusal for refusal in answer.rejected}
        return [
            FeedbackResult(
                prediction_id=label.prediction_id,
                accepted=number not in rejected,
                code=rejected[number].code if number in rejected else None,
                message=rejected[number].message if number in rejected else None,
            )
            for number, label in enumerate(input)
        ]

    @strawberry.mutation(
        description="Move a version into a stage if it meets every requirement of the policy; refused or not, every check is told. "
        "Needs the role admin."
    )
    async def promote_model(self, info: type_info, name: str, version: int, to: Stage) -> PromotionResult:
        caller = info.context.caller("administer")
        lifecycle = info.context.services.must_decide_models()
        return PromotionResult.of(await lifecycle.promote(name, version, to.value, actor=_actor(caller)))

    @strawberry.mutation(
        description="Give production back to the version that had it before, or to `to`, with the routes from before. Needs the role admin."
    )
    async def rollback_model(self, info: type_info, name: str, to: int | None = None) -> PromotionResult:
        caller = info.context.caller("administer")
        lifecycle = info.context.services.must_decide_models()
        return PromotionResult.of(await lifecycle.roll_back(name, to, actor=_actor(caller)))

    @strawberry.mutation(description="Make a key for this tenant; its text is shown this once. Needs the role admin.")
    async def create_api_key(self, info: type_info, input: ApiKeyInput) -> NewApiKey:  # noqa: A002  # the contract's name
        tenant = info.context.caller("administer").tenant
        services = info.context.services
        key, text = await services.keys.create(
            tenant,
            parse_role(input.role),
            services.clock.now(),
            scopes=None if input.scopes is None else frozenset(parse_scope(scope) for scope in input.scopes),
            valid=None if input.days is None else parse_days(input.days),
            note=input.note,
        )
        await services.authenticator.access.look()
        return NewApiKey(key=text, api_key=ApiKeyType.of(key))

    @strawberry.mutation(description="Take a key's validity away, at once. Needs the role admin.")
    async def revoke_api_key(self, info: type_info, id: strawberry.ID) -> ApiKeyType:  # noqa: A002  # the contract's name
        tenant = info.context.caller("administer").tenant
        services = info.context.services
        key = await services.keys.revoke(str(id), services.clock.now(), tenant=tenant)
        await services.authenticator.access.look()
        return ApiKeyType.of(key)


def _actor(caller: Identity) -> str:
    """Who asks, for the record."""
    return f"graphql:{caller.tenant}:{caller.subject or caller.method}"


def _row(number: int, label: FeedbackInput) -> ParsedRow:
    value = {
        "prediction_id": str(label.prediction_id),
        "label": label.label,
        "labelled_at": label.labelled_at.isoformat() if label.labelled_at else None,
        "source": label.source,
    }
    return ParsedRow(number, json.dumps(value).encode(), value)
