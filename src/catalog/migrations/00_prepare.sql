-- The schema becomes ours, also if a tenant created it. A table in it that belongs to a tenant, or
-- that has code of a tenant attached, is refused.
DO $prepare$
BEGIN
    CREATE SCHEMA IF NOT EXISTS neon_migration;
    ALTER SCHEMA neon_migration OWNER TO cloud_admin;
    REVOKE ALL ON SCHEMA neon_migration FROM PUBLIC;
    CREATE TABLE IF NOT EXISTS neon_migration.migration_id (
        key pg_catalog.int4 NOT NULL PRIMARY KEY,
        id pg_catalog.int8 NOT NULL DEFAULT 0
    );
    @TRUST@
    INSERT INTO neon_migration.migration_id (key, id) VALUES (0, 0) ON CONFLICT DO NOTHING;
END
$prepare$
