DO $block$
DECLARE
    name text;
BEGIN
    -- No worker can start up meanwhile.
    LOCK TABLE pg_catalog.pg_subscription IN ACCESS EXCLUSIVE MODE;
    FOR name IN
        SELECT s.subname
        FROM pg_subscription s
        JOIN pg_database d ON d.oid = s.subdbid AND d.datname = current_database()
        WHERE true @WHICH@
    LOOP
        EXECUTE format('ALTER SUBSCRIPTION %I DISABLE', name);
        -- The slot stays with the publisher: the parent branch still uses it.
        EXECUTE format('ALTER SUBSCRIPTION %I SET (slot_name = NONE)', name);
        EXECUTE format('DROP SUBSCRIPTION %I', name);
    END LOOP;
END
$block$
