SELECT 'server', current_setting('databricks.reader_statement_timeout', true), (
    SELECT pg_read_file(setting || '/extension/databricks_auth.control', 0, 1, true) IS NOT NULL
    FROM pg_config WHERE name = 'SHAREDIR'
);
SELECT 'reader', rolname
FROM pg_roles r
WHERE rolname ~ '^databricks_reader_\d+$' AND NOT EXISTS (
    SELECT FROM pg_db_role_setting s
    WHERE s.setrole = r.oid AND s.setdatabase = 0 AND
        'statement_timeout=' || current_setting('databricks.reader_statement_timeout', true)
            = ANY (s.setconfig)
)
ORDER BY oid;
-- Of what is not there nothing is held: the functions give null for null.
SELECT 'held', held.name
FROM pg_roles r
CROSS JOIN LATERAL (
    VALUES
        ('neon', has_schema_privilege(r.oid, to_regnamespace('neon')::oid, 'USAGE')),
        ('public.health_check',
            has_table_privilege(r.oid, to_regclass('public.health_check')::oid, 'SELECT')
            AND has_table_privilege(r.oid, to_regclass('public.health_check')::oid, 'INSERT')
            AND has_table_privilege(r.oid, to_regclass('public.health_check')::oid, 'UPDATE')),
        ('pg_ls_dir(text)',
            has_function_privilege(r.oid, to_regprocedure('pg_ls_dir(text)')::oid, 'EXECUTE')),
        ('neon.neon_perf_counters',
            has_table_privilege(r.oid, to_regclass('neon.neon_perf_counters')::oid, 'SELECT')),
        ('neon.get_perf_counters()',
            has_function_privilege(r.oid, to_regprocedure('neon.get_perf_counters()')::oid, 'EXECUTE')),
        ('statement_timeout', EXISTS (
            SELECT FROM pg_db_role_setting s
            WHERE s.setrole = r.oid AND s.setdatabase = 0
                AND 'statement_timeout=60s' = ANY (s.setconfig)))
) held (name, is_held)
WHERE r.rolname = 'databricks_monitor' AND held.is_held;
SELECT 'function', prosrc
FROM pg_proc WHERE oid = to_regprocedure('public.health_check_write_succeeds()');
