"""mcr: mode connectivity and adversarial robustness of neural networks.

As a library, without folders or command lines::

    path = mcr.Subspace([a, b], "bezier", images=train)      # two networks of your own
    mcr.fit(path, train, epochs=20)                          # its free control points
    table = mcr.measure(path, test, ["risk", "robust_risk"], at=11)
    print(table)                                             # the barriers
    table.plot().savefig("path.png")
    path.at(0.5)                                             # a network

Everything that a function is not given is as in ``conf/``, where the command line has it from.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcr.architectures.normalization import Normalized
    from mcr.datasets.augment import Augmentation
    from mcr.library.align import align, align_jointly
    from mcr.library.data import dataset
    from mcr.library.fit import fit
    from mcr.library.load import load
    from mcr.library.measure import Measures, measure
    from mcr.library.options import option
    from mcr.library.repair import Repaired, repair
    from mcr.library.subspace import Subspace

__version__ = "0.1.0"

# Name to the module that has it, loaded when it is asked for: ``import mcr`` loads neither torch nor Lightning.
_FACE = {
    "Augmentation": "mcr.datasets.augment",
    "Measures": "mcr.library.measure",
    "Normalized": "mcr.architectures.normalization",
    "Repaired": "mcr.library.repair",
    "Subspace": "mcr.library.subspace",
    "align": "mcr.library.align",
    "align_jointly": "mcr.library.align",
    "dataset": "mcr.library.data",
    "fit": "mcr.library.fit",
    "load": "mcr.library.load",
    "measure": "mcr.library.measure",
    "option": "mcr.library.options",
    "repair": "mcr.library.repair",
}
__all__ = [
    "Augmentation",
    "Measures",
    "Normalized",
    "Repaired",
    "Subspace",
    "align",
    "align_jointly",
    "dataset",
    "fit",
    "load",
    "measure",
    "option",
    "repair",
]


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module mcr has no attribute {name}")
    found = getattr(importlib.import_module(_FACE[name]), name)
    globals()[name] = found  # asked for once
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
