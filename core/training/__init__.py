"""Training of every stage. Takes examples, texts and labels in memory; knows no world, no store and no user."""
