SELECT
    -- Whole microseconds, so that the order of the rows makes no difference.
    COALESCE(
        pg_catalog.sum((active_time OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8), 0
    )::pg_catalog.int8 AS active_time,
    COALESCE(pg_catalog.sum(sessions), 0)::pg_catalog.int8 AS sessions
FROM pg_catalog.pg_stat_database
WHERE datname OPERATOR(pg_catalog.<>) ALL (
    ARRAY['postgres', 'template0', 'template1', pg_catalog.current_database()]::pg_catalog.name[]
)
