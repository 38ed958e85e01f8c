-- Documents: one row per noun, its body as JSON. `revision` is unique over all rows and only grows.
CREATE TABLE objects (
    kind     TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    parent   TEXT,
    revision INTEGER NOT NULL,
    body     TEXT    NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT;

-- The last revision given. A row of its own, because revisions must not come back when the newest document is deleted.
CREATE TABLE counters (
    name  TEXT    PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO counters (name, value) VALUES ('revision', 0);

-- Small facts about the database itself, e.g. the check value of the master key.
CREATE TABLE facts (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

CREATE TABLE events (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id TEXT    NOT NULL,
    cluster_id TEXT    NOT NULL,
    event_type TEXT    NOT NULL COLLATE NOCASE,
    body       TEXT    NOT NULL
) STRICT;
CREATE INDEX events_by_account ON events (account_id, seq);
CREATE INDEX events_by_cluster ON events (account_id, cluster_id, seq);

CREATE TABLE logs (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    cluster_id TEXT    NOT NULL,
    created    TEXT    NOT NULL,
    text       TEXT    NOT NULL
) STRICT;
CREATE INDEX logs_by_cluster ON logs (cluster_id, id);

-- AES-256-GCM; the name is authenticated with the value, so that a row cannot be moved to another name.
CREATE TABLE secrets (
    name       TEXT PRIMARY KEY,
    nonce      BLOB NOT NULL,
    ciphertext BLOB NOT NULL
) STRICT;

-- Nonces of signed requests that changed something. `expires` is in milliseconds since 1970.
CREATE TABLE nonces (
    access_key_id TEXT    NOT NULL,
    nonce         TEXT    NOT NULL,
    expires       INTEGER NOT NULL,
    PRIMARY KEY (access_key_id, nonce)
) STRICT, WITHOUT ROWID;
CREATE INDEX nonces_by_expiry ON nonces (expires);
