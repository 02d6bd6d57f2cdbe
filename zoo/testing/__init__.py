"""For tests of zoo and of plugins: the conformance kit, an empty registry, weights that hide nothing.

    test_conformance = zoo.testing.conformance("acme")

in a test file holds a plugin to everything that zoo asks of a model. Nothing heavy is imported before it is used, and
pytest only by `conformance`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo import registry

if TYPE_CHECKING:
    from zoo.testing.failure import CheckFailed
    from zoo.testing.golden import record_golden
    from zoo.testing.kit import checks, conformance, report
    from zoo.testing.loopback_hub import LoopbackHub
    from zoo.testing.shaking import perturb

isolated = registry.default.isolated

_LAZY = {
    "CheckFailed": "zoo.testing.failure",
    "LoopbackHub": "zoo.testing.loopback_hub",
    "checks": "zoo.testing.kit",
    "conformance": "zoo.testing.kit",
    "perturb": "zoo.testing.shaking",
    "record_golden": "zoo.testing.golden",
    "report": "zoo.testing.kit",
}

__all__ = ["CheckFailed", "LoopbackHub", "checks", "conformance", "isolated", "perturb", "record_golden", "report"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'zoo.testing' has no attribute {name!r}")
