SELECT
    pg_catalog.count(*) FILTER (
        WHERE client AND state OPERATOR(pg_catalog.<>) 'idle'
            AND state OPERATOR(pg_catalog.!~~) 'idle in transaction%'
    ) AS active,
    pg_catalog.count(*) FILTER (
        WHERE client AND state OPERATOR(pg_catalog.~~) 'idle in transaction%'
    ) AS idle_in_transaction,
    pg_catalog.count(*) FILTER (WHERE client AND state OPERATOR(pg_catalog.=) 'idle') AS idle,
    -- Absolute, so it does not depend on any time zone.
    (
        EXTRACT(epoch FROM pg_catalog.max(state_change) FILTER (
            WHERE client AND state OPERATOR(pg_catalog.=) 'idle'
        )) OPERATOR(pg_catalog.*) 1000000
    )::pg_catalog.int8 AS idle_since,
    (
        SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication
        WHERE application_name OPERATOR(pg_catalog.<>) 'walproposer'
    ) AS walsenders,
    (
        SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_subscription WHERE pid IS NOT NULL
    ) AS subscriptions,
    pg_catalog.count(*) FILTER (WHERE NOT client) AS autovacuum
FROM (
    SELECT backend_type OPERATOR(pg_catalog.=) 'client backend' AS client, state, state_change
    FROM pg_catalog.pg_stat_activity
    WHERE backend_type OPERATOR(pg_catalog.=) 'autovacuum worker'
        OR (
            backend_type OPERATOR(pg_catalog.=) 'client backend'
            AND pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
            AND usename OPERATOR(pg_catalog.<>) 'cloud_admin'
            -- The login of --connstr may be another one.
            AND NOT (usename OPERATOR(pg_catalog.=) session_user
                AND application_name OPERATOR(pg_catalog.~~) 'compute\_ctl:%')
        )
) AS backends
