"""Procedural pictures with exact masks, boxes and labels, and texts from templates: one generator per task."""

from datasets_vision.synthetic.domains import DOMAINS, Pictures
from datasets_vision.synthetic.scene import GOOD
from datasets_vision.synthetic.writing import write_set

__all__ = ["DOMAINS", "GOOD", "Pictures", "write_set"]
