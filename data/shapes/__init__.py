"""The procedural world of coloured shapes: a grammar of prompts, a renderer, a degrader and a detector that tells truth."""
