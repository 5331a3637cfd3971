-- Functions of a schema are called by name only where a superuser owns the schema. The caller
-- reports a missing schema.
DO $block$
DECLARE
    owner pg_catalog.name;
BEGIN
    SELECT o.rolname INTO owner
    FROM pg_catalog.pg_namespace n
    JOIN pg_catalog.pg_roles o ON o.oid OPERATOR(pg_catalog.=) n.nspowner
    WHERE n.nspname OPERATOR(pg_catalog.=) '@SCHEMA@' AND NOT o.rolsuper;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'CT001', MESSAGE = pg_catalog.format(
            'schema @SCHEMA@ is not used: it belongs to role %L, which is not a superuser; rename or '
            'drop that schema', owner);
    END IF;
END
$block$
