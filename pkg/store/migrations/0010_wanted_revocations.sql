-- A revocation that an administrator wants is stored before the CA is asked, so that a
-- crash does not lose it. leaf is the certificate, because the row may be renewed or
-- deleted before the CA has answered: therefore managed_id is no foreign key. due_at is
-- the next attempt.

-- +goose Up
CREATE TABLE wanted_revocations (
    managed_id TEXT    NOT NULL,
    serial     TEXT    NOT NULL,
    client_id  TEXT    NOT NULL,
    ca         TEXT    NOT NULL,
    leaf       BYTEA   NOT NULL,
    reason     TEXT    NOT NULL,
    forget     BOOLEAN NOT NULL,
    wanted_at  BIGINT  NOT NULL,
    due_at     BIGINT  NOT NULL,
    PRIMARY KEY (managed_id, serial)
);

-- +goose Down
DROP TABLE wanted_revocations;
