-- One text for SQLite and PostgreSQL. Times are Unix milliseconds in UTC, 0 is
-- "none". Lists are newline-separated. Names that are too long for an index
-- are indexed by their hash.

-- +goose Up
CREATE TABLE accounts (
    directory_url TEXT   NOT NULL PRIMARY KEY,
    url           TEXT   NOT NULL,
    email         TEXT   NOT NULL,
    sealed_key    BYTEA  NOT NULL,
    created_at    BIGINT NOT NULL
);

CREATE TABLE secrets (
    name   TEXT  NOT NULL PRIMARY KEY,
    sealed BYTEA NOT NULL
);

CREATE TABLE clients (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    disabled   BOOLEAN NOT NULL,
    recipients TEXT    NOT NULL,
    created_at BIGINT  NOT NULL
);

CREATE TABLE grants (
    client_id   TEXT   NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    position    BIGINT NOT NULL,
    patterns    TEXT   NOT NULL,
    modes       TEXT   NOT NULL,
    networks    TEXT   NOT NULL,
    key_types   TEXT   NOT NULL,
    daily_quota BIGINT NOT NULL,
    PRIMARY KEY (client_id, position)
);

-- used_by is the verifier of the key that an enrolment secret was spent on.
CREATE TABLE credentials (
    id         TEXT   NOT NULL PRIMARY KEY,
    client_id  TEXT   NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    kind       TEXT   NOT NULL,
    verifier   BYTEA  NOT NULL,
    used_by    BYTEA,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    UNIQUE (kind, verifier)
);
CREATE INDEX credentials_client ON credentials (client_id, id);

-- The proxy's own names and certificates have the empty client_id, so there is
-- no foreign key: a client's rows are removed together with it.
CREATE TABLE name_owners (
    name      TEXT NOT NULL PRIMARY KEY,
    client_id TEXT NOT NULL
);
CREATE INDEX name_owners_client ON name_owners (client_id);

CREATE TABLE managed (
    id            TEXT   NOT NULL PRIMARY KEY,
    client_id     TEXT   NOT NULL,
    mode          TEXT   NOT NULL,
    names         TEXT   NOT NULL,
    names_hash    TEXT   NOT NULL,
    key_type      TEXT   NOT NULL,
    profile       TEXT   NOT NULL,
    csr           BYTEA  NOT NULL,
    due_at        BIGINT NOT NULL,
    lease_owner   TEXT   NOT NULL,
    lease_until   BIGINT NOT NULL,
    failures      BIGINT NOT NULL,
    last_error    TEXT   NOT NULL,
    last_error_at BIGINT NOT NULL,
    etag          TEXT   NOT NULL,
    serial        TEXT   NOT NULL,
    not_before    BIGINT NOT NULL,
    not_after     BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    UNIQUE (client_id, mode, names_hash)
);
CREATE INDEX managed_client ON managed (client_id, id);
CREATE INDEX managed_due ON managed (due_at, lease_until);
CREATE INDEX managed_lease ON managed (lease_until) WHERE lease_until > 0;

CREATE TABLE managed_names (
    name       TEXT NOT NULL,
    managed_id TEXT NOT NULL REFERENCES managed (id) ON DELETE CASCADE,
    PRIMARY KEY (name, managed_id)
);
CREATE INDEX managed_names_managed ON managed_names (managed_id);

CREATE TABLE bundles (
    managed_id TEXT   NOT NULL PRIMARY KEY REFERENCES managed (id) ON DELETE CASCADE,
    etag       TEXT   NOT NULL,
    ciphertext BYTEA  NOT NULL,
    serial     TEXT   NOT NULL,
    not_before BIGINT NOT NULL,
    not_after  BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE orders (
    managed_id    TEXT   NOT NULL PRIMARY KEY REFERENCES managed (id) ON DELETE CASCADE,
    directory_url TEXT   NOT NULL,
    order_url     TEXT   NOT NULL,
    csr           BYTEA  NOT NULL,
    sealed_key    BYTEA  NOT NULL,
    created_at    BIGINT NOT NULL
);

-- leased_etag is the bundle that the lease was taken for: a newer one may
-- replace etag while the hook runs.
CREATE TABLE hooks_pending (
    managed_id  TEXT   NOT NULL PRIMARY KEY REFERENCES managed (id) ON DELETE CASCADE,
    etag        TEXT   NOT NULL,
    due_at      BIGINT NOT NULL,
    lease_owner TEXT   NOT NULL,
    lease_until BIGINT NOT NULL,
    leased_etag TEXT   NOT NULL,
    failures    BIGINT NOT NULL,
    last_error  TEXT   NOT NULL
);
CREATE INDEX hooks_pending_due ON hooks_pending (due_at, lease_until);
CREATE INDEX hooks_pending_lease ON hooks_pending (lease_until) WHERE lease_until > 0;

-- No foreign key: the trail outlives the client.
CREATE TABLE audit (
    id          BIGINT NOT NULL PRIMARY KEY,
    at          BIGINT NOT NULL,
    client_id   TEXT   NOT NULL,
    client_name TEXT   NOT NULL,
    addr        TEXT   NOT NULL,
    action      TEXT   NOT NULL,
    mode        TEXT   NOT NULL,
    names       TEXT   NOT NULL,
    outcome     TEXT   NOT NULL,
    detail      TEXT   NOT NULL
);
CREATE INDEX audit_client ON audit (client_name, id);
CREATE INDEX audit_outcome ON audit (outcome, id);
CREATE INDEX audit_client_outcome ON audit (client_name, outcome, id);

-- A counter instead of a sequence: its row lock makes ids follow the order of
-- commits, without gaps, on both databases.
CREATE TABLE counters (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);

CREATE TABLE limits (
    client_id TEXT   NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    day       BIGINT NOT NULL,
    taken     BIGINT NOT NULL,
    PRIMARY KEY (client_id, day)
);

-- +goose Down
DROP TABLE limits;
DROP TABLE counters;
DROP TABLE audit;
DROP TABLE hooks_pending;
DROP TABLE orders;
DROP TABLE bundles;
DROP TABLE managed_names;
DROP TABLE managed;
DROP TABLE name_owners;
DROP TABLE credentials;
DROP TABLE grants;
DROP TABLE clients;
DROP TABLE secrets;
DROP TABLE accounts;
