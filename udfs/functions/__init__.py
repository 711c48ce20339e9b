"""Functions that users write: a decorator, type hints that become the SQL signature, a folder that is loaded by path."""

from udfs.functions.definition import udf
from udfs.functions.signature import Sql

__all__ = ["Sql", "udf"]
