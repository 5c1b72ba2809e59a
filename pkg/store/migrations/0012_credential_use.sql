-- kid is the key identifier of an external account binding, which the client's program
-- shows, too. It is empty until an older credential is used again. last_used and last_from
-- are the time, to the hour, and the address of the last use of a credential of the ACME
-- door.

-- +goose Up
ALTER TABLE credentials ADD COLUMN kid TEXT NOT NULL DEFAULT '';
ALTER TABLE credentials ADD COLUMN last_used BIGINT NOT NULL DEFAULT 0;
ALTER TABLE credentials ADD COLUMN last_from TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE credentials DROP COLUMN last_from;
ALTER TABLE credentials DROP COLUMN last_used;
ALTER TABLE credentials DROP COLUMN kid;
