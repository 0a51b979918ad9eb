"""What is kept: the store, the prompt sets, the shapes world and the embedded weights. Knows nothing of models."""
