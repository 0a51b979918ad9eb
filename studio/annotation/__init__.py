"""Word scores and their corrections: what people are shown, what they say of it, and how far they agree."""

HABITS = ("every", "wrong", "clean")  # of the simulated annotator
