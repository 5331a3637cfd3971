SELECT
    -- Whole microseconds, so that the order of the rows makes no difference.
    COALESCE(sum((active_time * 1000)::int8), 0)::int8 AS active_time,
    COALESCE(sum(sessions), 0)::int8 AS sessions
FROM pg_stat_database
WHERE datname NOT IN ('postgres', 'template0', 'template1', current_database())
