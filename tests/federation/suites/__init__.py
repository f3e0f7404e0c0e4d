"""The federations: one module a behaviour, each with its subgraphs, data and cases."""

import importlib
import pkgutil

from tests.federation.harness.cases import Federation


def load() -> dict[str, Federation]:
    """All federations by name, in the order of their modules' names."""
    found: dict[str, Federation] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        federation = importlib.import_module(f"{__name__}.{module.name}").FEDERATION
        assert federation.name not in found, federation.name
        found[federation.name] = federation
    return found
