"""Where models come from: the catalogue, the sources, and what lies on disk."""
