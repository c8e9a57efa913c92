"""How the starter base comes to be: from nothing, on procedural images and texts, in two stages."""
