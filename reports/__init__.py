"""What is read: finished runs as tables, figures and pages. Import as ``l2t_bench.reports``.

``analyse(load_run(folder))`` is all that a report says of a run; each function of ``figures`` gives its plots.
"""

from importlib import import_module
from typing import Any

if __name__ != "l2t_bench.reports":
    raise ImportError("import l2t_bench.reports, not reports: this would load a second copy")

__all__ = ["analyse", "figures", "load_run"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the package alone imports neither pandas nor plotly."""
    if name == "figures":
        return import_module("l2t_bench.reports.figures")
    if name in ("analyse", "load_run"):
        return getattr(import_module(f"l2t_bench.reports.{'derive' if name == 'analyse' else 'load'}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
