-- ca is the directory URL of the CA that issued the current certificate, and
-- ari_id its identifier there (RFC 9773, section 4.1): a sealed bundle cannot be
-- opened to find out. For certificates of older programs, ari_id is '', and ca the only
-- CA that the proxy has an account at, or '' if there are several. ari_start and
-- ari_end are the window that the CA suggested, ari_check_at is when to ask again.

-- +goose Up
ALTER TABLE managed ADD COLUMN ca TEXT NOT NULL DEFAULT '';
ALTER TABLE managed ADD COLUMN ari_id TEXT NOT NULL DEFAULT '';
ALTER TABLE managed ADD COLUMN ari_start BIGINT NOT NULL DEFAULT 0;
ALTER TABLE managed ADD COLUMN ari_end BIGINT NOT NULL DEFAULT 0;
ALTER TABLE managed ADD COLUMN ari_check_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE bundles ADD COLUMN ca TEXT NOT NULL DEFAULT '';
ALTER TABLE bundles ADD COLUMN ari_id TEXT NOT NULL DEFAULT '';
UPDATE managed SET ca = (SELECT MIN(directory_url) FROM accounts) WHERE serial <> '' AND (SELECT COUNT(*) FROM accounts) = 1;
UPDATE bundles SET ca = (SELECT MIN(directory_url) FROM accounts) WHERE (SELECT COUNT(*) FROM accounts) = 1;

-- +goose Down
ALTER TABLE bundles DROP COLUMN ari_id;
ALTER TABLE bundles DROP COLUMN ca;
ALTER TABLE managed DROP COLUMN ari_check_at;
ALTER TABLE managed DROP COLUMN ari_end;
ALTER TABLE managed DROP COLUMN ari_start;
ALTER TABLE managed DROP COLUMN ari_id;
ALTER TABLE managed DROP COLUMN ca;
