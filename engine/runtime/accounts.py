"""Users: CREATE, ALTER and DROP USER, kept so that the catalogs show them. On the writer thread, between epochs.

They grant nothing: who may connect is a setting of the server, and whoever does may do everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from engine.catalog.objects import ROOT, User
from engine.runtime.engine import Engine
from engine.sql.errors import DuplicateObject, SqlError
from engine.sql.statements import AlterUser, CreateUser, ObjectName


def create_user(engine: Engine, statement: CreateUser) -> bool:
    """Run CREATE USER; False if the user is there and IF NOT EXISTS was said.

    Raises:
        DuplicateObject: the name is taken.
    """
    name = statement.name.name
    users = engine.catalog.users
    if name in users:
        if statement.if_not_exists:
            return False
        raise DuplicateObject(f"user `{name}` already exists", position=statement.name.position, fix="Choose another name.")
    number = max(user.id for user in users.values()) + 1
    _store(engine, [*users.values(), _with_rights(User(number, name), statement.rights)])
    return True


def alter_user(engine: Engine, statement: AlterUser) -> None:
    """Run ALTER USER.

    Raises:
        SqlError: there is no such user, or the new name is taken.
    """
    found = _must_find(engine, statement.name)
    changed = _with_rights(found, statement.rights)
    if statement.new_name is not None:
        if statement.new_name in engine.catalog.users:
            raise DuplicateObject(f"user `{statement.new_name}` already exists", position=statement.name.position)
        changed = replace(changed, name=statement.new_name)
    _store(engine, [changed if user.id == found.id else user for user in engine.catalog.users.values()])


def drop_user(engine: Engine, name: ObjectName, *, if_exists: bool) -> bool:
    """Run DROP USER; False if there is none and IF EXISTS was said.

    Raises:
        SqlError: there is no such user, or it is `root`.
    """
    if if_exists and name.name not in engine.catalog.users:
        return False
    found = _must_find(engine, name)
    _store(engine, [user for user in engine.catalog.users.values() if user.id != found.id])
    return True


def recover_users(engine: Engine) -> None:
    """Read them back when a folder is opened."""
    rows = engine.store.writer.execute("SELECT id, name, superuser, create_db, create_user, login FROM hr.users").fetchall()
    users = {ROOT.name: ROOT, **{row[1]: User(*row) for row in rows}}
    engine.catalog = replace(engine.catalog, users=users)


def _must_find(engine: Engine, name: ObjectName) -> User:
    found = engine.catalog.users.get(name.name)
    if found is None:
        known = ", ".join(f"`{user}`" for user in engine.catalog.users)
        raise SqlError(f"user `{name.name}` does not exist", position=name.position, sqlstate="42704", fix=f"Known: {known}.")
    if found == ROOT:
        raise SqlError("user `root` cannot be changed", position=name.position, sqlstate="42501", fix="Name another user.")
    return found


def _with_rights(user: User, rights: Mapping[str, bool]) -> User:
    return replace(
        user,
        superuser=rights.get("superuser", user.superuser),
        create_db=rights.get("createdb", user.create_db),
        create_user=rights.get("createuser", user.create_user),
        login=rights.get("login", user.login),
    )


def _store(engine: Engine, users: list[User]) -> None:
    with engine.store.transaction() as connection:
        connection.execute("DELETE FROM hr.users")
        for user in users:
            if user != ROOT:
                row = [user.id, user.name, user.superuser, user.create_db, user.create_user, user.login]
                connection.execute("INSERT INTO hr.users VALUES (?, ?, ?, ?, ?, ?)", row)
    engine.catalog = replace(engine.catalog, users={user.name: user for user in users})
