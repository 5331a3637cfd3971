DO $@TAG@$
DECLARE
    me text := current_user;
    held record;
BEGIN
    -- DROP OWNED revokes what the owners of objects granted. What others granted is in the way of
    -- DROP ROLE too, and can only be revoked by them.
    FOR held IN
        SELECT g.rolname AS grantor, n.nspname AS schema, c.relname AS name,
            CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
            -- Not all privileges: a grantor that has only some of them would act for another role
            -- that has more, if it is a member of one.
            string_agg(a.privilege_type || a.columns, ', ') AS privileges
        FROM (
            SELECT oid AS relation, '' AS columns, (aclexplode(relacl)).* FROM pg_class
            WHERE relacl IS NOT NULL
            UNION ALL
            SELECT attrelid, format(' (%I)', attname), (aclexplode(attacl)).* FROM pg_attribute
            WHERE attacl IS NOT NULL
        ) a
        JOIN pg_class c ON c.oid = a.relation AND c.relowner <> a.grantor
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_authid g ON g.oid = a.grantor
        JOIN pg_authid r ON r.oid = a.grantee AND r.rolname = @ROLE@
        GROUP BY g.rolname, n.nspname, c.relname, c.relkind, a.columns
    LOOP
        EXECUTE format('SET LOCAL ROLE %I', held.grantor);
        EXECUTE format('REVOKE %s ON %s %I.%I FROM %I GRANTED BY %I CASCADE', held.privileges,
            held.kind, held.schema, held.name, @ROLE@, held.grantor);
        -- The statements after this block are in the same transaction.
        EXECUTE format('SET LOCAL ROLE %I', me);
    END LOOP;
END
$@TAG@$
