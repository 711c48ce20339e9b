"""Reads test files: `*.test.yaml`. The format is described in docs/how-to/test-your-sql.md."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml

from core.errors import InvalidInputError, NotFoundError
from headrace.sqltest.model import (
    DEFAULT_TOLERANCE,
    Case,
    Epoch,
    Expectation,
    ExpectedError,
    Feed,
    Place,
    Rows,
    Rule,
    Script,
    Span,
    SqlTestFile,
    Statement,
    Stub,
    shown,
)
from headrace.sqltest.rows import parse_rows
from headrace.sqltest.yaml_nodes import Node, Reader, compose
from pipelines.folder import BUILT_IN

SUFFIX = ".test.yaml"
OPERATIONS = ("Insert", "Delete", "UpdateDelete", "UpdateInsert")

_SHARED = ("sql", "functions", "partitions", "now")
_EPOCH = ("input", "run", "expect")
_FILE_KEYS = ("description", *_SHARED, "cases")
_CASE_KEYS = ("name", "description", *_SHARED, "epochs", *_EPOCH)
_EPOCH_KEYS = ("now", *_EPOCH)
_FEED_KEYS = ("rows", "file", "raw", "partition")
_EXPECTATION_KEYS = ("query", "rows", "file", "changes", "ordered", "tolerance")


def find(paths: Sequence[Path]) -> list[Path]:
    """The test files that are meant: files as they stand, and all `*.test.yaml` below folders.

    Raises:
        NotFoundError: there is no such path, or no test file below it.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = sorted(each for each in path.rglob(f"*{SUFFIX}") if each.is_file())
            if not below:
                raise NotFoundError(f"there is no `*{SUFFIX}` below `{path}`", fix="docs/how-to/test-your-sql.md shows one.")
            found += below
        elif path.is_file():
            found.append(path)
        else:
            raise NotFoundError(f"there is no file or folder `{path}`")
    return list(dict.fromkeys(found))


def read(path: Path) -> SqlTestFile:
    """Read a file whole, with the SQL and rows that it names.

    Raises:
        InvalidInputError: it is malformed; the text says file, line and remedy.
    """
    text = path.read_text(encoding="utf-8")
    return _FileReader(path).read(compose(path, text))


class _FileReader(Reader):
    def read(self, root: Node) -> SqlTestFile:
        top = self.mapping(root, _FILE_KEYS, "a test file")
        if "cases" not in top:
            raise self.bad(root, "there are no cases", "Write `cases:` and below it `- name: ...`.")
        cases = [self._case(node, top) for node in self.sequence(top["cases"][1], "`cases`")]
        names: dict[str, Place] = {}
        for case in cases:
            if case.name in names:
                raise InvalidInputError(
                    f"two cases are named `{case.name}`", where=str(case.place), fix=f"The other is at {names[case.name]}."
                )
            names[case.name] = case.place
        return SqlTestFile(self.path, cases)

    def _case(self, node: Node, top: dict[str, tuple[Node, Node]]) -> Case:
        own = self.mapping(node, _CASE_KEYS, "a case")
        if "name" not in own:
            raise self.bad(node, "a case has no name", "Write `- name: what must hold`.")
        flat = [name for name in _EPOCH if name in own]
        if "epochs" in own and flat:
            raise self.bad(own[flat[0]][0], f"`{flat[0]}` stands beside `epochs`", "Put it into an epoch.")
        if "epochs" in own:
            nodes = self.sequence(own["epochs"][1], "`epochs`")
            epochs = [
                self._epoch(i, each, self.mapping(each, _EPOCH_KEYS, "an epoch")) for i, each in enumerate(nodes, start=1)
            ]
        else:
            epochs = [self._epoch(1, node, {name: own[name] for name in flat})]
        if not any(e.expectations or any(s.error for s in e.statements) for e in epochs):
            raise self.bad(node, "this case expects nothing", "Write `expect:` with rows of a relation, or an `error:`.")
        both = (top, own)
        stubs = {stub.name: stub for place in both if "functions" in place for stub in self._stubs(place["functions"][1])}
        return Case(
            name=self.text(own["name"][1], "`name`"),
            place=self.place(own["name"][0]),
            scripts=tuple(script for place in both if "sql" in place for script in self._scripts(place["sql"][1])),
            epochs=tuple(epochs),
            stubs=tuple(stubs.values()),
            partitions={
                name: int(self.number(value, "a number of partitions"))
                for place in both
                if "partitions" in place
                for name, (_, value) in self.mapping(place["partitions"][1], None, "`partitions`").items()
            },
            now=next((self._moment(place["now"][1]) for place in (own, top) if "now" in place), None),
        )

    # SQL

    def _scripts(self, node: Node) -> list[Script]:
        nodes = self.sequence(node, "`sql`") if isinstance(node, yaml.SequenceNode) else [node]
        return [script for each in nodes for script in self._script(each)]

    def _script(self, node: Node) -> list[Script]:
        """Inline SQL, or the files that a path names."""
        text = self.text(node, "SQL")
        if "\n" in text.strip() or not (text.strip().endswith((".sql", "/")) or text.strip() in (".", "..")):
            return [Script(self.path, self.text_place(node).line, text)]
        name = text.strip()
        looked = [self.path.parent / name, BUILT_IN / name]
        path = next((each for each in looked if each.exists()), None)
        if path is None:
            raise self.bad(
                node,
                f"there is no `{name}`",
                f"Looked for {' and '.join(f'`{shown(each)}`' for each in looked)}; a path counts from the test file.",
            )
        files = sorted(path.glob("*.sql")) if path.is_dir() else [path]
        if not files:
            raise self.bad(node, f"there is no SQL file in `{name}`")
        return [Script(each, 1, each.read_text(encoding="utf-8")) for each in files]

    def _stubs(self, node: Node) -> list[Stub]:
        stubs = []
        for name, (key, value) in self.mapping(node, None, "`functions`").items():
            rules = []
            for each in self.sequence(value, f"the answers of `{name}`"):
                parts = self.mapping(each, ("when", "returns"), "an answer")
                if "returns" not in parts:
                    raise self.bad(each, "an answer has no `returns`", "Write `- {when: {argument: value}, returns: value}`.")
                when = self.plain(parts["when"][1]) if "when" in parts else {}
                if not isinstance(when, dict):
                    raise self.bad(parts["when"][1], "`when` must name arguments", "Write `when: {argument: value}`.")
                rules.append(Rule(when, self.plain(parts["returns"][1])))
            stubs.append(Stub(name.lower(), tuple(rules), self.place(key)))
        return stubs

    # Epochs

    def _epoch(self, number: int, node: Node, parts: dict[str, tuple[Node, Node]]) -> Epoch:
        feeds = []
        if "input" in parts:
            for relation, (key, value) in self.mapping(parts["input"][1], None, "`input`").items():
                blocks = self.sequence(value, "") if isinstance(value, yaml.SequenceNode) else [value]
                feeds += [self._feed(relation, key, block) for block in blocks]
        expectations = []
        if "expect" in parts:
            for label, (key, value) in self.mapping(parts["expect"][1], None, "`expect`").items():
                expectations.append(self._expectation(label, key, value))
        return Epoch(
            number,
            self.place(node),
            self._moment(parts["now"][1]) if "now" in parts else None,
            tuple(feeds),
            tuple(self._statements(parts["run"][1])) if "run" in parts else (),
            tuple(expectations),
        )

    def _feed(self, relation: str, key: Node, node: Node) -> Feed:
        if isinstance(node, yaml.ScalarNode):
            return Feed(relation, self.place(key), self._rows(key, node))
        parts = self.mapping(node, _FEED_KEYS, "input")
        if len(parts.keys() & {"rows", "file", "raw"}) != 1:
            raise self.bad(node, "input has one of `rows`, `file` and `raw`")
        partition = int(self.number(parts["partition"][1], "`partition`")) if "partition" in parts else None
        if "raw" in parts:
            raw = [self.text(each, "a raw record") for each in self.sequence(parts["raw"][1], "`raw`")]
            return Feed(relation, self.place(key), raw=tuple(raw), partition=partition)
        return Feed(relation, self.place(key), self._rows_of(parts), partition=partition)

    def _statements(self, node: Node) -> list[Statement]:
        nodes = self.sequence(node, "`run`") if isinstance(node, yaml.SequenceNode) else [node]
        statements = []
        for each in nodes:
            if isinstance(each, yaml.ScalarNode):
                statements += [Statement(script, self.place(each)) for script in self._script(each)]
                continue
            parts = self.mapping(each, ("sql", "error"), "a statement")
            if "sql" not in parts:
                raise self.bad(each, "a statement has no `sql`", "Write `- {sql: ..., error: ...}`.")
            error = self._error(parts["error"][1]) if "error" in parts else None
            scripts = self._script(parts["sql"][1])
            if error is not None and len(scripts) > 1:
                raise self.bad(parts["sql"][1], "an error is expected of one statement, not of several files")
            statements += [Statement(script, self.place(each), error) for script in scripts]
        return statements

    def _error(self, node: Node) -> ExpectedError:
        """`error: text`, or `error: {sqlstate: ..., message: ...}`."""
        if isinstance(node, yaml.ScalarNode):
            return ExpectedError(None, self.text(node, "`error`"), self.place(node))
        parts = self.mapping(node, ("sqlstate", "message"), "`error`")
        sqlstate = self.text(parts["sqlstate"][1], "`sqlstate`") if "sqlstate" in parts else None
        message = self.text(parts["message"][1], "`message`") if "message" in parts else None
        return ExpectedError(sqlstate, message, self.place(node))

    def _expectation(self, label: str, key: Node, node: Node) -> Expectation:
        place = self.place(key)
        if isinstance(node, (yaml.ScalarNode, yaml.SequenceNode)):
            return Expectation(label, place, rows=self._rows(key, node))
        parts = self.mapping(node, _EXPECTATION_KEYS, "an expectation")
        query = self.text(parts["query"][1], "`query`") if "query" in parts else None
        if {"rows", "file"} <= parts.keys():
            raise self.bad(parts["file"][0], "rows stand either in the file or here")
        rows = self._rows_of(parts) if parts.keys() & {"rows", "file"} else None
        changes = self._changes(*parts["changes"]) if "changes" in parts else None
        if rows is None and changes is None:
            raise self.bad(node, f"`{label}` expects neither rows nor changes", "Write `rows: |` or `changes: |`.")
        if query is not None and changes is not None:
            raise self.bad(parts["changes"][0], "changes are those of a view, not of a query", "Name the view instead.")
        return Expectation(
            label,
            place,
            query,
            rows,
            changes,
            ordered=self.flag(parts["ordered"][1], "`ordered`") if "ordered" in parts else False,
            tolerance=self.number(parts["tolerance"][1], "`tolerance`") if "tolerance" in parts else DEFAULT_TOLERANCE,
        )

    def _changes(self, key: Node, node: Node) -> Rows:
        rows = self._rows(key, node)
        if rows.columns is None:
            return rows
        fix = f"`op` is one of {', '.join(OPERATIONS)}."
        if "op" not in rows.columns:
            raise InvalidInputError("changes have no column `op`", where=str(rows.place), fix=fix)
        at = rows.columns.index("op")
        for row, where in zip(rows.rows, rows.places, strict=True):
            if row[at] not in OPERATIONS:
                raise InvalidInputError(f"`{row[at]}` is no operation", where=str(where), fix=fix)
        return rows

    # Rows

    def _rows_of(self, parts: dict[str, tuple[Node, Node]]) -> Rows:
        if "rows" in parts:
            return self._rows(*parts["rows"])
        node = parts["file"][1]
        path = self.path.parent / self.text(node, "`file`")
        if not path.is_file():
            raise self.bad(node, f"there is no file `{shown(path)}`", "A path counts from the test file.")
        return parse_rows(path.read_text(encoding="utf-8"), Place(path, 1), Span(path))

    def _rows(self, key: Node, node: Node) -> Rows:
        """A block of rows; `[]` and nothing at all are no rows."""
        span = Span(self.path, node.start_mark.index, node.end_mark.index, key.start_mark.column)
        if isinstance(node, yaml.SequenceNode) and not node.value:
            return parse_rows("", self.place(node), span)
        if not isinstance(node, yaml.ScalarNode):
            raise self.bad(node, "rows must be a block of text", "Begin it with `|`, and write CSV or JSON lines below.")
        return parse_rows(self.text(node, "a block of rows"), self.text_place(node), span)

    def _moment(self, node: Node) -> datetime:
        text = self.text(node, "`now`")
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise self.bad(node, f"`{text}` is no time", "Write e.g. `2026-01-01T00:00:00Z`.") from None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
