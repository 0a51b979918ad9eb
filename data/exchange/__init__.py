"""Labels as files: JSONL without loss, and the formats of other tools; out, checked, and in again."""
