"""`/graphql`: POST and GET for queries, the websocket for subscriptions (graphql-transport-ws)."""

from __future__ import annotations

import logging
from datetime import timedelta

import strawberry
from starlette.requests import HTTPConnection
from strawberry.exceptions import ConnectionRejectionError
from strawberry.fastapi import GraphQLRouter
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.types.unset import UNSET, UnsetType

from api.graphql.context import Context, Services
from api.graphql.sharing import encode_message
from api.identity.authenticator import Authenticator
from core.errors import HeadraceError

logger = logging.getLogger(__name__)

_INIT_SECONDS = 10  # a socket that says nothing for so long is closed
_MAX_OPERATIONS = 20  # per socket


class _SocketHandler(BaseGraphQLTransportWSHandler[Context, None]):
    """Takes a client that is gone while it is being sent something for what it is: not an error."""

    async def handle_task_exception(self, error: Exception) -> None:
        if not isinstance(error, WebSocketDisconnected):
            logger.error("operation on a socket failed", exc_info=error)


def build_router(schema: strawberry.Schema, services: Services, authenticator: Authenticator) -> GraphQLRouter[Context, None]:
    """The route that answers GraphQL.

    A request is authenticated by its headers. A socket is by its `connection_init`, whose payload may hold
    `authorization`, or by the headers of its upgrade; so scripts and browsers both can.
    """

    async def context_of(connection: HTTPConnection) -> Context:
        if connection.scope["type"] == "websocket":
            return Context(services, None)
        return Context(services, await authenticator.authenticate(connection))

    class Router(GraphQLRouter[Context, None]):
        graphql_transport_ws_handler_class = _SocketHandler

        def encode_json(self, data: object) -> str:
            return encode_message(data)

        async def on_ws_connect(self, context: Context) -> UnsetType | dict[str, object] | None:
            given = context.connection_params or {}
            bearer = next((str(value) for name, value in given.items() if name.lower() == "authorization"), None)
            try:
                connection = context.request
                assert connection is not None, "the endpoint sets it before it calls"
                context.identity = await authenticator.authenticate(connection, bearer=bearer)
            except HeadraceError as error:
                raise ConnectionRejectionError from error
            acknowledged: UnsetType = UNSET  # strawberry declares its marker as Any
            return acknowledged

    return Router(
        schema,
        path="/graphql",
        graphql_ide=None,  # its page loads scripts from elsewhere
        context_getter=context_of,
        subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL],
        connection_init_wait_timeout=timedelta(seconds=_INIT_SECONDS),
        max_subscriptions_per_connection=_MAX_OPERATIONS,
        allowed_origins=(),
        tags=["GraphQL"],
    )
