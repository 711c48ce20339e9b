"""The GraphQL schema as a whole, and its text."""

from __future__ import annotations

from pathlib import Path

import strawberry
from graphql import GraphQLError
from strawberry.extensions import MaxAliasesLimiter, MaxTokensLimiter, ParserCache, QueryDepthLimiter, ValidationCache
from strawberry.types import ExecutionContext

from api.graphql.errors import TellErrors
from api.graphql.mutation import Mutation
from api.graphql.query import Query
from api.graphql.scalars import CONFIG
from api.graphql.sharing import SharingExecutor
from api.graphql.subscription import Subscription

SCHEMA_FILE = Path(__file__).with_name("schema.graphql")

# The deepest useful query (predictions, edges, node, members, value) has 5 levels; a client's introspection has 13.
_MAX_DEPTH, _MAX_ALIASES, _MAX_TOKENS = 15, 30, 2000
_CACHED_DOCUMENTS = 256


class _Schema(strawberry.Schema):
    """Leaves logging to `TellErrors`, which knows what is a surprise."""

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        pass


def build_schema() -> strawberry.Schema:
    """The schema with its limits."""
    return _Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        config=CONFIG,
        execution_context_class=SharingExecutor,
        extensions=[
            lambda: QueryDepthLimiter(max_depth=_MAX_DEPTH),
            lambda: MaxAliasesLimiter(max_alias_count=_MAX_ALIASES),
            lambda: MaxTokensLimiter(max_token_count=_MAX_TOKENS),
            lambda: ParserCache(maxsize=_CACHED_DOCUMENTS),
            lambda: ValidationCache(maxsize=_CACHED_DOCUMENTS),
            TellErrors,
        ],
    )


def export() -> str:
    """The schema in the schema definition language, as `api/schema.graphql` holds it."""
    return build_schema().as_str() + "\n"
