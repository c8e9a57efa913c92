"""Procedural pictures with exact masks, boxes and labels: one file a visual domain, two worlds.

The "starter" world is what the embedded base learns from; of the "quickstart" world it never sees a surface,
a kind of defect or an object while it learns.
"""

from datasets_vision.synthetic.domains import DOMAINS, Pictures, Texts
from datasets_vision.synthetic.objects import OBJECTS, object_scene
from datasets_vision.synthetic.scene import GOOD, Scene, SceneObject
from datasets_vision.synthetic.surfaces import KINDS, SURFACES, World, surface_scene
from datasets_vision.synthetic.writing import rows, scenes, write_set, write_voc

__all__ = [
    "DOMAINS",
    "GOOD",
    "KINDS",
    "OBJECTS",
    "SURFACES",
    "Pictures",
    "Scene",
    "SceneObject",
    "Texts",
    "World",
    "object_scene",
    "rows",
    "scenes",
    "surface_scene",
    "write_set",
    "write_voc",
]
