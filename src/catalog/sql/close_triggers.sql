-- Tenants hold default privileges of `public` on objects that an extension script creates. A
-- tenant that can put a trigger on such a table gets its code run by the next script that writes
-- to it.
DO $block$
DECLARE
    held record;
BEGIN
    FOR held IN
        SELECT n.nspname AS schema, c.relname AS name, g.rolname AS grantee, r.rolname AS grantor
        FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_depend d ON d.refobjid OPERATOR(pg_catalog.=) e.oid
            AND d.refclassid OPERATOR(pg_catalog.=)
                'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid
            AND d.classid OPERATOR(pg_catalog.=)
                'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
            AND d.deptype OPERATOR(pg_catalog.=) 'e'
        JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.objid
            AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'v', 'f']::pg_catalog."char"[])
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
        CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
        JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.grantor
        LEFT JOIN pg_catalog.pg_roles g ON g.oid OPERATOR(pg_catalog.=) a.grantee
        WHERE e.extname OPERATOR(pg_catalog.=) @EXTENSION@
            AND a.privilege_type OPERATOR(pg_catalog.=) 'TRIGGER'
            AND a.grantee OPERATOR(pg_catalog.<>) c.relowner
            AND a.grantor OPERATOR(pg_catalog.=) c.relowner
            AND g.rolsuper IS NOT TRUE
    LOOP
        EXECUTE pg_catalog.format('REVOKE TRIGGER ON TABLE %I.%I FROM %s CASCADE',
            held.schema, held.name, COALESCE(pg_catalog.quote_ident(held.grantee), 'PUBLIC'));
    END LOOP;
END
$block$
