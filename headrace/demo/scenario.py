"""What a demo run shows: streams, models, routes. The built-in one, or one made of CSV files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from core.clock import Clock
from core.errors import NotFoundError
from headrace.demo.records import Stream
from headrace.demo.streams import PIPELINES, DemoPipeline, build_streams
from iceberg.registry import Registry
from learning.train import register_all
from pipelines.folder import Endpoint, Route


@dataclass(frozen=True)
class Scenario:
    """One demo.

    Attributes:
        pipelines: built-in pipelines, in the order of application.
        endpoint_of: pipeline to the endpoint that its predictions ask.
        train: trains and registers what the routes name; returns the versions by model.
        build: the streams of a replay that starts at a moment and lasts some seconds.
        known_data: whether the models are promised to beat their baselines, and the rates are known to be high enough for
            percentiles; nobody can promise that of recordings that we have never seen.
    """

    pipelines: Sequence[str]
    tenants: Sequence[str]
    endpoint_of: Mapping[str, str]
    endpoints: Sequence[Endpoint]
    routes: Sequence[Route]
    train: Callable[[Registry, Clock], Mapping[str, Sequence[int]]]
    build: Callable[[datetime, float], list[Stream]]
    known_data: bool = True


def built_in_scenario(seed: int, only: Sequence[str] | None = None) -> Scenario:
    """Plant, telemetry and vision, or some of them; two tenants each, with different weights for the same two models.

    Raises:
        NotFoundError: one of `only` is none of them.
    """
    names = [pipeline.name for pipeline in PIPELINES]
    for name in only or ():
        if name not in names:
            raise NotFoundError(f"the demo has no pipeline `{name}`", fix=f"It has {', '.join(names)}.")
    chosen = [pipeline for pipeline in PIPELINES if only is None or pipeline.name in only]
    return Scenario(
        pipelines=[pipeline.name for pipeline in chosen],
        tenants=[tenant for pipeline in chosen for tenant in pipeline.tenants],
        endpoint_of={pipeline.name: pipeline.endpoint for pipeline in chosen},
        endpoints=[Endpoint(tenant_id=tenant, endpoint=each.endpoint) for each in chosen for tenant in each.tenants],
        routes=built_in_routes(chosen),
        train=lambda registry, clock: register_all(registry, clock=clock),  # type: ignore[arg-type]  # learning asks for **properties
        build=lambda start, seconds: build_streams(start, seconds, seed=seed, names=[each.name for each in chosen]),
    )


def built_in_routes(pipelines: Sequence[DemoPipeline] = PIPELINES) -> list[Route]:
    """Two versions for each tenant, weighted as `streams.PIPELINES` says."""
    return [
        Route(tenant_id=share.tenant, endpoint=each.endpoint, model=each.model, version=version, weight=weight)
        for each in pipelines
        for share in each.shares
        for version, weight in enumerate(share.weights, start=1)
    ]
