-- name is that of a certificate of the proxy's own host, after which its folder is
-- called. '' for certificates of clients, and for those of older programs, whose
-- folder is called after the first of the sorted names.

-- +goose Up
ALTER TABLE managed ADD COLUMN name TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE managed DROP COLUMN name;
