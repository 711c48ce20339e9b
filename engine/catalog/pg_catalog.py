"""The relations of `pg_catalog` that psql, drivers and tools read. A column that nobody here can fill has PostgreSQL's default."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from engine.catalog.catalog import SYSTEM_SCHEMAS
from engine.catalog.objects import CatalogObject, ColumnInfo, Function, Index, Input, Relation
from engine.catalog.objects import View as SqlView
from engine.catalog.relations import DATABASE_ID, OWNER_ID, Declared, Row, View, nothing
from engine.sql.types import SCALARS, UNKNOWN, SqlType, list_of

_RELKIND = {"table": "r", "source": "r", "materialized view": "m", "view": "v", "index": "i", "sink": "r", "system": "v"}
_LISTED = ("table", "source", "materialized view", "view", "index", "system")
_CATEGORY = {"bool": "B", "varchar": "S", "interval": "T", "date": "D", "time": "D", "timestamp": "D", "timestamptz": "D"}
_LENGTHS = {"bool": 1, "int2": 2, "int4": 4, "int8": 8, "serial": 8, "float4": 4, "float8": 8, "date": 4, "time": 8, "timestamp": 8, "timestamptz": 8, "interval": 16}  # fmt: skip
_PSEUDO = (
    ("name", 19, "S"),
    ("text", 25, "S"),
    ("oid", 26, "N"),
    ("bpchar", 1042, "S"),
    ("regclass", 2205, "N"),
    ("record", 2249, "P"),
)


_BTREE = 403
_LIMITS = {"max_index_keys": "32"}
"""PostgreSQL's, that no session can set; JDBC asks for it."""
_PG_CLASS = 1259


def schema_oid(schema: str) -> int:
    """A lasting number for a schema's name."""
    fixed = {"pg_catalog": 11, "public": 2200}
    return fixed.get(schema) or 16_384 + zlib.crc32(schema.encode()) % 1_000_000


def relations_of(view: View) -> Iterator[CatalogObject]:
    """What has a row in pg_class: the database's relations and the system's."""
    found = (o for o in view.catalog.objects.values() if o.kind in _LISTED and o.database in (view.database, ""))
    return iter(sorted(found, key=lambda o: o.id))


def columns_of(found: CatalogObject, view: View) -> list[ColumnInfo]:
    """Visible columns; those of a view are bound anew."""
    if isinstance(found, Relation):
        return list(found.visible)
    if isinstance(found, SqlView):
        from engine.sql.binder.view_columns import view_columns  # the binder reads catalogs, so it imports them

        return view_columns(found, view.catalog)
    return []


def _namespaces(view: View) -> Iterator[Row]:
    for schema in (*sorted(view.catalog.databases[view.database]), *SYSTEM_SCHEMAS):
        yield (schema_oid(schema), schema, OWNER_ID, None)


def _classes(view: View) -> Iterator[Row]:
    indexed = {o.relation for o in view.objects("index") if isinstance(o, Index)}
    for found in relations_of(view):
        count = len(columns_of(found, view))
        has_key = isinstance(found, Input) and bool(found.primary_key)
        kind = _RELKIND[found.kind]
        method = _BTREE if kind == "i" else 0
        yield (
            found.id, found.name, schema_oid(found.schema), 0, 0, OWNER_ID, method, 0, 0, 0, -1.0, 0, 0, has_key or found.id in indexed,
            False, "p", kind, count, 0, False, False, False, False, False, True, "n", False, 0, None, None, None,
        )  # fmt: skip
    for found in relations_of(view):
        if isinstance(found, Input) and found.primary_key:
            yield (
                _key_oid(found), f"{found.name}_pkey", schema_oid(found.schema), 0, 0, OWNER_ID, _BTREE, 0, 0, 0, -1.0, 0, 0, False,
                False, "p", "i", len(found.primary_key), 0, False, False, False, False, False, True, "n", False, 0, None, None, None,
            )  # fmt: skip


def _key_oid(found: Input) -> int:
    return 1_000_000_000 + found.id


def _attributes(view: View) -> Iterator[Row]:
    for found in relations_of(view):
        key = {found.columns[p].name for p in found.primary_key} if isinstance(found, Input) else set()
        for number, column in enumerate(columns_of(found, view), start=1):
            not_null = column.not_null or column.name in key
            generated = "s" if column.generated is not None else ""
            has_default = column.default is not None or column.generated is not None
            length = _LENGTHS.get(column.type.name, -1)
            yield (found.id, column.name, _type_oid(column.type), length, number, -1, not_null, has_default, False, "", generated, 0, 1 if column.type.name == "list" else 0, True, -1, None, "p" if length > 0 else "x", "", None, None, -1)  # fmt: skip


def _attribute_defaults(view: View) -> Iterator[Row]:
    from engine.sql.expressions import render

    for found in relations_of(view):
        if isinstance(found, Input):
            names = [column.name for column in found.columns]
            for number, column in enumerate(found.visible, start=1):
                expression = column.default or column.generated
                if expression is not None:
                    yield (found.id * 1000 + number, found.id, number, render(expression, names.__getitem__))


def _types(_view: View) -> Iterator[Row]:
    namespace = schema_oid("pg_catalog")
    for scalar in (t for t in SCALARS if t != UNKNOWN and t.name != "serial"):
        category = _CATEGORY.get(scalar.name, "N" if scalar.is_numeric else "U")
        array = list_of(scalar).oid
        yield (scalar.oid, scalar.name, namespace, OWNER_ID, _LENGTHS.get(scalar.name, -1), "b", category, True, ",", 0, 0, array, f"{scalar.name}in", False, 0, -1, 0, None)  # fmt: skip
        yield (array, f"_{scalar.name}", namespace, OWNER_ID, -1, "b", "A", True, ",", 0, scalar.oid, 0, "array_in", False, 0, -1, 0, None)  # fmt: skip
    for name, oid, category in _PSEUDO:
        length = 64 if name == "name" else 4 if category == "N" else -1
        yield (oid, name, namespace, OWNER_ID, length, "b", category, True, ",", 0, 0, 0, f"{name}in", False, 0, -1, 0, None)  # fmt: skip


def _type_oid(type_: SqlType) -> int:
    return 1043 if type_ == UNKNOWN else type_.oid


def _indexes(view: View) -> Iterator[Row]:
    for found in relations_of(view):
        if isinstance(found, Input) and found.primary_key:
            names = [c.name for c in found.visible]
            keys = [names.index(found.columns[p].name) + 1 for p in found.primary_key]
            yield _index_row(_key_oid(found), found.id, keys, unique=True)
        elif isinstance(found, Index):
            names = [c.name for c in view.catalog.relation(found.relation).visible]
            keys = [names.index(c) + 1 for c in found.columns if c in names]
            yield _index_row(found.id, found.relation, keys, unique=False)


def _index_row(number: int, relation: int, keys: list[int], *, unique: bool) -> Row:
    count = len(keys)
    return (number, relation, count, count, unique, unique, False, True, True, False, True, True, False, False, False, " ".join("0" * count), [], [], keys, None, None)  # fmt: skip


def _constraints(view: View) -> Iterator[Row]:
    for found in relations_of(view):
        if isinstance(found, Input) and found.primary_key:
            names = [c.name for c in found.visible]
            keys = [names.index(found.columns[p].name) + 1 for p in found.primary_key]
            oid = 1_500_000_000 + found.id
            yield (oid, f"{found.name}_pkey", schema_oid(found.schema), "p", False, False, True, found.id, 0, _key_oid(found), 0, 0, "", "", "", keys, None, None, True)  # fmt: skip


def _functions(view: View) -> Iterator[Row]:
    for found in view.objects("function"):
        assert isinstance(found, Function)
        types = " ".join(str(_type_oid(t)) for _, t in found.arguments)
        names = [name or "" for name, _ in found.arguments]
        yield (found.id, found.name, schema_oid(found.schema), OWNER_ID, 14, "a" if found.form == "aggregate" else "f", found.form == "table", "i", len(found.arguments), _type_oid(found.returns), types, names, None, None, found.body or found.link or "", False, False, None)  # fmt: skip


def _databases(view: View) -> Iterator[Row]:
    for number, name in enumerate(sorted(view.catalog.databases), start=1):
        yield (number, name, OWNER_ID, 6, "C", "C", False, True, -1, 1663, None, "c", None, None)


def _roles(view: View) -> Iterator[Row]:
    for user in view.catalog.users.values():
        yield (user.id, user.name, user.superuser, True, user.create_user, user.create_db, user.login, False, -1, None, None, False, None)  # fmt: skip


def _users(view: View) -> Iterator[Row]:
    for user in view.catalog.users.values():
        yield (user.name, user.id, user.create_db, user.superuser, False, False, None, None, None)


def descriptions(view: View) -> Iterator[Row]:
    """Comments; a relation's own has the column number 0."""
    for (number, column), text in sorted(view.catalog.comments.items()):
        found = view.catalog.objects.get(number)
        if found is not None and found.database == view.database:
            yield (number, _PG_CLASS, column, text)


def _tables(view: View) -> Iterator[Row]:
    for found in view.objects("table"):
        has_key = isinstance(found, Input) and bool(found.primary_key)
        yield (found.schema, found.name, "root", None, has_key, False, False, False)


def _views(view: View) -> Iterator[Row]:
    for found in view.objects("view"):
        yield (found.schema, found.name, "root", found.sql)


def _materialized_views(view: View) -> Iterator[Row]:
    for found in view.objects("materialized view"):
        yield (found.schema, found.name, "root", None, False, True, found.sql)


def _pg_indexes(view: View) -> Iterator[Row]:
    for found in relations_of(view):
        if isinstance(found, Input) and found.primary_key:
            keys = ", ".join(found.columns[p].name for p in found.primary_key)
            text = f"CREATE UNIQUE INDEX {found.name}_pkey ON {found.schema}.{found.name} USING btree ({keys})"
            yield (found.schema, found.name, f"{found.name}_pkey", None, text)
        elif isinstance(found, Index):
            yield (found.schema, view.catalog.get(found.relation).name, found.name, None, found.sql)


def _settings(view: View) -> Iterator[Row]:
    for name, value in sorted({**_LIMITS, **view.settings}.items()):
        yield (
            name,
            value,
            None,
            "Headrace",
            "",
            None,
            "user",
            "string",
            "default",
            None,
            None,
            None,
            value,
            value,
            None,
            None,
            False,
        )


def _depend(view: View) -> Iterator[Row]:
    for found in view.objects():
        for below in found.depends_on:
            yield (1259, found.id, 0, 1259, below, 0, "n")


def _access_methods(_view: View) -> Iterable[Row]:
    return ((2, "heap", 3, "t"), (_BTREE, "btree", 330, "i"))


def _tablespaces(_view: View) -> Iterable[Row]:
    return ((1663, "pg_default", OWNER_ID, None, None),)


def _activity(view: View) -> Iterable[Row]:
    return ((DATABASE_ID, view.database, 0, OWNER_ID, view.user, "", "active", None),)


_ATTRIBUTE = "attrelid int4, attname text, atttypid int4, attlen int2, attnum int2, atttypmod int4, attnotnull bool, atthasdef bool, attisdropped bool, attidentity text, attgenerated text, attcollation int4, attndims int4, attislocal bool, attstattarget int4, attacl text[], attstorage text, attcompression text, attoptions text[], attfdwoptions text[], attcacheoff int4"
_CLASS = "oid int4, relname text, relnamespace int4, reltype int4, reloftype int4, relowner int4, relam int4, relfilenode int4, reltablespace int4, relpages int4, reltuples float8, relallvisible int4, reltoastrelid int4, relhasindex bool, relisshared bool, relpersistence text, relkind text, relnatts int2, relchecks int2, relhasrules bool, relhastriggers bool, relhassubclass bool, relrowsecurity bool, relforcerowsecurity bool, relispopulated bool, relreplident text, relispartition bool, relrewrite int4, relacl text[], reloptions text[], relpartbound text"

PG_CATALOG: tuple[Declared, ...] = (
    Declared("pg_catalog", "pg_namespace", "oid int4, nspname text, nspowner int4, nspacl text[]", _namespaces),
    Declared("pg_catalog", "pg_class", _CLASS, _classes),
    Declared("pg_catalog", "pg_attribute", _ATTRIBUTE, _attributes),
    Declared("pg_catalog", "pg_attrdef", "oid int4, adrelid int4, adnum int2, adbin text", _attribute_defaults),
    Declared("pg_catalog", "pg_type", "oid int4, typname text, typnamespace int4, typowner int4, typlen int2, typtype text, typcategory text, typisdefined bool, typdelim text, typrelid int4, typelem int4, typarray int4, typinput text, typnotnull bool, typbasetype int4, typtypmod int4, typcollation int4, typdefault text", _types),
    Declared("pg_catalog", "pg_index", "indexrelid int4, indrelid int4, indnatts int2, indnkeyatts int2, indisunique bool, indisprimary bool, indisexclusion bool, indimmediate bool, indisvalid bool, indisreplident bool, indisready bool, indislive bool, indnullsnotdistinct bool, indisclustered bool, indcheckxmin bool, indoption text, indclass int4[], indcollation int4[], indkey int2[], indexprs text, indpred text", _indexes),
    Declared("pg_catalog", "pg_constraint", "oid int4, conname text, connamespace int4, contype text, condeferrable bool, condeferred bool, convalidated bool, conrelid int4, contypid int4, conindid int4, conparentid int4, confrelid int4, confupdtype text, confdeltype text, confmatchtype text, conkey int2[], confkey int2[], conbin text, conislocal bool", _constraints),
    Declared("pg_catalog", "pg_proc", "oid int4, proname text, pronamespace int4, proowner int4, prolang int4, prokind text, proretset bool, provolatile text, pronargs int2, prorettype int4, proargtypes text, proargnames text[], proargmodes text[], proallargtypes int4[], prosrc text, proleakproof bool, prosecdef bool, proacl text[]", _functions),
    Declared("pg_catalog", "pg_database", "oid int4, datname text, datdba int4, encoding int4, datcollate text, datctype text, datistemplate bool, datallowconn bool, datconnlimit int4, dattablespace int4, datacl text[], datlocprovider text, daticulocale text, datcollversion text", _databases),
    Declared("pg_catalog", "pg_roles", "oid int4, rolname text, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, rolcanlogin bool, rolreplication bool, rolconnlimit int4, rolpassword text, rolvaliduntil time, rolbypassrls bool, rolconfig text[]", _roles),
    Declared("pg_catalog", "pg_authid", "oid int4, rolname text, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, rolcanlogin bool, rolreplication bool, rolconnlimit int4, rolpassword text, rolvaliduntil time, rolbypassrls bool, rolconfig text[]", _roles),
    Declared("pg_catalog", "pg_user", "usename text, usesysid int4, usecreatedb bool, usesuper bool, userepl bool, usebypassrls bool, passwd text, valuntil time, useconfig text[]", _users),
    Declared("pg_catalog", "pg_shadow", "usename text, usesysid int4, usecreatedb bool, usesuper bool, userepl bool, usebypassrls bool, passwd text, valuntil time, useconfig text[]", _users),
    Declared("pg_catalog", "pg_auth_members", "roleid int4, member int4, grantor int4, admin_option bool", nothing),
    Declared("pg_catalog", "pg_tables", "schemaname text, tablename text, tableowner text, tablespace text, hasindexes bool, hasrules bool, hastriggers bool, rowsecurity bool", _tables),
    Declared("pg_catalog", "pg_views", "schemaname text, viewname text, viewowner text, definition text", _views),
    Declared("pg_catalog", "pg_matviews", "schemaname text, matviewname text, matviewowner text, tablespace text, hasindexes bool, ispopulated bool, definition text", _materialized_views),
    Declared("pg_catalog", "pg_indexes", "schemaname text, tablename text, indexname text, tablespace text, indexdef text", _pg_indexes),
    Declared("pg_catalog", "pg_settings", "name text, setting text, unit text, category text, short_desc text, extra_desc text, context text, vartype text, source text, min_val text, max_val text, enumvals text[], boot_val text, reset_val text, sourcefile text, sourceline int4, pending_restart bool", _settings),
    Declared("pg_catalog", "pg_depend", "classid int4, objid int4, objsubid int4, refclassid int4, refobjid int4, refobjsubid int4, deptype text", _depend),
    Declared("pg_catalog", "pg_am", "oid int4, amname text, amhandler int4, amtype text", _access_methods),
    Declared("pg_catalog", "pg_tablespace", "oid int4, spcname text, spcowner int4, spcacl text[], spcoptions text[]", _tablespaces),
    Declared("pg_catalog", "pg_stat_activity", "datid int4, datname text, pid int4, usesysid int4, usename text, application_name text, state text, query text", _activity),
    Declared("pg_catalog", "pg_description", "objoid int4, classoid int4, objsubid int4, description text", descriptions),
    Declared("pg_catalog", "pg_shdescription", "objoid int4, classoid int4, description text", nothing),
    Declared("pg_catalog", "pg_enum", "oid int4, enumtypid int4, enumsortorder float8, enumlabel text", nothing),
    Declared("pg_catalog", "pg_range", "rngtypid int4, rngsubtype int4", nothing),
    Declared("pg_catalog", "pg_collation", "oid int4, collname text, collnamespace int4, collowner int4, collencoding int4", nothing),
    Declared("pg_catalog", "pg_inherits", "inhrelid int4, inhparent int4, inhseqno int4, inhdetachpending bool", nothing),
    Declared("pg_catalog", "pg_partitioned_table", "partrelid int4, partstrat text, partnatts int2, partattrs int2[]", nothing),
    Declared("pg_catalog", "pg_policy", "oid int4, polname text, polrelid int4, polcmd text, polpermissive bool, polroles int4[], polqual text, polwithcheck text", nothing),
    Declared("pg_catalog", "pg_trigger", "oid int4, tgrelid int4, tgparentid int4, tgname text, tgfoid int4, tgtype int2, tgenabled text, tgisinternal bool, tgconstraint int4, tgdeferrable bool, tginitdeferred bool", nothing),
    Declared("pg_catalog", "pg_rewrite", "oid int4, rulename text, ev_class int4, ev_type text, ev_enabled text, is_instead bool", nothing),
    Declared("pg_catalog", "pg_extension", "oid int4, extname text, extowner int4, extnamespace int4, extversion text", nothing),
    Declared("pg_catalog", "pg_foreign_server", "oid int4, srvname text, srvowner int4, srvfdw int4, srvtype text, srvversion text, srvacl text[]", nothing),
    Declared("pg_catalog", "pg_foreign_table", "ftrelid int4, ftserver int4, ftoptions text[]", nothing),
    Declared("pg_catalog", "pg_foreign_data_wrapper", "oid int4, fdwname text, fdwowner int4", nothing),
    Declared("pg_catalog", "pg_publication", "oid int4, pubname text, pubowner int4, puballtables bool, pubinsert bool, pubupdate bool, pubdelete bool, pubtruncate bool, pubviaroot bool", nothing),
    Declared("pg_catalog", "pg_publication_rel", "oid int4, prpubid int4, prrelid int4, prqual text, prattrs int2[]", nothing),
    Declared("pg_catalog", "pg_publication_namespace", "oid int4, pnpubid int4, pnnspid int4", nothing),
    Declared("pg_catalog", "pg_statistic_ext", "oid int4, stxrelid int4, stxname text, stxnamespace int4, stxowner int4, stxstattarget int4, stxkeys int2[], stxkind text[]", nothing),
    Declared("pg_catalog", "pg_operator", "oid int4, oprname text, oprnamespace int4, oprkind text, oprleft int4, oprright int4, oprresult int4, oprcode int4", nothing),
    Declared("pg_catalog", "pg_opclass", "oid int4, opcmethod int4, opcname text, opcnamespace int4, opcdefault bool, opcintype int4, opcfamily int4, opckeytype int4", nothing),
    Declared("pg_catalog", "pg_conversion", "oid int4, conname text, connamespace int4", nothing),
    Declared("pg_catalog", "pg_cast", "oid int4, castsource int4, casttarget int4, castfunc int4, castcontext text", nothing),
    Declared("pg_catalog", "pg_aggregate", "aggfnoid int4, aggkind text", nothing),
    Declared("pg_catalog", "pg_language", "oid int4, lanname text, lanowner int4, lanispl bool, lanpltrusted bool", lambda _view: ((14, "sql", OWNER_ID, False, True),)),
    Declared("pg_catalog", "pg_sequence", "seqrelid int4, seqtypid int4, seqstart int8, seqincrement int8, seqmax int8, seqmin int8, seqcache int8, seqcycle bool", nothing),
    Declared("pg_catalog", "pg_sequences", "schemaname text, sequencename text", nothing),
    Declared("pg_catalog", "pg_event_trigger", "oid int4, evtname text", nothing),
    Declared("pg_catalog", "pg_locks", "locktype text, database int4, relation int4, pid int4, mode text, granted bool", nothing),
    Declared("pg_catalog", "pg_prepared_statements", "name text, statement text", nothing),
    Declared("pg_catalog", "pg_stat_user_tables", "relid int4, schemaname text, relname text, n_live_tup int8", nothing),
    Declared("pg_catalog", "pg_db_role_setting", "setdatabase int4, setrole int4, setconfig text[]", nothing),
)  # fmt: skip
