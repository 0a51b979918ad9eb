"""The method: words, noise, diffusion, networks, training, scoring, evaluation. Knows no user and no store."""
