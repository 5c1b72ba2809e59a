-- The earliest due row of each client is found without a look at the others.

-- +goose Up
CREATE INDEX managed_client_due ON managed (client_id, due_at, lease_until);

-- +goose Down
DROP INDEX managed_client_due;
