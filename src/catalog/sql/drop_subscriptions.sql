DO $block$
DECLARE
    name pg_catalog.text;
BEGIN
    -- The lock keeps workers from starting.
    LOCK TABLE pg_catalog.pg_subscription IN ACCESS EXCLUSIVE MODE;
    FOR name IN
        SELECT s.subname
        FROM pg_catalog.pg_subscription s
        JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) s.subdbid
            AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
        WHERE true @WHICH@
    LOOP
        EXECUTE pg_catalog.format('ALTER SUBSCRIPTION %I DISABLE', name);
        -- The slot stays with the publisher: the parent branch still uses it.
        EXECUTE pg_catalog.format('ALTER SUBSCRIPTION %I SET (slot_name = NONE)', name);
        EXECUTE pg_catalog.format('DROP SUBSCRIPTION %I', name);
    END LOOP;
END
$block$
