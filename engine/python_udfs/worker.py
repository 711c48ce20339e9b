"""The process in which users' Python runs. It is started by path, imports nothing of the engine, and knows nothing of it.

    request:   length, JSON header (source, names, types), length, Arrow IPC stream of the arguments
    answer:    length, Arrow IPC stream of two columns: `value`, and `error` (a text where the row failed)

Before each row its number, counted from 1, goes into a page shared with the engine, so that the engine knows which row killed the process or
never ended. Files, sockets and other processes are refused, as embedded functions in RisingWave have none either. That keeps
honest functions honest; the boundary that protects the engine is the process.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import resource
import signal
import struct
import sys
import threading
import time
import types
import zoneinfo
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, BinaryIO

import pyarrow as pa

_LENGTH = struct.Struct("!I")
_REFUSED_EVENTS = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.kill", "ctypes.", "shutil.", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.listdir", "os.scandir", "os.truncate", "os.putenv")  # fmt: skip
_ORPHAN_SECONDS = 1.0
_OPEN_FILES = 64


class _TookTooLong(BaseException):
    """Not an Exception, so that a function's own `except Exception` does not catch it."""


class _Struct(dict[str, Any]):
    """A struct argument: fields as keys and as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def main(progress_fd: int, row_seconds: float, memory_bytes: int) -> None:
    """Serve requests until the engine closes the pipe."""
    requests, answers = _take_pipes()
    progress = mmap.mmap(progress_fd, 8)
    _limit(memory_bytes)
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
    signal.signal(signal.SIGALRM, _ring)
    programs: dict[str, dict[str, Any]] = {}
    while (header := _read(requests)) is not None:
        body = _read(requests)
        assert body is not None
        answer = _serve(json.loads(header), body, programs, progress, row_seconds)
        answers.write(_LENGTH.pack(len(answer)) + answer)
        answers.flush()


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes under other numbers; what the function prints or reads goes nowhere."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nothing, number)
    return requests, answers


def _limit(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    libraries = tuple({os.path.realpath(path) + os.sep for path in (sys.prefix, sys.base_prefix, *zoneinfo.TZPATH)})

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode = arguments[0], arguments[1]
            reading = mode is None or not set(str(mode)) & set("wax+")
            if not (reading and isinstance(path, str) and os.path.realpath(path).startswith(libraries)):
                raise PermissionError("an embedded function may not open files")
        elif event.startswith(_REFUSED_EVENTS):
            raise PermissionError(f"an embedded function may not use `{event}`")

    sys.addaudithook(refuse)


def _leave_with_parent(parent: int) -> None:
    """The engine may be killed while a function runs."""
    while os.getppid() == parent:
        time.sleep(_ORPHAN_SECONDS)
    os._exit(1)


def _ring(_number: int, _frame: object) -> None:
    raise _TookTooLong


def _read(pipe: BinaryIO) -> bytes | None:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    return pipe.read(_LENGTH.unpack(head)[0])


def _serve(
    header: dict[str, Any], body: bytes, programs: dict[str, dict[str, Any]], progress: mmap.mmap, row_seconds: float
) -> bytes:
    table = pa.ipc.open_stream(body).read_all()
    columns = [
        [_to_python(value, type_) for value in column.to_pylist()]
        for column, type_ in zip(table.columns, header["arguments"], strict=False)
    ]
    rows: Iterator[tuple[Any, ...]] = zip(*columns, strict=True) if columns else iter([()] * header["rows"])
    returns = header["returns"]
    field = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(header["schema"]))).field(0)
    values: list[Any] = []
    errors: list[str | None] = []
    evaluate: Callable[..., Any] | None = None
    for number, row in enumerate(rows):
        progress[:8] = (number + 1).to_bytes(8, "little")
        signal.setitimer(signal.ITIMER_REAL, row_seconds)
        try:
            if evaluate is None:
                evaluate = _evaluator(_namespace(programs, header["source"]), header)
            value, error = _from_python(evaluate(*row), returns), None
        except _TookTooLong:
            value, error = None, f"it ran longer than {row_seconds:g} s"
        except BaseException as raised:  # noqa: BLE001  # whatever the function raises, SystemExit included, is this row's error
            value, error = None, f"{type(raised).__name__}: {raised}"[:500]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        values.append(value)
        errors.append(error)
    return _answer(values, errors, field)


def _answer(values: list[Any], errors: list[str | None], field: pa.Field) -> bytes:
    try:
        column = pa.array(values, field.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        column = pa.concat_arrays([_one(values, errors, at, field.type) for at in range(len(values))])
    sink = pa.BufferOutputStream()
    schema = pa.schema([field.with_name("value"), pa.field("error", pa.string())])
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch([column, pa.array(errors, pa.string())], schema=schema))
    return bytes(sink.getvalue())


def _one(values: list[Any], errors: list[str | None], at: int, type_: pa.DataType) -> pa.Array:
    try:
        return pa.array([values[at]], type_)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        errors[at] = f"its answer is not of the declared type: {error}"[:500]
        return pa.nulls(1, type_)


def _namespace(programs: dict[str, dict[str, Any]], source: str) -> dict[str, Any]:
    if source not in programs:
        module = types.ModuleType("function")
        exec(compile(source, "<function>", "exec"), module.__dict__)  # noqa: S102  # what this process is for
        programs[source] = module.__dict__
    return programs[source]


def _evaluator(names: dict[str, Any], header: dict[str, Any]) -> Callable[..., Any]:
    form, name = header["form"], header["name"]
    if form == "aggregate":
        create, accumulate, finish = names["create_state"], names["accumulate"], names["finish"]

        def fold(rows: list[dict[str, Any]] | None) -> Any:
            state = create()
            for row in rows or ():
                state = accumulate(state, *row.values())
            return finish(state)

        return fold
    function: Callable[..., Any] = names[name]
    if form == "table":
        return lambda *row: list(function(*row))
    return function


def check(source: str, names: list[str]) -> str | None:
    """What is wrong with a program, None if nothing is; it is not run."""
    try:
        code = compile(source, "<function>", "exec")
    except (SyntaxError, ValueError) as error:
        return str(error)
    missing = [name for name in names if name not in code.co_names]
    return f"it does not define {', '.join(f'`{name}`' for name in missing)}" if missing else None


def _to_python(value: Any, type_: dict[str, Any]) -> Any:
    if value is None:
        return None
    name = type_["name"]
    if name == "numeric":
        return Decimal(value)
    if name == "jsonb":
        return json.loads(value)
    if name == "list":
        return [_to_python(element, type_["element"]) for element in value]
    if name == "struct":
        return _Struct({field: _to_python(value[field], inner) for field, inner in type_["fields"]})
    return value


def _from_python(value: Any, type_: dict[str, Any]) -> Any:
    if value is None:
        return None
    name = type_["name"]
    if name == "numeric":
        return _decimal_text(value)
    if name == "jsonb":
        return json.dumps(value, allow_nan=False)
    if name == "list":
        return [_from_python(element, type_["element"]) for element in value]
    if name == "struct":
        return _fields(value, type_["fields"])
    if name in ("int2", "int4", "int8") and isinstance(value, bool):
        return int(value)
    if name in ("float4", "float8") and isinstance(value, Decimal):
        return float(value)
    return value


def _decimal_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise TypeError(f"a Decimal is wanted, not {type(value).__name__}")
    number = Decimal(str(value))
    return format(number, "f") if number.is_finite() else str(number)


def _fields(value: Any, fields: list[list[Any]]) -> dict[str, Any]:
    """A struct or a row of several columns: from a dict, a sequence in order, or an object with attributes."""
    if isinstance(value, dict):
        parts = [value[name] for name, _ in fields]
    elif isinstance(value, (tuple, list)):
        if len(value) != len(fields):
            raise ValueError(f"{len(fields)} fields are wanted, not {len(value)}")
        parts = list(value)
    else:
        parts = [getattr(value, name) for name, _ in fields]
    return {name: _from_python(part, inner) for (name, inner), part in zip(fields, parts, strict=True)}


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
