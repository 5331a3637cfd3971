-- What the tenants of older releases may have made in our place is not used: a schema of another
-- owner is an error, and so is a table that something of theirs is attached to.
DO $prepare$
DECLARE
    object record;
BEGIN
    SELECT n.oid, o.rolname, o.rolsuper INTO object
    FROM pg_catalog.pg_namespace n
    JOIN pg_catalog.pg_authid o ON o.oid OPERATOR(pg_catalog.=) n.nspowner
    WHERE n.nspname OPERATOR(pg_catalog.=) 'neon_migration';
    IF NOT FOUND THEN
        CREATE SCHEMA neon_migration;
    ELSIF NOT object.rolsuper THEN
        RAISE EXCEPTION USING ERRCODE = 'CT001', MESSAGE = pg_catalog.format(
            'schema "neon_migration" is not used: it belongs to role %L, which is not a superuser; '
            'rename or drop the schema', object.rolname);
    END IF;
    CREATE TABLE IF NOT EXISTS neon_migration.migration_id (
        key pg_catalog.int4 NOT NULL PRIMARY KEY,
        id pg_catalog.int8 NOT NULL DEFAULT 0
    );
    @TRUST@
    INSERT INTO neon_migration.migration_id (key, id) VALUES (0, 0) ON CONFLICT DO NOTHING;
    ALTER SCHEMA neon_migration OWNER TO cloud_admin;
    REVOKE ALL ON SCHEMA neon_migration FROM PUBLIC;
END
$prepare$
