DO $@TAG@$
DECLARE
    me text := current_user;
    held record;
BEGIN
    -- DROP OWNED revokes what the owners of objects granted. What others granted is in the way of
    -- DROP ROLE too, and can only be revoked by them.
    FOR held IN
        SELECT DISTINCT g.rolname AS grantor, n.nspname AS schema, c.relname AS name,
            CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind
        FROM (
            SELECT oid AS relation, (aclexplode(relacl)).* FROM pg_class
            WHERE relacl IS NOT NULL
            UNION ALL
            SELECT attrelid, (aclexplode(attacl)).* FROM pg_attribute
            WHERE attacl IS NOT NULL
        ) a
        JOIN pg_class c ON c.oid = a.relation AND c.relowner <> a.grantor
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_authid g ON g.oid = a.grantor
        JOIN pg_authid r ON r.oid = a.grantee AND r.rolname = @ROLE@
    LOOP
        EXECUTE format('SET LOCAL ROLE %I', held.grantor);
        EXECUTE format('REVOKE ALL PRIVILEGES ON %s %I.%I FROM %I GRANTED BY %I CASCADE',
            held.kind, held.schema, held.name, @ROLE@, held.grantor);
        -- The statements after this block are in the same transaction.
        EXECUTE format('SET LOCAL ROLE %I', me);
    END LOOP;
END
$@TAG@$
