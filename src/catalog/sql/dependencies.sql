SELECT DISTINCT 'dependency', r.rolname, d.datname
FROM pg_catalog.pg_shdepend s
JOIN pg_catalog.pg_authid r ON r.oid OPERATOR(pg_catalog.=) s.refobjid
LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) s.dbid
WHERE s.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_authid'::pg_catalog.regclass
    AND r.rolname OPERATOR(pg_catalog.=) ANY (ARRAY[@ROLES@]::pg_catalog.name[]);
