"""From prompts to scored images: models, noise, denoising, scoring, files."""
