-- Subqueries that use the index, once per database: the catalog has a row for each object of each
-- role, and only a few of them matter here.
SELECT 'outline', d.datname,
    (
        SELECT pg_catalog.count(*)
        FROM pg_catalog.pg_shdepend s
        LEFT JOIN pg_catalog.pg_shdepend o ON o.dbid OPERATOR(pg_catalog.=) s.dbid
            AND o.classid OPERATOR(pg_catalog.=) s.classid
            AND o.objid OPERATOR(pg_catalog.=) s.objid
            AND o.deptype OPERATOR(pg_catalog.=) 'o'
        WHERE s.dbid OPERATOR(pg_catalog.=) d.oid
            AND s.classid OPERATOR(pg_catalog.=)
                'pg_catalog.pg_default_acl'::pg_catalog.regclass::pg_catalog.oid
            AND s.deptype OPERATOR(pg_catalog.=) 'a'
            AND s.refobjid OPERATOR(pg_catalog.=)
                pg_catalog.to_regrole(@PRIVILEGED@)::pg_catalog.oid
            -- Owners that initdb made have no row.
            AND CASE
                WHEN me.oid OPERATOR(pg_catalog.>=) 16384
                THEN o.refobjid OPERATOR(pg_catalog.=) me.oid
                ELSE o.refobjid IS NULL
            END
    ),
    pg_catalog.pg_get_userbyid((
        SELECT refobjid FROM pg_catalog.pg_shdepend
        WHERE dbid OPERATOR(pg_catalog.=) d.oid
            AND classid OPERATOR(pg_catalog.=)
                'pg_catalog.pg_namespace'::pg_catalog.regclass::pg_catalog.oid
            AND objid OPERATOR(pg_catalog.=) 2200 AND deptype OPERATOR(pg_catalog.=) 'o'
    )),
    EXISTS (
        SELECT FROM pg_catalog.pg_shdepend
        WHERE dbid OPERATOR(pg_catalog.=) d.oid
            AND classid OPERATOR(pg_catalog.=)
                'pg_catalog.pg_namespace'::pg_catalog.regclass::pg_catalog.oid
            AND objid OPERATOR(pg_catalog.>=) 16384
    )
FROM pg_catalog.pg_database d
JOIN pg_catalog.pg_authid me ON me.rolname OPERATOR(pg_catalog.=) current_user;
