SELECT 'server', pg_catalog.current_setting('databricks.reader_statement_timeout', true), (
    SELECT pg_catalog.pg_read_file(
        setting OPERATOR(pg_catalog.||) '/extension/databricks_auth.control', 0, 1, true
    ) IS NOT NULL
    FROM pg_catalog.pg_config WHERE name OPERATOR(pg_catalog.=) 'SHAREDIR'
);
SELECT 'reader', rolname
FROM pg_catalog.pg_roles r
WHERE rolname OPERATOR(pg_catalog.~) '^databricks_reader_\d+$' AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_db_role_setting s
    WHERE s.setrole OPERATOR(pg_catalog.=) r.oid AND s.setdatabase OPERATOR(pg_catalog.=) 0 AND
        ('statement_timeout=' OPERATOR(pg_catalog.||)
            pg_catalog.current_setting('databricks.reader_statement_timeout', true))
            OPERATOR(pg_catalog.=) ANY (s.setconfig)
)
ORDER BY oid;
-- Objects that do not exist are not in the answer: the functions return null for null.
SELECT 'held', held.name
FROM pg_catalog.pg_roles r
CROSS JOIN LATERAL (
    VALUES
        ('neon', pg_catalog.has_schema_privilege(
            r.oid, pg_catalog.to_regnamespace('neon')::pg_catalog.oid, 'USAGE')),
        ('public.health_check',
            pg_catalog.has_table_privilege(
                r.oid, pg_catalog.to_regclass('public.health_check')::pg_catalog.oid, 'SELECT')
            AND pg_catalog.has_table_privilege(
                r.oid, pg_catalog.to_regclass('public.health_check')::pg_catalog.oid, 'INSERT')
            AND pg_catalog.has_table_privilege(
                r.oid, pg_catalog.to_regclass('public.health_check')::pg_catalog.oid, 'UPDATE')),
        ('pg_ls_dir(text)',
            pg_catalog.has_function_privilege(
                r.oid,
                pg_catalog.to_regprocedure('pg_catalog.pg_ls_dir(pg_catalog.text)')::pg_catalog.oid,
                'EXECUTE')),
        ('neon.neon_perf_counters',
            pg_catalog.has_table_privilege(
                r.oid, pg_catalog.to_regclass('neon.neon_perf_counters')::pg_catalog.oid, 'SELECT')),
        ('neon.get_perf_counters()',
            pg_catalog.has_function_privilege(
                r.oid, pg_catalog.to_regprocedure('neon.get_perf_counters()')::pg_catalog.oid,
                'EXECUTE')),
        ('statement_timeout', EXISTS (
            SELECT FROM pg_catalog.pg_db_role_setting s
            WHERE s.setrole OPERATOR(pg_catalog.=) r.oid
                AND s.setdatabase OPERATOR(pg_catalog.=) 0
                AND 'statement_timeout=60s' OPERATOR(pg_catalog.=) ANY (s.setconfig)))
) held (name, is_held)
WHERE r.rolname OPERATOR(pg_catalog.=) 'databricks_monitor' AND held.is_held;
-- The owner is read as well: CREATE OR REPLACE would leave the function to a tenant that created
-- it.
SELECT 'function', p.prosrc, o.rolname, o.rolsuper
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_roles o ON o.oid OPERATOR(pg_catalog.=) p.proowner
WHERE p.oid OPERATOR(pg_catalog.=)
    pg_catalog.to_regprocedure('public.health_check_write_succeeds()')::pg_catalog.oid;
