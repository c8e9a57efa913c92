"""Score a folder of images, or a table of texts: one row each, resumable, exported as a table."""
