"""PyTorch modules of one's own to bundles; `export_module` is the way in from Python."""

from export.modules.adapter import Scaling
from export.modules.export_module import Declaration, export_module

__all__ = ["Declaration", "Scaling", "export_module"]
