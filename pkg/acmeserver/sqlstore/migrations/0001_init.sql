-- One text for SQLite and PostgreSQL. Times are Unix milliseconds in UTC, 0 is
-- "none". Identifiers, contacts, authorizations and problems are JSON.

-- +goose Up
CREATE TABLE acme_secrets (
    name  TEXT  NOT NULL PRIMARY KEY,
    value BYTEA NOT NULL
);

-- The time comes first in the key, so that new rows are next to each other: each
-- request of a client adds one.
CREATE TABLE acme_nonces (
    expires_at BIGINT NOT NULL,
    id         TEXT   NOT NULL,
    PRIMARY KEY (expires_at, id)
);

CREATE TABLE acme_accounts (
    id         TEXT   NOT NULL PRIMARY KEY,
    thumbprint TEXT   NOT NULL UNIQUE,
    key        BYTEA  NOT NULL,
    status     TEXT   NOT NULL,
    contacts   TEXT   NOT NULL,
    terms      TEXT   NOT NULL,
    owner      TEXT   NOT NULL,
    binding    BYTEA  NOT NULL,
    kid        TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    version    BIGINT NOT NULL
);
CREATE INDEX acme_accounts_owner ON acme_accounts (owner);
CREATE INDEX acme_accounts_deactivated ON acme_accounts (created_at) WHERE status = 'deactivated';

-- authorized holds the names of the valid authorizations, each of which has a row
-- in acme_authorized.
CREATE TABLE acme_orders (
    id             TEXT    NOT NULL PRIMARY KEY,
    account_id     TEXT    NOT NULL,
    owner          TEXT    NOT NULL,
    status         TEXT    NOT NULL,
    identifiers    TEXT    NOT NULL,
    authorizations TEXT    NOT NULL,
    authorized     TEXT    NOT NULL,
    profile        TEXT    NOT NULL,
    not_before     BIGINT  NOT NULL,
    not_after      BIGINT  NOT NULL,
    replaces       TEXT    NOT NULL,
    error          TEXT    NOT NULL,
    created_at     BIGINT  NOT NULL,
    expires_at     BIGINT  NOT NULL,
    csr            BYTEA   NOT NULL,
    certificate_id TEXT    NOT NULL,
    share          TEXT    NOT NULL,
    key_hash       TEXT    NOT NULL,
    issuing        BOOLEAN NOT NULL,
    state          BYTEA   NOT NULL,
    due_at         BIGINT  NOT NULL,
    failures       BIGINT  NOT NULL,
    lease_owner    TEXT    NOT NULL,
    lease_until    BIGINT  NOT NULL,
    version        BIGINT  NOT NULL
);
CREATE UNIQUE INDEX acme_orders_issuing ON acme_orders (share) WHERE issuing AND share <> '';
CREATE INDEX acme_orders_waiting ON acme_orders (share) WHERE status = 'processing' AND share <> '';
CREATE INDEX acme_orders_account ON acme_orders (account_id, created_at, id) WHERE status <> 'invalid';
CREATE INDEX acme_orders_open ON acme_orders (owner, expires_at) WHERE status <> 'valid';
CREATE INDEX acme_orders_due ON acme_orders (due_at, lease_until) WHERE due_at > 0;
CREATE INDEX acme_orders_owner_due ON acme_orders (owner, due_at, lease_until) WHERE due_at > 0;
CREATE INDEX acme_orders_leased ON acme_orders (lease_until, owner) WHERE lease_until > 0;
CREATE INDEX acme_orders_expiry ON acme_orders (expires_at);

CREATE TABLE acme_authorized (
    account_id TEXT   NOT NULL,
    identifier TEXT   NOT NULL,
    expires_at BIGINT NOT NULL,
    order_id   TEXT   NOT NULL,
    PRIMARY KEY (account_id, identifier, expires_at, order_id)
);

-- share is that of the order, which is deleted earlier. chains holds each chain
-- after its length.
CREATE TABLE acme_certificates (
    id          TEXT    NOT NULL PRIMARY KEY,
    order_id    TEXT    NOT NULL,
    account_id  TEXT    NOT NULL,
    owner       TEXT    NOT NULL,
    share       TEXT    NOT NULL,
    chains      BYTEA   NOT NULL,
    fingerprint TEXT    NOT NULL,
    key_hash    TEXT    NOT NULL,
    ari_id      TEXT    NOT NULL,
    identifiers TEXT    NOT NULL,
    not_before  BIGINT  NOT NULL,
    not_after   BIGINT  NOT NULL,
    state       BYTEA   NOT NULL,
    collected   BOOLEAN NOT NULL,
    replaced_by TEXT    NOT NULL,
    revoked_at  BIGINT  NOT NULL,
    reason      BIGINT  NOT NULL,
    created_at  BIGINT  NOT NULL
);
CREATE INDEX acme_certificates_fingerprint ON acme_certificates (fingerprint);
CREATE INDEX acme_certificates_ari ON acme_certificates (ari_id, created_at, id) WHERE ari_id <> '';
CREATE INDEX acme_certificates_share ON acme_certificates (share, key_hash, created_at, id) WHERE share <> '';
CREATE INDEX acme_certificates_expiry ON acme_certificates (not_after);

-- +goose Down
DROP TABLE acme_certificates;
DROP TABLE acme_authorized;
DROP TABLE acme_orders;
DROP TABLE acme_accounts;
DROP TABLE acme_nonces;
DROP TABLE acme_secrets;
