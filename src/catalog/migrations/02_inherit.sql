-- Members of the privileged role have its rights without SET ROLE. All other roles, except the
-- server's own, obey row security. Superusers are members of every role here.
DO $migration$
DECLARE
    other pg_catalog.name;
    is_member pg_catalog.bool;
BEGIN
    FOR other, is_member IN
        SELECT rolname, pg_catalog.pg_has_role(oid, {privileged_literal}, 'MEMBER')
        FROM pg_catalog.pg_roles
        ORDER BY oid
    LOOP
        IF is_member THEN
            RAISE NOTICE 'role % inherits from now on', other;
            EXECUTE pg_catalog.format('ALTER ROLE %I INHERIT', other);
        ELSIF NOT pg_catalog.starts_with(other::pg_catalog.text, 'pg_') THEN
            RAISE NOTICE 'role % is subject to row security from now on', other;
            EXECUTE pg_catalog.format('ALTER ROLE %I NOBYPASSRLS', other);
        END IF;
    END LOOP;
END
$migration$
