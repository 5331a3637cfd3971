DO $migration$
BEGIN
    IF pg_catalog.current_setting('server_version_num')::pg_catalog.int4
        OPERATOR(pg_catalog.>=) 160000 THEN
        GRANT pg_create_subscription TO {privileged};
    END IF;
END
$migration$
