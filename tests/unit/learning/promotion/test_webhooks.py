"""Webhooks reach a real HTTP server, signed, at least once, with one id over all attempts and restarts."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from core.errors import ConfigError, UnavailableError
from core.fakes.clock import ManualClock
from core.settings import RegistrySettings, Settings
from iceberg.registry import ModelVersion
from learning.promotion.lifecycle import Lifecycle, open_lifecycle
from learning.promotion.webhooks import Webhooks
from tests.unit.learning.promotion.conftest import stopped

SECRET = "whsec-test"


class Receiver:
    """Answers with the statuses it is given, then 200, and keeps what it got."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status = receiver.statuses.pop(0) if receiver.statuses else 200
                self.send_response(status)
                if status == 302:
                    self.send_header("location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.server.shutdown()
    found.server.server_close()


def verify(headers: dict[str, str], body: bytes) -> None:
    """As a receiver does by the specification, with nothing of ours."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert hmac.compare_digest(headers["webhook-signature"], f"v1,{expected}")


def test_an_event_is_signed_and_tried_again_with_the_same_id(receiver: Receiver) -> None:
    receiver.statuses = [500, 503]
    hooks = Webhooks([receiver.url], SECRET, ManualClock())
    assert hooks.post(receiver.url, "event-1", {"a": 1}) == 200
    assert len(receiver.got) == 3
    assert {headers["webhook-id"] for headers, _ in receiver.got} == {"event-1"}
    for headers, body in receiver.got:
        verify(headers, body)
        assert json.loads(body) == {"a": 1}


def test_who_never_answers_well_is_unavailable_and_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.statuses = [302, 302]
    hooks = Webhooks([receiver.url], SECRET, ManualClock(), attempts=2)
    with pytest.raises(UnavailableError, match="302"):
        hooks.post(receiver.url, "event-1", {})
    with pytest.raises(UnavailableError, match="does not answer"):
        hooks.post("http://127.0.0.1:1/", "event-1", {})


@pytest.mark.parametrize(
    ("urls", "secret"), [(["ftp://x/"], "s"), (["nonsense"], "s"), (["http://x/"], None), (["http://x/"], "")]
)
def test_webhooks_without_address_or_secret_are_refused(urls: list[str], secret: str | None) -> None:
    with pytest.raises(ConfigError):
        Webhooks(urls, secret, ManualClock())


def test_the_outbox_survives_a_restart(
    settings: Settings, clock: ManualClock, receiver: Receiver, add: Callable[..., ModelVersion]
) -> None:
    add()
    told = settings.model_copy(update={"registry": RegistrySettings(webhooks=(receiver.url,), webhook_secret=SECRET)})

    def opened(attempts: int) -> Lifecycle:
        found = open_lifecycle(told, stopped, clock)
        found.deliverer._webhooks = Webhooks([receiver.url], SECRET, clock, attempts=attempts)
        return found

    receiver.statuses = [500]
    answer = opened(1).promote("pump", 1, "staging", actor="t")
    assert {step.name.partition(":")[0]: step.state for step in answer.steps}["webhook"] == "pending"
    again = opened(1).deliverer  # as after a restart: nothing is remembered but the registry
    again.deliver_pending()
    again.deliver_pending()
    assert len(receiver.got) == 2, "once refused, once taken, then never again"
    events = [json.loads(body) for _, body in receiver.got]
    assert {headers["webhook-id"] for headers, _ in receiver.got} == {answer.decision.main.promotion_id}
    assert events[0] == events[1]
    assert (events[0]["type"], events[0]["name"], events[0]["to_stage"]) == ("model_version.stage_changed", "pump", "staging")
