-- certificate_url is where the CA keeps the certificate, '' for those of older
-- programs. revoked_at is of the current certificate, 0 while it is good.

-- +goose Up
ALTER TABLE bundles ADD COLUMN certificate_url TEXT NOT NULL DEFAULT '';
ALTER TABLE managed ADD COLUMN revoked_at BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE managed DROP COLUMN revoked_at;
ALTER TABLE bundles DROP COLUMN certificate_url;
