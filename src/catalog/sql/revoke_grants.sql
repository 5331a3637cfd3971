DO $@TAG@$
DECLARE
    me pg_catalog.text := current_user;
    held record;
BEGIN
    -- DROP OWNED revokes what the owners of objects granted. Grants of other roles also prevent
    -- DROP ROLE, and only those roles can revoke them.
    FOR held IN
        SELECT g.rolname AS grantor, n.nspname AS schema, c.relname AS name,
            CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
            -- Not all privileges: a grantor that has only some of them would act for another role
            -- that has more, if it is a member of one.
            pg_catalog.string_agg(a.privilege_type OPERATOR(pg_catalog.||) a.columns, ', ')
                AS privileges
        FROM (
            SELECT oid AS relation, '' AS columns, (pg_catalog.aclexplode(relacl)).*
            FROM pg_catalog.pg_class
            WHERE relacl IS NOT NULL
            UNION ALL
            SELECT attrelid, pg_catalog.format(' (%I)', attname), (pg_catalog.aclexplode(attacl)).*
            FROM pg_catalog.pg_attribute
            WHERE attacl IS NOT NULL
        ) a
        JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.relation
            AND c.relowner OPERATOR(pg_catalog.<>) a.grantor
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
        JOIN pg_catalog.pg_authid g ON g.oid OPERATOR(pg_catalog.=) a.grantor
        JOIN pg_catalog.pg_authid r ON r.oid OPERATOR(pg_catalog.=) a.grantee
            AND r.rolname OPERATOR(pg_catalog.=) @ROLE@
        GROUP BY g.rolname, n.nspname, c.relname, c.relkind, a.columns
    LOOP
        EXECUTE pg_catalog.format('SET LOCAL ROLE %I', held.grantor);
        EXECUTE pg_catalog.format('REVOKE %s ON %s %I.%I FROM %I GRANTED BY %I CASCADE',
            held.privileges, held.kind, held.schema, held.name, @ROLE@, held.grantor);
        -- The statements after this block are in the same transaction.
        EXECUTE pg_catalog.format('SET LOCAL ROLE %I', me);
    END LOOP;
END
$@TAG@$
