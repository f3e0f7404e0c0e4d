"""Alembic migrations, run on SQLite and PostgreSQL; and the one place that loads every table."""

import importlib
import pkgutil

import sqlalchemy as sa

import gateway
from gateway.db import metadata


def all_tables() -> sa.MetaData:
    """The metadata with every room's tables loaded."""
    for room in pkgutil.iter_modules(gateway.__path__):
        if not room.ispkg or room.name == "migrations":
            continue
        package = importlib.import_module(f"gateway.{room.name}")
        if any(module.name == "store" for module in pkgutil.iter_modules(package.__path__)):
            importlib.import_module(f"gateway.{room.name}.store")
    return metadata
