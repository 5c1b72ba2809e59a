-- Each share of the audit trail has numbers of its own, by which its oldest
-- entries are removed. pauses outlive the rows of managed: they bound what a
-- client can order for one set of names. superseded_at is set when a name of the
-- row passed to another client. facts are about the database itself.

-- +goose Up
ALTER TABLE audit ADD COLUMN share TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;
UPDATE audit SET share = CASE
    WHEN client_id = '' AND outcome = 'refused' THEN 'strangers'
    WHEN client_id = '' OR addr = 'admin' THEN ''
    WHEN NOT EXISTS (SELECT 1 FROM clients WHERE clients.id = audit.client_id) THEN 'removed'
    WHEN outcome = 'refused' THEN 'refused/' || client_id
    ELSE 'client/' || client_id END;
UPDATE audit SET seq = numbered.n FROM
    (SELECT id, ROW_NUMBER() OVER (PARTITION BY share ORDER BY id) AS n FROM audit) AS numbered
    WHERE numbered.id = audit.id;
CREATE INDEX audit_share ON audit (share, seq);
INSERT INTO counters (name, value) SELECT 'audit/' || share, MAX(seq) FROM audit GROUP BY share;

ALTER TABLE managed ADD COLUMN superseded_at BIGINT NOT NULL DEFAULT 0;

-- The proxy's own name sets have the empty client_id, so there is no foreign key.
CREATE TABLE pauses (
    client_id     TEXT   NOT NULL,
    names_hash    TEXT   NOT NULL,
    asked_at      BIGINT NOT NULL,
    paid_until    BIGINT NOT NULL,
    failures      BIGINT NOT NULL,
    last_error    TEXT   NOT NULL,
    last_error_at BIGINT NOT NULL,
    retry_at      BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL,
    PRIMARY KEY (client_id, names_hash)
);
CREATE INDEX pauses_expiry ON pauses (expires_at);

CREATE TABLE facts (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
-- A database that has been in use keeps its clients without a default quota.
INSERT INTO facts (name, value) SELECT 'default_quota', CASE
    WHEN EXISTS (SELECT 1 FROM secrets) OR EXISTS (SELECT 1 FROM clients) OR EXISTS (SELECT 1 FROM accounts) THEN 0
    ELSE 1 END;

-- +goose Down
DROP TABLE facts;
DROP TABLE pauses;
ALTER TABLE managed DROP COLUMN superseded_at;
DELETE FROM counters WHERE name LIKE 'audit/%';
DROP INDEX audit_share;
ALTER TABLE audit DROP COLUMN seq;
ALTER TABLE audit DROP COLUMN share;
