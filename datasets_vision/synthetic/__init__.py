"""Procedural pictures with exact masks, boxes and labels: one file a visual domain, two worlds.

The "starter" world is what the embedded base learns from; of the "quickstart" world it never sees a surface,
a kind of defect or an object while it learns.
"""

from datasets_vision.synthetic.objects import OBJECTS, object_scene
from datasets_vision.synthetic.scene import GOOD, Scene, SceneObject
from datasets_vision.synthetic.surfaces import KINDS, SURFACES, World, surface_scene
from datasets_vision.synthetic.writing import Domain, scenes, write_set, write_voc

__all__ = [
    "GOOD",
    "KINDS",
    "OBJECTS",
    "SURFACES",
    "Domain",
    "Scene",
    "SceneObject",
    "World",
    "object_scene",
    "scenes",
    "surface_scene",
    "write_set",
    "write_voc",
]
