-- profiles and max_names limit a grant; the grants of older programs limit neither.
-- networks limits the users of a credential of the ACME door.

-- +goose Up
ALTER TABLE grants ADD COLUMN profiles TEXT NOT NULL DEFAULT '';
ALTER TABLE grants ADD COLUMN max_names BIGINT NOT NULL DEFAULT 0;
ALTER TABLE credentials ADD COLUMN networks TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE credentials DROP COLUMN networks;
ALTER TABLE grants DROP COLUMN max_names;
ALTER TABLE grants DROP COLUMN profiles;
