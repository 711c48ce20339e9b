"""`headrace keys ...` and `headrace tenants ...`: who may call the API. The platform must be running."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from core.clock import SystemClock
from core.errors import HeadraceError, NotFoundError
from headrace.cli.context import AsJson, DataDir, load_settings
from headrace.cli.output import print_json, print_rows

if TYPE_CHECKING:
    from pathlib import Path

    from api.database import Database
    from api.identity.keys import ApiKey
    from api.identity.tenants import Tenant, TenantStore
    from core.ids import TenantId
    from core.settings import Settings

keys = typer.Typer(no_args_is_help=True, help="Keys of the API.")
tenants = typer.Typer(no_args_is_help=True, help="Tenants, whose rows are kept apart.")

T = TypeVar("T")

TenantName = Annotated[str, typer.Option("--tenant", help="Whose rows are seen.")]
RoleName = Annotated[
    str, typer.Option("--role", help="viewer, reviewer, operator or admin; each may what the ones before may.")
]


@keys.command("create")
def create(
    context: typer.Context,
    tenant: TenantName,
    role: RoleName = "operator",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", help="Only this of what the role allows: read, feedback, ingest, predict, operate, administer."
        ),
    ] = None,
    days: Annotated[float | None, typer.Option(help="It ends after so many days; default never.")] = None,
    note: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it, this once.

    Example: headrace keys create --tenant acme --role operator --scope ingest --note "gateway of hall 3"
    """
    from api.identity.identity import parse_role, parse_scope, parse_tenant
    from api.identity.keys import KeyStore, parse_days

    allowed, owner = parse_role(role), parse_tenant(tenant)
    scopes = frozenset(parse_scope(each) for each in scope) if scope else None
    valid = None if days is None else parse_days(days)

    async def work(database: Database, _settings: Settings) -> tuple[ApiKey, str]:
        return await KeyStore(database).create(owner, allowed, SystemClock().now(), scopes=scopes, valid=valid, note=note)

    key, text = _with_database(context, data_dir, work)
    if as_json:
        print_json({"key": text, **_told(key)})
    else:
        typer.echo(text)
        typer.echo(f"key {key.key_id} of tenant {key.tenant}, role {key.role}: it is not shown again", err=True)


@keys.command("list")
def list_keys(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Of this tenant only.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show keys, without their secrets.

    Example: headrace keys list --tenant acme
    """
    from api.identity.identity import parse_tenant
    from api.identity.keys import KeyStore

    owner = None if tenant is None else parse_tenant(tenant)

    async def work(database: Database, _settings: Settings) -> list[ApiKey]:
        return list(await KeyStore(database).all(owner))

    print_rows([_told(key) for key in _with_database(context, data_dir, work)], as_json=as_json)


@keys.command("revoke")
def revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(help="The id, as `keys list` shows it.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Take a key's validity away; every process notices within a second.

    Example: headrace keys revoke 4f1c22d09a3b
    """
    from api.identity.keys import KeyStore

    async def work(database: Database, _settings: Settings) -> ApiKey:
        return await KeyStore(database).revoke(key_id, SystemClock().now())

    print_rows([_told(_with_database(context, data_dir, work))], as_json=as_json)


@keys.command("login")
def login(
    context: typer.Context,
    tenant: TenantName,
    role: RoleName = "viewer",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a link that logs a browser in, once, within ten minutes.

    Example: headrace keys login --tenant acme --role reviewer
    """
    from api.identity.identity import parse_role, parse_tenant
    from api.identity.login import LoginLinks

    allowed, owner = parse_role(role), parse_tenant(tenant)

    async def work(database: Database, settings: Settings) -> str:
        link = await LoginLinks(database).create(owner, allowed, SystemClock().now())
        return f"http://{settings.api_host}:{settings.api_port}/login?link={link}"

    address = _with_database(context, data_dir, work)
    if as_json:
        print_json({"link": address})
    else:
        typer.echo(address)


@tenants.command("list")
def list_tenants(context: typer.Context, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show tenants.

    Example: headrace tenants list
    """
    from api.identity.tenants import TenantStore

    async def work(database: Database, _settings: Settings) -> list[dict[str, object]]:
        return [vars(each) for each in await TenantStore(database).all()]

    print_rows(_with_database(context, data_dir, work), as_json=as_json)


@tenants.command("create")
def create_tenant(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="Its name.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Note a tenant down; its first key does that too.

    Example: headrace tenants create acme
    """
    _change(context, tenant, lambda store, owner: store.create(owner, SystemClock().now()), data_dir=data_dir, as_json=as_json)


@tenants.command("disable")
def disable(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="Its name.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Let nobody of a tenant in any more; its rows stay.

    Example: headrace tenants disable acme
    """
    _change(context, tenant, lambda store, owner: store.disable(owner, SystemClock().now()), data_dir=data_dir, as_json=as_json)


@tenants.command("enable")
def enable(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="Its name.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Let a tenant in again.

    Example: headrace tenants enable acme
    """
    _change(context, tenant, lambda store, owner: store.enable(owner), data_dir=data_dir, as_json=as_json)


def _change(
    context: typer.Context,
    tenant: str,
    change: Callable[[TenantStore, TenantId], Awaitable[Tenant]],
    *,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    from api.identity.identity import parse_tenant
    from api.identity.tenants import TenantStore

    owner = parse_tenant(tenant)

    async def work(database: Database, _settings: Settings) -> dict[str, object]:
        return vars(await change(TenantStore(database), owner))

    print_rows([_with_database(context, data_dir, work)], as_json=as_json)


def _told(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.key_id,
        "tenant": key.tenant,
        "role": key.role,
        "scopes": None if key.scopes is None else ", ".join(sorted(key.scopes)),
        "note": key.note,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
    }


def _with_database(context: typer.Context, data_dir: Path | None, work: Callable[[Database, Settings], Awaitable[T]]) -> T:
    """Run `work` on the platform's stream database."""
    from api.database import Database, StatementError

    settings = load_settings(context, data_dir=data_dir).settings

    async def run() -> T:
        database = Database(settings.database_url)
        await database.open()
        try:
            return await work(database, settings)
        finally:
            await database.close()

    try:
        return asyncio.run(run())
    except HeadraceError as error:
        if isinstance(error, StatementError) and error.sqlstate == "42P01":
            raise NotFoundError(
                "the stream database has no tables of access yet", fix="Apply a pipeline: `headrace pipeline apply plant`."
            ) from error
        raise
