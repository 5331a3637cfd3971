SELECT DISTINCT 'dependency', r.rolname, d.datname
FROM pg_shdepend s
JOIN pg_authid r ON r.oid = s.refobjid
LEFT JOIN pg_database d ON d.oid = s.dbid
WHERE s.refclassid = 'pg_authid'::regclass AND r.rolname IN (@ROLES@);
