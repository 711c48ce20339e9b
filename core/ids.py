"""Identifiers that the type checker keeps apart, and how a prediction is named."""

from __future__ import annotations

from typing import NewType

TenantId = NewType("TenantId", str)
EntityId = NewType("EntityId", str)
PredictionId = NewType("PredictionId", str)
Epoch = NewType("Epoch", int)
SnapshotId = NewType("SnapshotId", int)
