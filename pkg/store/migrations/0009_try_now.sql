-- wait_until is the earliest attempt that the CA allows, 0 if it did not ask to wait.
-- planned_at is the due time that a person's try replaced, 0 without one.
-- tries are the times of the attempts that people caused while the name set failed,
-- oldest first. The delays of older programs count as their own, not the CA's.
-- managed_failing holds the rows whose last attempt failed.

-- +goose Up
ALTER TABLE managed ADD COLUMN wait_until BIGINT NOT NULL DEFAULT 0;
ALTER TABLE managed ADD COLUMN planned_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE pauses ADD COLUMN wait_until BIGINT NOT NULL DEFAULT 0;
ALTER TABLE pauses ADD COLUMN tries TEXT NOT NULL DEFAULT '';
CREATE INDEX managed_failing ON managed (id) WHERE last_error_at > 0;

-- +goose Down
DROP INDEX managed_failing;
ALTER TABLE pauses DROP COLUMN tries;
ALTER TABLE pauses DROP COLUMN wait_until;
ALTER TABLE managed DROP COLUMN planned_at;
ALTER TABLE managed DROP COLUMN wait_until;
