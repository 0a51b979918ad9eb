"""The schema of the store (DESIGN section 5), as migrations that are only ever appended to.

A migration that has been released is never edited: a store made by it is out there. A change of the
schema is a new function at the end of ``annotation_schema.py``, where this file goes on.

Tables that hold what people and scorers said (``APPEND_ONLY``) are append-only: triggers refuse UPDATE and
DELETE, and refuse an INSERT OR REPLACE of a row that exists. ``uncertainty`` and ``disagreement`` are caches that can be
rebuilt from ``scores``, as ``means`` can from scores and gold, and ``foreseen`` and ``kinds`` from samples; ``runs`` and
``grids`` change while they run; ``leases``, ``cursors`` and ``receipts`` come and go.

``seq`` is the order of arrival. It is an AUTOINCREMENT key, since a plain rowid may be given out twice and
may change in a VACUUM: a snapshot of the labels is "all events up to this seq".
"""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("studio")

SOURCES = ("vlm", "human", "confirmed", "simulated", "calibrated")
SPLITS = ("train", "validation", "heldout")
RUN_KINDS = (
    "pretrain", "reward", "warmup", "projector", "calibrator", "cycle", "evaluate", "lora", "experiment",
    "round",
)  # fmt: skip
RUN_STATES = ("queued", "running", "stopped", "interrupted", "done", "failed")

APPEND_ONLY = (
    "samples",
    "scores",
    "submissions",
    "promotions",
    "missing",
    "remarks",
    "gold",
    "audit",
    "preferences",
)


def run(db: Database, script: str) -> None:
    """Statement by statement: ``executescript`` would commit the migration's transaction."""
    for statement in script.split(";;"):
        if statement.strip():
            db.execute(statement)


@migrations()
def m001_first(db: Database) -> None:
    run(
        db,
        """
        CREATE TABLE store (id TEXT NOT NULL, created TEXT NOT NULL) STRICT;;

        CREATE TABLE runs (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 64),
            kind TEXT NOT NULL CHECK (kind IN
                ('pretrain', 'reward', 'warmup', 'projector', 'calibrator', 'cycle', 'evaluate')),
            config TEXT NOT NULL CHECK (json_valid(config)),
            parent TEXT REFERENCES runs (id),
            labels TEXT CHECK (labels IS NULL OR json_valid(labels)),
            metrics TEXT CHECK (metrics IS NULL OR json_valid(metrics)),
            checkpoint TEXT,
            checkpoint_sha256 TEXT CHECK (checkpoint_sha256 IS NULL OR length(checkpoint_sha256) = 64),
            state TEXT NOT NULL CHECK (state IN
                ('queued', 'running', 'stopped', 'interrupted', 'done', 'failed')),
            pid INTEGER,
            heartbeat TEXT,
            message TEXT NOT NULL DEFAULT '',
            created TEXT NOT NULL,
            finished TEXT
        ) STRICT;;
        CREATE INDEX runs_kind ON runs (kind, seq);;
        CREATE INDEX runs_state ON runs (state);;

        CREATE TABLE samples (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 64),
            prompt TEXT NOT NULL CHECK (length(prompt) BETWEEN 1 AND 2000),
            prompt_set TEXT NOT NULL,
            split TEXT NOT NULL CHECK (split IN ('train', 'validation', 'heldout')),
            n_words INTEGER NOT NULL CHECK (n_words BETWEEN 0 AND 1000),
            seed INTEGER NOT NULL CHECK (seed >= 0),
            backbone TEXT NOT NULL,
            backbone_revision TEXT NOT NULL,
            width INTEGER NOT NULL CHECK (width > 0 AND width % 8 = 0),
            height INTEGER NOT NULL CHECK (height > 0 AND height % 8 = 0),
            steps INTEGER NOT NULL CHECK (steps > 0),
            guidance REAL NOT NULL,
            sampler TEXT NOT NULL,
            method TEXT NOT NULL,
            strength REAL NOT NULL CHECK (strength BETWEEN 0 AND 1),
            projector_run TEXT REFERENCES runs (id),
            image_path TEXT,
            image_sha256 TEXT CHECK (image_sha256 IS NULL OR length(image_sha256) = 64),
            noise_sha256 TEXT CHECK (noise_sha256 IS NULL OR length(noise_sha256) = 64),
            group_id TEXT,
            created TEXT NOT NULL
        ) STRICT;;
        CREATE INDEX samples_group ON samples (group_id);;
        CREATE INDEX samples_kind ON samples (split, prompt_set, method);;
        CREATE INDEX samples_prompt ON samples (prompt, seed);;

        CREATE TABLE scores (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 64),
            sample TEXT NOT NULL REFERENCES samples (id),
            word_index INTEGER NOT NULL CHECK (word_index >= 0),
            word TEXT NOT NULL,
            source TEXT NOT NULL CHECK (source IN ('vlm', 'human', 'simulated', 'calibrated')),
            who TEXT NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('set', 'clear')),
            score INTEGER CHECK (score BETWEEN 0 AND 9),
            distribution TEXT CHECK (distribution IS NULL OR json_array_length(distribution) = 10),
            entropy REAL,
            features BLOB,
            scorer TEXT NOT NULL,
            scorer_version TEXT NOT NULL,
            weight REAL NOT NULL CHECK (weight BETWEEN 0 AND 1000),
            supersedes TEXT REFERENCES scores (id),
            undoes TEXT UNIQUE REFERENCES scores (id),
            created TEXT NOT NULL,
            CHECK ((kind = 'clear') = (score IS NULL AND distribution IS NULL)),
            CHECK ((source IN ('human', 'simulated')) = (who <> '')),
            CHECK (source <> 'human' OR distribution IS NULL)
        ) STRICT;;
        CREATE INDEX scores_lane ON scores (sample, word_index, source, who, seq);;
        CREATE INDEX scores_who ON scores (who, seq) WHERE who <> '';;
        CREATE INDEX scores_supersedes ON scores (supersedes) WHERE supersedes IS NOT NULL;;

        CREATE TABLE submissions (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 64),
            sample TEXT NOT NULL REFERENCES samples (id),
            who TEXT NOT NULL CHECK (who <> ''),
            kind TEXT NOT NULL CHECK (kind IN ('submit', 'skip')),
            created TEXT NOT NULL
        ) STRICT;;
        CREATE INDEX submissions_who ON submissions (who, sample, seq);;
        CREATE INDEX submissions_sample ON submissions (sample);;

        CREATE TABLE promotions (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            run TEXT REFERENCES runs (id),
            action TEXT NOT NULL CHECK (action IN ('promote', 'rollback')),
            who TEXT NOT NULL,
            created TEXT NOT NULL,
            CHECK (action = 'rollback' OR run IS NOT NULL)
        ) STRICT;;

        CREATE TABLE uncertainty (
            sample TEXT PRIMARY KEY REFERENCES samples (id),
            entropy REAL NOT NULL
        ) STRICT, WITHOUT ROWID;;
        CREATE INDEX uncertainty_entropy ON uncertainty (entropy DESC);;

        CREATE TRIGGER runs_keep BEFORE DELETE ON runs
        BEGIN SELECT RAISE(ABORT, 'runs are never deleted'); END;;

        CREATE VIEW latest AS
        SELECT *, CASE source WHEN 'human' THEN 0 WHEN 'simulated' THEN 1 WHEN 'calibrated' THEN 2 ELSE 3 END
            AS rank
        FROM scores WHERE seq IN
            (SELECT max(seq) FROM scores GROUP BY sample, word_index, source, who);;

        CREATE VIEW current_human AS
        SELECT sample, word_index, word, who, score, weight, id, seq, created
        FROM latest WHERE source = 'human' AND kind = 'set';;

        CREATE VIEW current_scores AS
        SELECT sample, word_index, max(word) AS word,
            max(score) FILTER (WHERE source = 'vlm') AS vlm,
            max(distribution) FILTER (WHERE source = 'vlm') AS vlm_distribution,
            max(score) FILTER (WHERE source = 'calibrated') AS calibrated,
            max(distribution) FILTER (WHERE source = 'calibrated') AS calibrated_distribution,
            avg(score) FILTER (WHERE source = 'simulated') AS simulated,
            avg(score) FILTER (WHERE source = 'human') AS human,
            count(*) FILTER (WHERE source = 'human') AS people
        FROM latest WHERE kind = 'set' GROUP BY sample, word_index;;

        CREATE VIEW labels AS
        SELECT l.sample, l.word_index, l.word, s.prompt, s.seed, l.source, l.who, l.score, l.distribution,
            l.weight, s.method, s.split, s.noise_sha256, l.id AS event
        FROM latest l JOIN samples s ON s.id = l.sample
        WHERE l.kind = 'set' AND NOT EXISTS (
            SELECT 1 FROM latest b WHERE b.sample = l.sample AND b.word_index = l.word_index
                AND b.kind = 'set' AND b.rank < l.rank)
        """,
    )
    for table, key in (("samples", "id"), ("scores", "id"), ("submissions", "id"), ("promotions", "seq")):
        only_append(db, table, key)


@migrations()
def m002_missing(db: Database) -> None:
    """Words that a scorer gave no readable answer for; runs of LoRA fine-tuning and of experiments.

    The set of kinds stands in a CHECK, and rebuilding a table that others refer to takes foreign keys off, which no
    transaction can: the CHECK's text is changed in the schema, as SQLite documents for changes that leave rows alone.
    """
    run(
        db,
        """
        CREATE TABLE missing (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            sample TEXT NOT NULL REFERENCES samples (id),
            word_index INTEGER NOT NULL CHECK (word_index >= 0),
            scorer TEXT NOT NULL,
            scorer_version TEXT NOT NULL,
            reason TEXT NOT NULL,
            created TEXT NOT NULL
        ) STRICT;;
        CREATE INDEX missing_sample ON missing (sample, scorer_version)
        """,
    )
    only_append(db, "missing", "seq")
    widen_check(db, "runs", "'cycle', 'evaluate')", "'cycle', 'evaluate', 'lora', 'experiment')")


def widen_check(db: Database, table: str, old: str, new: str) -> None:
    """Change the text of a CHECK so that it lets more through than before."""
    version = db.execute("PRAGMA schema_version").fetchone()[0]
    db.execute("PRAGMA writable_schema = ON")
    db.execute(
        "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = ?",
        (old, new, table),
    )
    db.execute(f"PRAGMA schema_version = {version + 1}")
    db.execute("PRAGMA writable_schema = OFF")


def only_append(db: Database, table: str, key: str) -> None:
    run(
        db,
        f"""
        CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table}
        BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;;
        CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table}
        BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;;
        CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table}
        WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})
        BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END
        """,
    )
