SELECT 'server',
    pg_catalog.current_setting('server_version_num'),
    pg_catalog.current_setting('max_connections'),
    pg_catalog.current_database(),
    current_user,
    -- Owner of the schema `neon`, if it is not a superuser; the schema is then not ours.
    (
        SELECT o.rolname FROM pg_catalog.pg_namespace n
        JOIN pg_catalog.pg_authid o ON o.oid OPERATOR(pg_catalog.=) n.nspowner
        WHERE n.nspname OPERATOR(pg_catalog.=) 'neon' AND NOT o.rolsuper
    ),
    pg_catalog.to_regnamespace('neon') IS NOT NULL,
    pg_catalog.to_regclass('public.health_check') IS NOT NULL,
    EXISTS (
        SELECT FROM pg_catalog.pg_db_role_setting s
        JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) s.setdatabase
            AND d.datname OPERATOR(pg_catalog.=) 'postgres'
        WHERE s.setrole OPERATOR(pg_catalog.=) 0
            AND 'pgaudit.log=none' OPERATOR(pg_catalog.=) ANY (s.setconfig)
    );
SELECT 'role', rolname, rolpassword FROM pg_catalog.pg_authid;
SELECT 'database', d.datname, r.rolname, NOT d.datallowconn,
    d.datconnlimit OPERATOR(pg_catalog.=) -2,
    d.datistemplate, d.oid OPERATOR(pg_catalog.<) 16384, d.datacl IS NULL
FROM pg_catalog.pg_database d
LEFT JOIN pg_catalog.pg_authid r ON r.oid OPERATOR(pg_catalog.=) d.datdba;
SELECT 'extension', e.extname, e.extversion, n.nspname, e.extrelocatable
FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
WHERE e.extname OPERATOR(pg_catalog.=)
    ANY (ARRAY['neon', 'pg_stat_statements', 'pgaudit', 'pgauditlogtofile']::pg_catalog.name[]);
-- The view pg_available_extensions reads the control files of all extensions, which takes longer
-- than all other queries here.
SELECT 'available', version
FROM (
    SELECT pg_catalog.substring(
        pg_catalog.pg_read_file(
            setting OPERATOR(pg_catalog.||) '/extension/neon.control', 0, 65536, true
        ),
        '(?n)^\s*default_version\s*=?\s*''?([^''\s#]+)'
    )
    FROM pg_catalog.pg_config WHERE name OPERATOR(pg_catalog.=) 'SHAREDIR'
) control (version)
WHERE version IS NOT NULL;
SELECT 'subscription', s.oid, d.datname
FROM pg_catalog.pg_subscription s
JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) s.subdbid ORDER BY s.oid;
