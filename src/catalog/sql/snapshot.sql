SELECT 'server',
    current_setting('server_version_num'),
    current_setting('max_connections'),
    current_database(),
    current_user,
    to_regnamespace('neon') IS NOT NULL,
    to_regclass('public.health_check') IS NOT NULL,
    EXISTS (
        SELECT FROM pg_db_role_setting s
        JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = 'postgres'
        WHERE s.setrole = 0 AND 'pgaudit.log=none' = ANY (s.setconfig)
    );
SELECT 'role', rolname, rolpassword FROM pg_authid;
SELECT 'database', d.datname, r.rolname, NOT d.datallowconn, d.datconnlimit = -2,
    d.datistemplate, d.oid < 16384, d.datacl IS NULL
FROM pg_database d LEFT JOIN pg_authid r ON r.oid = d.datdba;
SELECT 'extension', e.extname, e.extversion, n.nspname, e.extrelocatable
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname IN ('neon', 'pg_stat_statements', 'pgaudit', 'pgauditlogtofile');
-- The view pg_available_extensions reads the control files of all extensions, which takes longer than
-- everything else here.
SELECT 'available', version
FROM (
    SELECT substring(
        pg_read_file(setting || '/extension/neon.control', 0, 65536, true)
        FROM '(?n)^\s*default_version\s*=?\s*''?([^''\s#]+)'
    )
    FROM pg_config WHERE name = 'SHAREDIR'
) control (version)
WHERE version IS NOT NULL;
SELECT 'subscription', s.oid, d.datname
FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid ORDER BY s.oid;
