"""SQL text made once from Core expressions, for statements that run too often to be compiled and wrapped each time.

Measured: a Core execution costs 25 to 60 microseconds around a statement of 5. These run on the driver's cursor with a
tuple of parameters. `Prepared` pins the order of that tuple, so that a new column cannot shift it unnoticed.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BindParameter


class Prepared:
    """A statement with the names of its parameters in order."""

    def __init__(self, statement: Executable, parameters: str = "", *, postgresql: Executable | None = None) -> None:
        self._statement = statement
        self._postgresql = postgresql if postgresql is not None else statement
        self.parameters = tuple(parameters.split())

    @cached_property
    def sqlite(self) -> str:
        """Return the text for sqlite3."""
        return self._text(self._statement, sqlite.dialect(paramstyle="qmark"))

    @cached_property
    def postgresql(self) -> str:
        """Return the text for psycopg."""
        return self._text(self._postgresql, PGDialect_psycopg(paramstyle="format"))  # type: ignore[no-untyped-call]

    def _text(self, statement: Executable, dialect: Dialect) -> str:
        compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        order = tuple(compiled.positiontup or ())
        if order != self.parameters:
            raise TypeError(f"the statement takes {order}, not {self.parameters}: {compiled}")
        return str(compiled)


class Among(ColumnElement[bool]):
    """`column IN <list>` with the whole list in one parameter, so that the text does not depend on its length."""

    inherit_cache = False

    def __init__(self, column: ColumnElement[Any], values: BindParameter[Any]) -> None:
        self.column = column
        self.values = values


@compiles(Among, "sqlite")
def _among_sqlite(element: Among, compiler: SQLCompiler, **kwargs: Any) -> str:
    column, values = compiler.process(element.column, **kwargs), compiler.process(element.values, **kwargs)
    return f"{column} IN (SELECT value FROM json_each({values}))"


@compiles(Among, "postgresql")
def _among_postgresql(element: Among, compiler: SQLCompiler, **kwargs: Any) -> str:
    column, values = compiler.process(element.column, **kwargs), compiler.process(element.values, **kwargs)
    return f"{column} = ANY({values})"
