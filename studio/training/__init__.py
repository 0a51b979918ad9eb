"""Training from labels: what a run sees, its stages, its job, its result."""
