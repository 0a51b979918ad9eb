"""How well the words of a prompt show in an image: digits, the VLM that gives them, and what people teach it."""
