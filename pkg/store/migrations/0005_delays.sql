-- failed_with names the CA that the last attempt failed with for a temporary
-- reason: a success with it ends the delay. 'eased' once that has happened, until
-- the next attempt; '' for all other failures. managed_parked holds the few rows
-- that are due later than their certificate lasts, which a wrong clock causes.

-- +goose Up
ALTER TABLE managed ADD COLUMN failed_with TEXT NOT NULL DEFAULT '';
CREATE INDEX managed_failed_with ON managed (failed_with, due_at) WHERE failed_with <> '';
CREATE INDEX managed_parked ON managed (due_at) WHERE due_at > not_after;

-- +goose Down
DROP INDEX managed_parked;
DROP INDEX managed_failed_with;
ALTER TABLE managed DROP COLUMN failed_with;
