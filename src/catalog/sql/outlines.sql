-- Subqueries that follow the index, once per database: the catalog has a row for each object of each
-- role, and only a few of them matter here.
SELECT 'outline', d.datname,
    (
        SELECT count(*)
        FROM pg_shdepend s
        LEFT JOIN pg_shdepend o ON o.dbid = s.dbid AND o.classid = s.classid AND o.objid = s.objid
            AND o.deptype = 'o'
        WHERE s.dbid = d.oid AND s.classid = 'pg_default_acl'::regclass AND s.deptype = 'a'
            AND s.refobjid = to_regrole(@PRIVILEGED@)
            -- Owners that initdb made have no row.
            AND o.refobjid IS NOT DISTINCT FROM CASE
                WHEN quote_ident(current_user)::regrole >= 16384
                THEN quote_ident(current_user)::regrole
            END
    ),
    pg_get_userbyid((
        SELECT refobjid FROM pg_shdepend
        WHERE dbid = d.oid AND classid = 'pg_namespace'::regclass AND objid = 2200 AND deptype = 'o'
    )),
    EXISTS (
        SELECT FROM pg_shdepend
        WHERE dbid = d.oid AND classid = 'pg_namespace'::regclass AND objid >= 16384
    )
FROM pg_database d;
