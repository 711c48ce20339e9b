"""The settings of the whole platform, as one frozen tree.

Nothing here reads the environment: `headrace.config` does that once, and hands every other object what it needs. Names
and defaults are those of the contracts; the defaults run everything on a laptop with the embedded parts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

LOOPBACK = "127.0.0.1"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EngineSettings(_Frozen):
    """How the embedded stream database runs."""

    epoch_interval_ms: int = Field(
        250, ge=1, description="Longest time between two barriers while there is input, milliseconds; light ones come sooner."
    )
    epoch_max_rows: int = Field(
        20_000, ge=1, description="A barrier is cut early when this many source rows are waiting; more while catching up."
    )
    backfill_rows: int = Field(
        50_000, ge=1, description="A new view takes so many rows of an existing table in an epoch; smaller ones at once."
    )
    memory_limit: str = Field("4GB", description="DuckDB's memory limit; beyond it operators spill to `temp_directory`.")
    temp_directory: Path | None = Field(None, description="Where is spilled; default: the folder `spill` in the data folder.")
    max_temp_directory_size: str | None = Field(
        None, description="What may be spilled, e.g. `20GB`; default: 90 % of the free space at the time of opening."
    )
    threads: int = Field(2, ge=1, description="DuckDB's worker threads.")
    sink_backlog_rows: int = Field(
        5_000_000,
        ge=1,
        description="When so many rows of a sink wait for delivery, its sources are read no further and its tables take no rows.",
    )
    statement_timeout_seconds: float = Field(60.0, gt=0, description="A read that runs longer is interrupted.")
    python_udfs: bool | None = Field(
        None,
        description="Whether `LANGUAGE python` functions may be created and run; empty: if the engine listens on loopback.",
    )
    python_udf_workers: int = Field(2, ge=1, description="Processes that run Python functions, started when first needed.")
    python_udf_row_seconds: float = Field(
        2.0, gt=0, description="A Python function may take so long for a row, an aggregate for a group."
    )
    python_udf_memory_mb: int = Field(1024, ge=256, description="What one of these processes may allocate.")
    metrics_port: int | None = Field(
        4568, ge=0, le=65_535, description="Prometheus text on this port; 0 takes a free one, empty serves none."
    )
    lake_warehouse: str | None = Field(None, description="Sinks into this warehouse use `lake_access`; filled in by headrace.")
    lake_catalog_uri: str | None = Field(None, description="The catalog that tokens in `lake_access` are for; filled in, too.")
    lake_access: dict[str, SecretStr] = Field(
        default={}, description="Options of such a sink that need not stand in SQL, filled in from `s3` and `catalog_token`."
    )


class BrokerSettings(_Frozen):
    """How the embedded broker runs."""

    fsync: Literal["group", "interval", "never"] = Field(
        "group", description="`group`: one fdatasync covers all waiting produce requests, before any is acknowledged."
    )
    fsync_interval_ms: int = Field(5, ge=0, description="Used by fsync = interval.")
    segment_bytes: int = Field(64 * 1024 * 1024, ge=1024)
    max_message_bytes: int = Field(8 * 1024 * 1024, ge=1024)
    auto_create_topics: bool = Field(True, description="A topic that a client asks for is created with the defaults below.")
    default_partitions: int = Field(1, ge=1, le=10_000)
    auto_create_timestamp_type: Literal["LogAppendTime", "CreateTime"] = Field(
        "LogAppendTime", description="Of topics the broker creates by itself: latency and skew are measured by append time."
    )


class ExperimentSettings(_Frozen):
    """What an experiment is created with when its request does not say."""

    allocation_strategy: Literal["thompson_sampling", "fixed_split", "epsilon_greedy"] = Field(
        "thompson_sampling", description="How units are dealt; also `DEFAULT_ALLOCATION_STRATEGY`."
    )
    traffic_percentage: float = Field(
        100.0, gt=0, le=100, description="Share of the units that take part; also `DEFAULT_TRAFFIC_PERCENTAGE`."
    )


class TokenSettings(_Frozen):
    """Which JSON web tokens the API takes; none while there is neither a secret nor a JWKS."""

    secret: SecretStr | None = Field(None, description="Shared secret of HS256 tokens, for development.", min_length=32)
    jwks_url: str | None = Field(None, description="Where the issuer publishes its keys, for RS256 and ES256.")
    jwks_seconds: float = Field(300.0, gt=0, description="The issuer's keys are fetched again after so long.")
    issuer: str | None = Field(None, description="Required `iss`; empty takes any.")
    audience: str = Field("headrace", description="Required `aud`.")
    tenant_claim: str = Field("tenant", description="The claim that names the tenant.")
    roles_claim: str = Field("roles", description="The claim that names roles: a text or a list.")
    leeway_seconds: float = Field(10.0, ge=0, le=300, description="Difference of clocks that is forgiven.")


class LimitSettings(_Frozen):
    """How often a tenant may do what, e.g. `100/second; 1000/minute`; empty does not limit."""

    read: str | None = Field(None, description="Queries, and fields of GraphQL that read.")
    feedback: str | None = Field(None, description="Requests with labels.")
    ingest: str | None = Field(None, description="Requests with events or batches.")
    predict: str | None = Field(None, description="Requests for predictions.")
    operate: str | None = Field(None, description="Changes of experiments, routes and models.")
    administer: str | None = Field(None, description="Changes of keys, and reads of an admin.")


class SessionSettings(_Frozen):
    """Sessions of people in a browser."""

    hours: float = Field(12.0, gt=0, description="Length of a session.")
    secret: SecretStr | None = Field(
        None, description="Signs sessions; default: a file in the data folder. Several API processes need the same one."
    )
    secure: bool = Field(False, description="The cookie is sent over https only; switch on behind TLS.")


class S3Settings(_Frozen):
    """How a warehouse `s3://BUCKET/PREFIX` is reached; what is empty is left to the AWS environment of the process."""

    endpoint: str | None = Field(
        None, description="Address of an S3 server that is not Amazon's, e.g. `http://127.0.0.1:9000`."
    )
    region: str = Field("us-east-1", description="Region of the bucket.")
    access_key: SecretStr | None = Field(None, description="Access key id.")
    secret_key: SecretStr | None = Field(None, description="Secret access key.")
    path_style: bool = Field(True, description="Buckets are paths of the endpoint (MinIO and most others), not host names.")


class MaintenanceSettings(_Frozen):
    """How the lake is looked after by itself; an interval of 0 switches a task off."""

    enabled: bool = Field(True, description="Whether `headrace dev` runs the maintenance process.")
    compact_seconds: float = Field(300.0, ge=0, description="Small files and dead rows are compacted so often.")
    expire_seconds: float = Field(1800.0, ge=0, description="Old snapshots are forgotten so often.")
    orphans_seconds: float = Field(21_600.0, ge=0, description="Files that nobody needs are removed so often.")
    retain_hours: float = Field(168.0, gt=0, description="Time travel reaches so far back ...")
    max_snapshots: int = Field(
        5_000, ge=1, description="... or so many commits, whichever is less: each costs every later commit some 9 microseconds."
    )
    keep_last: int = Field(100, ge=1, description="So many of the newest snapshots are kept at any age.")
    grace_minutes: float = Field(15.0, ge=0, description="Who reads a snapshot has at least so long, whatever the above say.")
    orphan_age_hours: float = Field(24.0, gt=0, description="A younger file may belong to a commit in flight.")
    commits_per_pass: int = Field(4, ge=1, description="A table's compaction leaves the rest to the next pass after so many.")


class RegistrySettings(_Frozen):
    """How models come into production, and who is told."""

    policy: Path | None = Field(
        None, description="YAML with the requirements of each stage; its stages stand instead of the built-in ones."
    )
    webhooks: tuple[str, ...] = Field(
        (), description='URLs that are told of each change of stage, as JSON, e.g. `["https://example.org/hook"]`.'
    )
    webhook_secret: SecretStr | None = Field(None, description="Signs the webhooks (HMAC-SHA256); needed where there are any.")


class Settings(_Frozen):
    """Everything that can be set. Each field is `HEADRACE_<NAME>` in the environment, nested ones with `__`."""

    data_dir: Path = Field(Path(".headrace"), description="Holds all state.")
    database_url: str = Field(f"postgresql://root@{LOOPBACK}:4566/dev", description="The stream database: ours or RisingWave.")
    kafka: str = Field(f"{LOOPBACK}:9092", description="Bootstrap servers of the broker: ours or Kafka.")
    udf_url: str = Field(f"http://{LOOPBACK}:8815", description="Where the stream database finds the UDF server.")
    udf_functions: Path | None = Field(
        None, description="Folder of Python files with functions of your own for the UDF server."
    )
    api_host: str = LOOPBACK
    api_port: int = Field(8000, ge=0, le=65535)
    api_extra_ports: tuple[int, ...] = Field(
        (), description="Other ports on which the same API answers, as JSON, e.g. `[8001, 8002, 8050]`."
    )
    v2_grpc_port: int | None = Field(
        8001, ge=0, le=65535, description="gRPC of the V2 inference protocol; 8081 when 8001 is one of `api_extra_ports`."
    )
    maintenance_port: int = Field(
        0, ge=0, le=65535, description="State and metrics of the maintenance process; 0 takes a free one."
    )
    catalog_type: Literal["jdbc", "rest"] = "jdbc"
    catalog_uri: str | None = Field(None, description="Default: a SQLite file in the data folder (`jdbc:sqlite:PATH`).")
    catalog_token: SecretStr | None = Field(None, description="Bearer token for a REST catalog.")
    catalog_credential: SecretStr | None = Field(None, description="`CLIENT_ID:CLIENT_SECRET` for a REST catalog with OAuth2.")
    warehouse: str | None = Field(
        None, description="Default: the folder `warehouse` in the data folder; or `s3://BUCKET/PREFIX`."
    )
    s3: S3Settings = S3Settings()
    auth: Literal["development", "required"] = Field(
        "development", description="`development`: loopback callers without credentials are tenant `default`."
    )
    api_keys: dict[str, SecretStr] = Field(
        default={},
        description="Development keys: tenant to key, as JSON. `Authorization: Bearer KEY` makes the caller that tenant.",
    )
    tokens: TokenSettings = TokenSettings()
    sessions: SessionSettings = SessionSettings()
    limits: LimitSettings = LimitSettings()
    api_allowed_origins: tuple[str, ...] = Field(
        default=(), description="Web origins besides the API's own that may call it, e.g. `http://localhost:3000`."
    )
    engine: EngineSettings = EngineSettings()
    broker: BrokerSettings = BrokerSettings()
    experiments: ExperimentSettings = ExperimentSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    registry: RegistrySettings = RegistrySettings()

    @property
    def resolved_v2_grpc_port(self) -> int | None:
        return 8081 if self.v2_grpc_port == 8001 and 8001 in self.api_extra_ports else self.v2_grpc_port

    @property
    def resolved_warehouse(self) -> str:
        return self.warehouse or str((self.data_dir / "warehouse").absolute())

    @property
    def catalog_properties(self) -> dict[str, str]:
        """What PyIceberg must know to reach the catalog and the warehouse; holds secrets in clear text."""
        found: dict[str, str] = {}
        for name, secret in (("token", self.catalog_token), ("credential", self.catalog_credential)):
            if self.catalog_type == "rest" and secret is not None:
                found[name] = secret.get_secret_value()
        if not (self.warehouse or "").startswith(("s3://", "s3a://", "s3n://")):
            return found
        found["s3.region"] = self.s3.region
        found["s3.force-virtual-addressing"] = str(not self.s3.path_style).lower()
        if self.s3.endpoint is not None:
            found["s3.endpoint"] = self.s3.endpoint
        if self.s3.access_key is not None:
            found["s3.access-key-id"] = self.s3.access_key.get_secret_value()
        if self.s3.secret_key is not None:
            found["s3.secret-access-key"] = self.s3.secret_key.get_secret_value()
        return found

    @property
    def engine_with_lake(self) -> EngineSettings:
        """The engine's settings with the access to the platform's own lake."""
        names = {
            "s3.endpoint": "s3.endpoint", "s3.region": "s3.region", "s3.access-key-id": "s3.access.key",
            "s3.secret-access-key": "s3.secret.key", "token": "catalog.token", "credential": "catalog.credential",
        }  # fmt: skip
        access = {names[name]: SecretStr(value) for name, value in self.catalog_properties.items() if name in names}
        if "s3.region" in access:
            access["s3.path.style.access"] = SecretStr(str(self.s3.path_style).lower())
        filled = {"lake_warehouse": self.resolved_warehouse, "lake_catalog_uri": self.resolved_catalog_uri}
        return self.engine.model_copy(update={**filled, "lake_access": access})

    @property
    def resolved_catalog_uri(self) -> str:
        return self.catalog_uri or f"jdbc:sqlite:{(self.data_dir / 'catalog.db').absolute()}"
