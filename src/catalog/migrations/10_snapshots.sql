-- Exporting a snapshot and logging one of running transactions: for logical replication.
DO $migration$
BEGIN
    IF pg_catalog.current_setting('server_version_num')::pg_catalog.int4
        OPERATOR(pg_catalog.>=) 160000 THEN
        GRANT EXECUTE ON FUNCTION pg_catalog.pg_export_snapshot() TO {privileged};
        GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO {privileged};
    END IF;
END
$migration$
