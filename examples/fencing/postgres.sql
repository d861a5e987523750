-- A fence in PostgreSQL: one row a resource remembers the highest token that has written.
-- Run once:  psql -f examples/fencing/postgres.sql

CREATE TABLE fences (
    resource text PRIMARY KEY,
    token bigint NOT NULL CHECK (token BETWEEN 1 AND 9007199254740991)
);

-- Call it first in every transaction that writes, before it reads anything:
--
--     BEGIN;
--     SELECT raise_fence('reports', 42);
--     … read and write as you like …
--     COMMIT;
--
-- A lower token than the highest so far is an error, so the transaction cannot commit. The
-- row stays locked until the transaction ends: whoever comes with another token waits, and
-- then compares with what was committed (under READ COMMITTED the WHERE is evaluated again
-- on the newest row; above that, the waiting transaction fails and is to be tried again).
--
-- A leader that is paused inside its transaction holds the lock. Let the server end it:
--     ALTER DATABASE … SET idle_in_transaction_session_timeout = '5s';
CREATE FUNCTION raise_fence(resource text, token bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fences AS fence (resource, token)
    VALUES (raise_fence.resource, raise_fence.token)
    ON CONFLICT ON CONSTRAINT fences_pkey DO UPDATE SET token = EXCLUDED.token
        WHERE fence.token <= EXCLUDED.token;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'stale fencing token % for %', raise_fence.token, raise_fence.resource
            USING ERRCODE = 'TN409', HINT = 'A newer leader has written: stop leading.';
    END IF;
END
$$;

-- Where a single row is all there is to protect, it can carry its own fence. One
-- statement, no lock that outlives it; no row changed means: stale.
--
--     INSERT INTO reports AS report (name, body, token) VALUES ('today', '…', 42)
--     ON CONFLICT (name) DO UPDATE SET body = EXCLUDED.body, token = EXCLUDED.token
--         WHERE report.token <= EXCLUDED.token;
CREATE TABLE reports (
    name text PRIMARY KEY,
    body text NOT NULL,
    token bigint NOT NULL
);
