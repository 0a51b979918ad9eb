"""Scoring of a prompt's words in an image: digits, the VLM that reads them, and the calibrator taught by people."""
