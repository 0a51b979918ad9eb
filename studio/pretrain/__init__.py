"""Makes the embedded models from the shapes world."""
