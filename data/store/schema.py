"""The schema of the store as a sequence of migrations; what its tables hold is in ``data/README.md``.

A released migration is never edited, since stores made by it exist: a change of the schema is a new migration at the end.

``seq`` is the order of arrival. It is an AUTOINCREMENT key, because a plain rowid may be reused and may change in a VACUUM:
a snapshot of the labels is "all events up to this seq".
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

# tables of which triggers refuse UPDATE, DELETE, and INSERT OR REPLACE of an existing row
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

# max - min in points, averaged over the words that two or more people have scored; {which} bounds the samples.
DISAGREEMENT = """
    INSERT INTO disagreement (sample, points)
    SELECT sample, avg(high - low) FROM
        (SELECT sample, max(score) AS high, min(score) AS low, count(*) AS people
        FROM scores e WHERE source = 'human' AND kind = 'set' AND {which} AND NOT EXISTS
            (SELECT 1 FROM scores n WHERE n.sample = e.sample AND n.word_index = e.word_index
                AND n.source = 'human' AND n.who = e.who AND n.seq > e.seq)
        GROUP BY sample, word_index)
    WHERE people > 1 GROUP BY sample
"""

# Number of samples in each pool; into an empty table.
POOLS = """
    INSERT INTO pools
    SELECT split, prompt_set, method, backbone, coalesce(projector_run, ''), count(*) FROM samples
    GROUP BY split, prompt_set, method, backbone, projector_run
"""

# The labels of a sample's words (``data.store.labels``) as numbers from 0 to 9, averaged: mean without gold, golden with it.
# {which} bounds the samples, in a table called e. The lowest rank of a word counts: the lower median of people, else of those
# who confirmed it, else the simulated annotator's latest score, else a machine's, a distribution counting as its mean.
_LAST = """NOT EXISTS (SELECT 1 FROM scores n WHERE n.sample = e.sample AND n.word_index = e.word_index
                        AND n.source = e.source AND n.who = e.who AND n.seq > e.seq)"""
MEANS = f"""
    INSERT INTO means (sample, mean, golden)
    SELECT sample, round(avg(value), 6), round(avg(coalesce(gold, value)), 6) FROM
        (SELECT sample, word_index, min(rank), sum(gold) AS gold,
            coalesce((SELECT sum(key * value) / sum(value) FROM json_each(distribution)), score) AS value FROM
            (SELECT sample, word_index, iif(source = 'human', 1, 2) AS rank, score, NULL AS distribution, NULL AS gold FROM
                (SELECT sample, word_index, source, score, count(*) OVER (PARTITION BY sample, word_index, source) AS people,
                    row_number() OVER (PARTITION BY sample, word_index, source ORDER BY score) AS place
                FROM scores e WHERE source IN ('human', 'confirmed') AND kind = 'set' AND {{which}} AND {_LAST})
            WHERE place = (people + 1) / 2
            UNION ALL
            SELECT sample, word_index, (CASE source WHEN 'simulated' THEN 2 WHEN 'calibrated' THEN 3 ELSE 4 END << 50) - seq,
                score, distribution, NULL FROM scores e
            WHERE source NOT IN ('human', 'confirmed') AND kind = 'set' AND {{which}} AND {_LAST}
            UNION ALL
            SELECT sample, word_index, 1 << 60, NULL, NULL, score FROM gold e
            WHERE score IS NOT NULL AND {{which}} AND NOT EXISTS
                (SELECT 1 FROM gold n WHERE n.sample = e.sample AND n.word_index = e.word_index AND n.seq > e.seq))
        GROUP BY sample, word_index)
    GROUP BY sample
"""
# the body of the triggers that refresh ``means``
_REFRESH_MEANS = f"""
        BEGIN
            DELETE FROM means WHERE sample = NEW.sample;
            {MEANS.format(which="e.sample = NEW.sample")};
        END"""


def run(db: Database, script: str) -> None:
    """Execute a script statement by statement, since ``executescript`` would commit the migration's transaction."""
    for statement in script.split(";;"):
        if statement.strip():
            db.execute(statement)


def widen_check(db: Database, table: str, old: str, new: str) -> None:
    """Change the text of a CHECK so that it accepts more than before."""
    version = db.execute("PRAGMA schema_version").fetchone()[0]
    db.execute("PRAGMA writable_schema = ON")
    db.execute(
        "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = ?",
        (old, new, table),
    )
    db.execute(f"PRAGMA schema_version = {version + 1}")
    db.execute("PRAGMA writable_schema = OFF")


def only_append(db: Database, table: str, key: str) -> None:
    sql = f"""
        CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table}
        BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;;
        CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table}
        BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;;
        CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table}
        WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})
        BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END
        """
    run(db, sql)


@migrations()
def m001_first(db: Database) -> None:
    sql = """
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
        """
    run(db, sql)
    for table, key in (("samples", "id"), ("scores", "id"), ("submissions", "id"), ("promotions", "seq")):
        only_append(db, table, key)


@migrations()
def m002_missing(db: Database) -> None:
    """Words that a scorer gave no readable answer for; runs of LoRA fine-tuning and of experiments.

    The kinds of runs are in a CHECK, and rebuilding a table that others refer to needs foreign keys off, which is impossible
    in a transaction: the CHECK's text is changed in the schema, as SQLite documents for changes that do not affect rows.
    """
    sql = """
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
        """
    run(db, sql)
    only_append(db, "missing", "seq")
    widen_check(db, "runs", "'cycle', 'evaluate')", "'cycle', 'evaluate', 'lora', 'experiment')")


@migrations()
def m003_queue(db: Database) -> None:
    """The annotation queue: leases, disagreement between people (kept up to date by a trigger), and remarks."""
    sql = f"""
        CREATE TABLE leases (
            sample TEXT NOT NULL REFERENCES samples (id),
            who TEXT NOT NULL CHECK (who <> ''),
            expires TEXT NOT NULL,
            PRIMARY KEY (sample, who)
        ) STRICT, WITHOUT ROWID;;
        CREATE INDEX leases_expires ON leases (expires);;

        CREATE TABLE remarks (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 64),
            sample TEXT NOT NULL REFERENCES samples (id),
            who TEXT NOT NULL CHECK (who <> ''),
            kind TEXT NOT NULL CHECK (kind IN ('flag', 'note')),
            text TEXT NOT NULL CHECK (length(text) <= 2000),
            created TEXT NOT NULL
        ) STRICT;;
        CREATE INDEX remarks_lane ON remarks (sample, who, kind, seq);;

        CREATE TABLE disagreement (
            sample TEXT PRIMARY KEY REFERENCES samples (id),
            points REAL NOT NULL
        ) STRICT, WITHOUT ROWID;;
        CREATE INDEX disagreement_points ON disagreement (points DESC);;
        CREATE TRIGGER scores_disagreement AFTER INSERT ON scores WHEN NEW.source = 'human'
        BEGIN
            DELETE FROM disagreement WHERE sample = NEW.sample;
            {DISAGREEMENT.format(which="sample = NEW.sample")};
        END;;
        {DISAGREEMENT.format(which="1")};;

        CREATE INDEX samples_set ON samples (prompt_set);;
        CREATE INDEX samples_run ON samples (projector_run) WHERE projector_run IS NOT NULL;;
        CREATE INDEX submissions_time ON submissions (who, created)
        """
    run(db, sql)
    only_append(db, "remarks", "id")


@migrations()
def m004_people(db: Database) -> None:
    """Names and the digests of their owners' keys, gold, the audit log, cursors, and two caches for the queue."""
    sql = """
        CREATE TABLE people (
            name TEXT PRIMARY KEY CHECK (name <> ''),
            key_sha256 TEXT NOT NULL CHECK (length(key_sha256) = 64),
            created TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;;

        CREATE TABLE gold (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 64),
            sample TEXT NOT NULL REFERENCES samples (id),
            word_index INTEGER NOT NULL CHECK (word_index >= 0),
            word TEXT NOT NULL,
            score INTEGER CHECK (score BETWEEN 0 AND 9),
            who TEXT NOT NULL CHECK (who <> ''),
            created TEXT NOT NULL
        ) STRICT;;
        CREATE INDEX gold_word ON gold (sample, word_index, seq);;

        CREATE TABLE audit (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            who TEXT NOT NULL,
            action TEXT NOT NULL CHECK (action <> ''),
            subject TEXT NOT NULL,
            detail TEXT NOT NULL CHECK (json_valid(detail)),
            created TEXT NOT NULL
        ) STRICT;;

        CREATE TABLE cursors (
            name TEXT PRIMARY KEY,
            seq INTEGER NOT NULL CHECK (seq >= 0),
            changed TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;;

        CREATE TABLE foreseen (
            sample TEXT PRIMARY KEY REFERENCES samples (id),
            points REAL NOT NULL,
            model TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;;
        CREATE INDEX foreseen_points ON foreseen (points DESC);;

        CREATE TABLE kinds (
            prompt TEXT NOT NULL,
            kind TEXT NOT NULL,
            PRIMARY KEY (prompt, kind)
        ) STRICT, WITHOUT ROWID
        """
    run(db, sql)
    only_append(db, "gold", "id")
    only_append(db, "audit", "seq")


@migrations()
def m005_seeds(db: Database) -> None:
    """Grids of the page Seeds and their cells, blind votes between two images, and when a run was archived."""
    sql = """
        CREATE TABLE grids (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 64),
            config TEXT NOT NULL CHECK (json_valid(config)),
            who TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN
                ('queued', 'running', 'stopped', 'interrupted', 'done', 'failed')),
            message TEXT NOT NULL DEFAULT '',
            created TEXT NOT NULL,
            finished TEXT
        ) STRICT;;
        CREATE INDEX grids_state ON grids (state);;

        CREATE TABLE cells (
            grid TEXT NOT NULL REFERENCES grids (id),
            place INTEGER NOT NULL CHECK (place >= 0),
            sample TEXT NOT NULL REFERENCES samples (id),
            PRIMARY KEY (grid, place)
        ) STRICT, WITHOUT ROWID;;
        CREATE INDEX cells_sample ON cells (sample);;

        CREATE TABLE preferences (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 64),
            left_sample TEXT NOT NULL REFERENCES samples (id),
            right_sample TEXT NOT NULL REFERENCES samples (id),
            choice TEXT NOT NULL CHECK (choice IN ('left', 'right', 'tie', 'none')),
            who TEXT NOT NULL CHECK (who <> ''),
            created TEXT NOT NULL,
            CHECK (left_sample <> right_sample)
        ) STRICT;;
        CREATE INDEX preferences_left ON preferences (left_sample);;
        CREATE INDEX preferences_right ON preferences (right_sample);;

        ALTER TABLE runs ADD COLUMN archived TEXT
        """
    run(db, sql)
    only_append(db, "preferences", "id")


@migrations()
def m006_coming_back(db: Database) -> None:
    """Taking a submit or skip back is an event too: it names the event that it ``undoes``, and its kind is the state of the sample
    for that person from then on: submit or skip as before, or open. The last event of a person on a sample stands.

    The kinds are in a CHECK: see ``m002_missing``. The new index covers the queue's queries.
    """
    sql = """
        ALTER TABLE submissions ADD COLUMN undoes TEXT REFERENCES submissions (id)
            CHECK (kind <> 'open' OR undoes IS NOT NULL);;
        CREATE UNIQUE INDEX submissions_undoes ON submissions (who, undoes) WHERE undoes IS NOT NULL;;
        CREATE INDEX submissions_state ON submissions (who, sample, seq, kind);;
        DROP INDEX submissions_who
        """
    run(db, sql)
    widen_check(db, "submissions", "'submit', 'skip')", "'submit', 'skip', 'open')")


@migrations()
def m007_pools(db: Database) -> None:
    """``pools``, and indexes on them, on seeds, on the prompts of a kind, and on the samples that people have scored."""
    sql = f"""
        CREATE TABLE pools (
            split TEXT NOT NULL,
            prompt_set TEXT NOT NULL,
            method TEXT NOT NULL,
            backbone TEXT NOT NULL,
            projector_run TEXT NOT NULL,
            samples INTEGER NOT NULL,
            PRIMARY KEY (split, prompt_set, method, backbone, projector_run)
        ) STRICT, WITHOUT ROWID;;
        CREATE INDEX samples_seed ON samples (seed);;
        CREATE INDEX kinds_kind ON kinds (kind, prompt);;
        CREATE INDEX scores_said ON scores (sample, who) WHERE who <> '';;
        CREATE INDEX samples_pool ON samples (split, prompt_set, method, backbone, projector_run);;
        {POOLS};;
        CREATE TRIGGER samples_pools AFTER INSERT ON samples
        BEGIN
            INSERT INTO pools VALUES
                (NEW.split, NEW.prompt_set, NEW.method, NEW.backbone, coalesce(NEW.projector_run, ''), 1)
            ON CONFLICT DO UPDATE SET samples = samples + 1;
        END
        """
    run(db, sql)


@migrations()
def m008_means(db: Database) -> None:
    """``means``: the mean score of each sample, without and with gold, kept by triggers for scores of people."""
    sql = f"""
        CREATE TABLE means (
            sample TEXT PRIMARY KEY REFERENCES samples (id),
            mean REAL,
            golden REAL NOT NULL
        ) STRICT, WITHOUT ROWID;;
        {MEANS.format(which="1")};;
        CREATE INDEX means_mean ON means (mean);;
        CREATE INDEX means_golden ON means (golden);;
        CREATE TRIGGER scores_means AFTER INSERT ON scores WHEN NEW.who <> '' {_REFRESH_MEANS};;
        CREATE TRIGGER gold_means AFTER INSERT ON gold {_REFRESH_MEANS}
        """
    run(db, sql)


@migrations()
def m009_confirmed(db: Database) -> None:
    """Scores of source ``confirmed``: a person submitted an image with the shown score of a word unchanged. It is the word's
    label where nobody has given a score, and does not count in the agreement of people.

    The sources are in CHECKs (see ``m002_missing``), in the ranks of the views, and in the triggers of ``means``.
    """
    for old, new in (
        ("'human', 'simulated', 'calibrated')", "'human', 'confirmed', 'simulated', 'calibrated')"),
        ("(source IN ('human', 'simulated'))", "(source IN ('human', 'confirmed', 'simulated'))"),
        ("(source <> 'human' OR", "(source NOT IN ('human', 'confirmed') OR"),
    ):
        widen_check(db, "scores", old, new)
    sql = f"""
        DROP VIEW labels;;
        DROP VIEW current_scores;;
        DROP VIEW latest;;
        CREATE VIEW latest AS
        SELECT *, CASE source WHEN 'human' THEN 0 WHEN 'confirmed' THEN 1 WHEN 'simulated' THEN 2 WHEN 'calibrated' THEN 3
            ELSE 4 END AS rank
        FROM scores WHERE seq IN (SELECT max(seq) FROM scores GROUP BY sample, word_index, source, who);;
        CREATE VIEW current_scores AS
        SELECT sample, word_index, max(word) AS word,
            max(score) FILTER (WHERE source = 'vlm') AS vlm,
            max(distribution) FILTER (WHERE source = 'vlm') AS vlm_distribution,
            max(score) FILTER (WHERE source = 'calibrated') AS calibrated,
            max(distribution) FILTER (WHERE source = 'calibrated') AS calibrated_distribution,
            avg(score) FILTER (WHERE source = 'simulated') AS simulated, avg(score) FILTER (WHERE source = 'confirmed') AS confirmed,
            avg(score) FILTER (WHERE source = 'human') AS human, count(*) FILTER (WHERE source = 'human') AS people
        FROM latest WHERE kind = 'set' GROUP BY sample, word_index;;
        CREATE VIEW labels AS
        SELECT l.sample, l.word_index, l.word, s.prompt, s.seed, l.source, l.who, l.score, l.distribution,
            l.weight, s.method, s.split, s.noise_sha256, l.id AS event
        FROM latest l JOIN samples s ON s.id = l.sample
        WHERE l.kind = 'set' AND NOT EXISTS (SELECT 1 FROM latest b
            WHERE b.sample = l.sample AND b.word_index = l.word_index AND b.kind = 'set' AND b.rank < l.rank);;

        DROP TRIGGER scores_means;;
        DROP TRIGGER gold_means;;
        CREATE TRIGGER scores_means AFTER INSERT ON scores WHEN NEW.who <> '' {_REFRESH_MEANS};;
        CREATE TRIGGER gold_means AFTER INSERT ON gold {_REFRESH_MEANS}
        """
    run(db, sql)


@migrations()
def m010_rounds(db: Database) -> None:
    """Runs of kind ``round``; ``foreseen.promise``, what the reward model expects of words of which the VLM is unsure."""
    widen_check(db, "runs", "'lora', 'experiment')", "'lora', 'experiment', 'round')")
    sql = """
        ALTER TABLE foreseen ADD COLUMN promise REAL;;
        ALTER TABLE foreseen ADD COLUMN projected INTEGER NOT NULL DEFAULT 0;;
        UPDATE foreseen SET projected = 1 WHERE sample IN (SELECT id FROM samples WHERE method = 'projected');;
        CREATE INDEX foreseen_promise ON foreseen (projected DESC, promise DESC)
        """
    run(db, sql)


@migrations()
def m012_exactly_once(db: Database) -> None:
    """``receipts``: the number of the last key of a page that was handled, and the answer, so that a key that is sent again is not
    handled again (``data.store.desk``).

    The order of a person's steps, whatever the clock says: scores that were written together have the same ``step``, those
    that a submit confirmed the submit's id; and a submit or skip comes ``after`` the score with that seq. Both are NULL in rows
    that are older or imported, which are ordered by time.
    """
    sql = """
        CREATE TABLE receipts (
            page_sha256 TEXT PRIMARY KEY CHECK (length(page_sha256) = 64),
            revision INTEGER NOT NULL CHECK (revision > 0),
            answer TEXT NOT NULL CHECK (json_valid(answer)),
            changed TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;;
        CREATE INDEX receipts_changed ON receipts (changed);;

        ALTER TABLE scores ADD COLUMN step TEXT;;
        ALTER TABLE submissions ADD COLUMN after INTEGER;;
        CREATE INDEX submissions_order ON submissions (who, seq)
        """
    run(db, sql)


@migrations()
def m013_word_rules(db: Database) -> None:
    """The version of the rules by which a sample's words were counted, so that its scores keep their words when these change."""
    db.execute(
        "ALTER TABLE samples ADD COLUMN word_rules INTEGER NOT NULL DEFAULT 1 CHECK (word_rules BETWEEN 1 AND 1000)"
    )


@migrations()
def m014_imports(db: Database) -> None:
    """``imports``: the imported files and their number of rows, of which ``done`` are in the store (``data.store.imports``)."""
    sql = """
        CREATE TABLE imports (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 64),
            name TEXT NOT NULL,
            total INTEGER NOT NULL,
            done INTEGER NOT NULL CHECK (done BETWEEN 0 AND total),
            exact INTEGER NOT NULL CHECK (exact IN (0, 1)),
            created TEXT NOT NULL
        ) STRICT;;
        CREATE INDEX imports_left ON imports (seq) WHERE done < total
        """
    run(db, sql)


@migrations()
def m015_options(db: Database) -> None:
    """What else a sample was made with: its negative prompt; ``weighted``, its prompt as it was typed where parts of it have
    weights (``prompt`` is the text without them, in which the words are counted); and the LoRA files, a JSON list of {name,
    sha256, weight}. Samples of before were made with none of them; the scheduler is in ``sampler`` as ever."""
    for column in (
        "negative TEXT NOT NULL DEFAULT '' CHECK (length(negative) <= 2000)",
        "weighted TEXT NOT NULL DEFAULT '' CHECK (length(weighted) <= 2000)",
        "loras TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(loras))",
    ):
        db.execute(f"ALTER TABLE samples ADD COLUMN {column}")


@migrations()
def m016_kinds(db: Database) -> None:
    """The version of what told the kinds of a prompt's words: those of another one are out of date."""
    db.execute("ALTER TABLE kinds ADD COLUMN version TEXT NOT NULL DEFAULT ''")


@migrations()
def m017_negative_weights(db: Database) -> None:
    """The negative prompt of a sample is in the syntax of weights where ``weighted`` is set. Before it never was: there its
    brackets get the backslash that takes their meaning away."""
    escaped = "negative"
    for sign in "\\()[]":  # the backslash first
        escaped = f"replace({escaped}, '{sign}', '\\{sign}')"
    db.execute("DROP TRIGGER samples_no_update")
    db.execute(f"UPDATE samples SET negative = {escaped} WHERE weighted <> '' AND length({escaped}) <= 2000")
    db.execute(
        "CREATE TRIGGER samples_no_update BEFORE UPDATE ON samples "
        "BEGIN SELECT RAISE(ABORT, 'samples is append-only'); END"
    )
