-- Rows come from the view only if it is a member of the extension and a superuser owns both.
-- Another object of that name is not read. The cursor lives as long as the transaction of this
-- message.
DO $block$
DECLARE
    insights pg_catalog.refcursor := 'compute_ctl_insights';
    object record;
BEGIN
    SELECT n.oid AS schema_id, n.nspname, c.oid INTO object
    FROM pg_catalog.pg_extension e
    JOIN pg_catalog.pg_roles eo ON eo.oid OPERATOR(pg_catalog.=) e.extowner AND eo.rolsuper
    JOIN pg_catalog.pg_depend d ON d.refobjid OPERATOR(pg_catalog.=) e.oid
        AND d.refclassid OPERATOR(pg_catalog.=)
            'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid
        AND d.classid OPERATOR(pg_catalog.=)
            'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
        AND d.deptype OPERATOR(pg_catalog.=) 'e'
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.objid
        AND c.relname OPERATOR(pg_catalog.=) 'pg_stat_statements'
        AND c.relkind OPERATOR(pg_catalog.=) 'v'
    JOIN pg_catalog.pg_roles co ON co.oid OPERATOR(pg_catalog.=) c.relowner AND co.rolsuper
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE e.extname OPERATOR(pg_catalog.=) 'pg_stat_statements';
    IF NOT FOUND THEN
        OPEN insights FOR SELECT NULL::pg_catalog.text WHERE false;
        RETURN;
    END IF;
    -- Until the end of the transaction the schema and the view keep their names. A standby cannot
    -- take row locks, and runs no DDL of its own.
    IF pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'off' THEN
        PERFORM FROM pg_catalog.pg_namespace n
        WHERE n.oid OPERATOR(pg_catalog.=) object.schema_id FOR KEY SHARE;
    END IF;
    EXECUTE pg_catalog.format('LOCK TABLE %I.pg_stat_statements IN ACCESS SHARE MODE', object.nspname);
    PERFORM FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.oid OPERATOR(pg_catalog.=) object.oid
        AND c.relname OPERATOR(pg_catalog.=) 'pg_stat_statements'
        AND n.oid OPERATOR(pg_catalog.=) object.schema_id
        AND n.nspname OPERATOR(pg_catalog.=) object.nspname;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'CT001', MESSAGE =
            'view pg_stat_statements is not read: it or its schema was renamed just now; ask again';
    END IF;
    OPEN insights FOR EXECUTE pg_catalog.format(
        'SELECT pg_catalog.row_to_json(s)::pg_catalog.text FROM %I.pg_stat_statements s '
        'WHERE s.userid OPERATOR(pg_catalog.<>) ALL (ARRAY('
        'SELECT oid FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) ''cloud_admin'')) '
        'ORDER BY s.mean_exec_time OPERATOR(pg_catalog.+) s.mean_plan_time DESC LIMIT 100',
        object.nspname);
END
$block$;
FETCH ALL FROM compute_ctl_insights
