"""Word scores and their corrections: what people are shown, what they say of it, and how far they agree."""
