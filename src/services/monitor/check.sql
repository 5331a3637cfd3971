SELECT
    count(*) FILTER (
        WHERE client AND state <> 'idle' AND state NOT LIKE 'idle in transaction%'
    ) AS active,
    count(*) FILTER (WHERE client AND state LIKE 'idle in transaction%') AS idle_in_transaction,
    count(*) FILTER (WHERE client AND state = 'idle') AS idle,
    -- Absolute, so it does not depend on any time zone.
    (EXTRACT(epoch FROM max(state_change) FILTER (WHERE client AND state = 'idle')) * 1000000)::int8
        AS idle_since,
    (
        SELECT count(*) FROM pg_stat_replication WHERE application_name <> 'walproposer'
    ) AS walsenders,
    (SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL) AS subscriptions,
    count(*) FILTER (WHERE NOT client) AS autovacuum
FROM (
    SELECT backend_type = 'client backend' AS client, state, state_change
    FROM pg_stat_activity
    WHERE backend_type = 'autovacuum worker'
        OR (
            backend_type = 'client backend'
            AND pid <> pg_backend_pid()
            AND usename <> 'cloud_admin'
            -- The login of --connstr may be another one.
            AND NOT (usename = session_user AND application_name LIKE 'compute\_ctl:%')
        )
) AS backends
