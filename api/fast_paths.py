"""The two paths that are called hundreds of times a second, past the framework: `POST /predict` and V2 inference.

FastAPI's routing, dependencies, telemetry and exit stacks cost more than the prediction of a row. So what uvicorn calls is the
guard, behind it this, and then FastAPI. The routes of these paths stay for the documentation of the API, and answer alike
where this is not in front.
"""

from __future__ import annotations

import logging
import re

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.problems import problem, problem_of, status_of
from api.identity.authenticator import Authenticator
from api.inference.routes import PATH, answer_predict
from api.inference.service import Inference
from api.v2.routes import answer_infer
from api.v2.service import V2
from core.errors import HeadraceError

logger = logging.getLogger(__name__)

_INFER = re.compile(r"/v2/models/(?P<name>[^/]+)(/versions/(?P<version>[^/]+))?/infer")


class FastPaths:
    """ASGI middleware that answers what it knows and passes everything else on."""

    def __init__(self, app: ASGIApp, *, inference: Inference, v2: V2, authenticator: Authenticator) -> None:
        self._app = app
        self._inference = inference
        self._v2 = v2
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            response = await self._answer(scope, receive)
        except ClientDisconnect:
            return
        except HeadraceError as error:
            if status_of(error)[0] == 500:
                logger.error("request failed", exc_info=error)
            response = problem_of(error)
        except Exception:  # the last frame: nobody behind would tell it
            logger.exception("request failed unexpectedly")
            response = problem(500, "internal", "an unexpected error; the server's log has the details")
        await (response or self._app)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response | None:
        path = scope["path"]
        if path == PATH:
            return await answer_predict(self._inference, self._authenticator, Request(scope, receive))
        match = _INFER.fullmatch(path)
        if match is None:
            return None
        return await answer_infer(self._v2, self._authenticator, Request(scope, receive), match["name"], match["version"])
