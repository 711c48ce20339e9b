"""What an operator can ask a UDF server, as Flight actions with JSON bodies: how it is, and changes without a gap.

    health                                    what it serves; answers as long as the process does
    ready                                     whether it takes batches, and why not; for a probe or a load balancer
    load_model   {model, version}             fetch, check and warm a model beside those that serve, before a route names it
    reload                                    take new functions and versions from the folder; what is served goes on
    trial        {function, version, tolerance}   run a version beside the live one on the same batches
    trial_report {function}                   what was found so far
    end_trial    {function}                   stop it
    cut_over     {function, version}          from the next batch on, the bare name means that version; ends the trial

What changes functions for everybody (from `reload` on) is answered to callers on the same machine only.

An error of ours is answered as `{"error": {"kind", "what", "where", "fix"}}`; `UdfClient.act` raises it again.
"""

from __future__ import annotations

import ipaddress
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from core.errors import HeadraceError, InvalidInputError, NotFoundError
from udfs.functions.table import FunctionTable, check_same_signature
from udfs.functions.trial import Trial
from udfs.route import ModelKey, RowError
from udfs.sessions import ModelSessions

Answer = Mapping[str, Any]  # Any: JSON
LOCAL_ONLY = frozenset({"reload", "trial", "end_trial", "cut_over"})


class Control:
    """The actions of one server.

    Args:
        table: the functions.
        sessions: the models; None for a server without.
        health: more fields of `health`.
        check: raises when something the server depends on does not answer.
    """

    def __init__(
        self,
        table: FunctionTable,
        sessions: ModelSessions | None = None,
        *,
        health: Callable[[], Answer] = dict,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        self._table, self._sessions, self._health, self._check = table, sessions, health, check
        self._lock = threading.Lock()
        self._trials: dict[str, Trial] = {}  # by the name of the old version
        self.draining = False
        self.actions: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Answer]]] = {
            "health": ("State of the server as a JSON object.", self._tell_health),
            "ready": ("Whether it takes batches now.", self._tell_ready),
            "load_model": ("Warm a model version.", self._load_model),
            "reload": ("Load the folder of functions again.", lambda _: {"new": self._table.reload()}),
            "trial": ("Run a version of a function beside the live one.", self._start_trial),
            "trial_report": ("What a trial found so far.", lambda body: self._must_get_trial(body).report()),
            "end_trial": ("Stop a trial.", self._end_trial),
            "cut_over": ("Make a version the live one.", self._cut_over),
        }

    def act(self, name: str, body: bytes, *, local: bool = True) -> bytes:
        """Answer one action; errors of ours are answers too.

        Args:
            local: whether the caller is on the same machine.
        """
        try:
            if name in LOCAL_ONLY and not local:
                raise InvalidInputError(
                    f"`{name}` changes functions for everybody and is answered on the server's own machine only",
                    fix="Run the command there.",
                )
            try:
                told = json.loads(body) if body else {}
            except ValueError as problem:
                raise InvalidInputError(f"the body of `{name}` is no JSON: {problem}") from problem
            if not isinstance(told, dict):
                raise InvalidInputError(f"the body of `{name}` is no JSON object")
            return json.dumps(self.actions[name][1](told)).encode()
        except HeadraceError as problem:
            error = {"kind": type(problem).__name__, "what": problem.what, "where": problem.where, "fix": problem.fix}
            return json.dumps({"error": error}).encode()

    def trial_of(self, function: str) -> Trial | None:
        """The trial in which a version (`name@version`) is the old one."""
        return self._trials.get(function)

    def end_trials(self) -> None:
        with self._lock:
            for trial in self._trials.values():
                trial.end()
            self._trials.clear()

    def _tell_health(self, _body: Mapping[str, Any]) -> Answer:
        status = "draining" if self.draining else "ok"
        return {"status": status, "functions": self._table.names(), "live": self._table.live(), **self._health()}

    def _tell_ready(self, _body: Mapping[str, Any]) -> Answer:
        if self.draining:
            return {"ready": False, "reason": "the server is stopping"}
        try:
            self._check()
        except Exception as problem:  # noqa: BLE001  of whatever the server depends on: it is the answer
            return {"ready": False, "reason": f"a dependency does not answer: {problem}"}
        return {"ready": True, "reason": None}

    def _load_model(self, body: Mapping[str, Any]) -> Answer:
        if self._sessions is None:
            raise InvalidInputError("this server has no models")
        key = ModelKey(_text(body, "model"), _integer(body, "version"))
        found = self._sessions.get(key)
        if isinstance(found, RowError):
            return {"ready": False, "code": found.code, "message": found.message}
        return {"ready": True, "features": found.signature.n_features, "classes": list(found.signature.classes)}

    def _start_trial(self, body: Mapping[str, Any]) -> Answer:
        name, version = _text(body, "function"), _integer(body, "version")
        old = self._table.must_get_version(name, self._live(name))
        new = self._table.must_get_version(name, version)
        if old is new:
            raise InvalidInputError(f"`{new._name}` is the live version already", fix="Name another one.")
        check_same_signature(old, new)
        trial = Trial(old, new, tolerance=float(body.get("tolerance", 0.0)))
        with self._lock:
            before = self._trials.get(old._name)
            self._trials[old._name] = trial
        if before is not None:
            before.end()
        return trial.report()

    def _end_trial(self, body: Mapping[str, Any]) -> Answer:
        trial = self._must_get_trial(body)
        with self._lock:
            self._trials.pop(trial.old._name, None)
        trial.end()
        return trial.report()

    def _cut_over(self, body: Mapping[str, Any]) -> Answer:
        name, version = _text(body, "function"), _integer(body, "version")
        self._live(name)
        before = self._table.cut_over(name, version)
        with self._lock:
            trial = self._trials.pop(f"{name}@{before}", None)
        if trial is not None:
            trial.end()
        return {"function": name, "from": before, "to": version}

    def _must_get_trial(self, body: Mapping[str, Any]) -> Trial:
        name = _text(body, "function")
        trial = self._trials.get(f"{name}@{self._live(name)}")
        if trial is None:
            raise NotFoundError(f"no version of `{name}` is being tried", fix="Start one with `headrace udfs swap`.")
        return trial

    def _live(self, name: str) -> int:
        live = self._table.live().get(name)
        if live is None:
            known = ", ".join(self._table.live()) or "none"
            raise NotFoundError(f"there is no function `{name}` of a folder; there are {known}")
        return live


def is_local(peer: str) -> bool:
    """Whether gRPC's name of a peer, e.g. `ipv4:127.0.0.1:5000`, is an address of this machine's loopback."""
    kind, _, address = peer.partition(":")
    host = address.rpartition(":")[0].strip("[]").replace("%5B", "").replace("%5D", "")
    if kind == "unix":
        return True
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def offer_to_trial(
    control: Control, function: str, arguments: pa.RecordBatch, answers: list[pa.RecordBatch], took: float
) -> None:
    """Hand a batch that was answered to the trial that wants it, if one does."""
    trial = control.trial_of(function)
    if trial is not None and len(answers) == 1:
        trial.offer(arguments, answers[0], took)


def _text(body: Mapping[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str):
        raise InvalidInputError(f"`{field}` must be a text, got `{value}`")
    return value


def _integer(body: Mapping[str, Any], field: str) -> int:
    value = body.get(field)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInputError(f"`{field}` must be an integer, got `{value}`")
    return value
