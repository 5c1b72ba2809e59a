-- +goose Up

-- csr_hash is the SHA-256 of the CSR in hexadecimal. Rows of the first version have
-- none, and keep their CSR instead.
ALTER TABLE acme_orders ADD COLUMN csr_hash TEXT NOT NULL DEFAULT '';
-- joined orders are valid with a certificate that another order obtained.
ALTER TABLE acme_orders ADD COLUMN joined BOOLEAN NOT NULL DEFAULT FALSE;
-- addr is the address of the client that finalized the order.
ALTER TABLE acme_orders ADD COLUMN addr TEXT NOT NULL DEFAULT '';
-- wait_until is the time before which the issuer must not be called.
ALTER TABLE acme_orders ADD COLUMN wait_until BIGINT NOT NULL DEFAULT 0;

DROP INDEX acme_orders_open;
CREATE INDEX acme_orders_open ON acme_orders (owner, expires_at) WHERE status <> 'valid' OR joined;

-- +goose Down
DROP INDEX acme_orders_open;
CREATE INDEX acme_orders_open ON acme_orders (owner, expires_at) WHERE status <> 'valid';
ALTER TABLE acme_orders DROP COLUMN wait_until;
ALTER TABLE acme_orders DROP COLUMN addr;
ALTER TABLE acme_orders DROP COLUMN joined;
ALTER TABLE acme_orders DROP COLUMN csr_hash;
