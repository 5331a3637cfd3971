-- A PL/pgSQL statement that fails unless the table belongs to a superuser and has no code of
-- others attached, and keeps it so until the end of the transaction (`trust.rs` has the rule).
DECLARE
    schema_id pg_catalog.oid;
    fault pg_catalog.text;
BEGIN
    -- Each statement looks the name up again. While its row is locked the schema keeps its name (a
    -- GRANT on the schema does not wait for that), and while the table is locked it keeps its name
    -- and gets no trigger. A standby cannot take row locks, and runs no DDL of its own.
    IF pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'off'
        AND pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on'
    THEN
        PERFORM FROM pg_catalog.pg_namespace n
        WHERE n.nspname OPERATOR(pg_catalog.=) '@SCHEMA@' FOR KEY SHARE;
    END IF;
    LOCK TABLE ONLY @SCHEMA@.@TABLE@ IN @MODE@ MODE;
    SELECT n.oid INTO schema_id FROM pg_catalog.pg_namespace n
    WHERE n.nspname OPERATOR(pg_catalog.=) '@SCHEMA@';
    SELECT CASE
        WHEN c.relkind OPERATOR(pg_catalog.<>) 'r' OR c.relpersistence OPERATOR(pg_catalog.<>) 'p'
            THEN 'it is not an ordinary table'
        WHEN NOT o.rolsuper
            THEN pg_catalog.format('it belongs to role %L, which is not a superuser', o.rolname)
        WHEN EXISTS (
            SELECT FROM pg_catalog.pg_trigger t
            WHERE t.tgrelid OPERATOR(pg_catalog.=) c.oid AND NOT t.tgisinternal
        ) THEN 'it has a trigger'
        WHEN c.relhasrules THEN 'it has a rule'
        WHEN c.relrowsecurity OR c.relforcerowsecurity THEN 'it has row security'
        WHEN c.relispartition OR EXISTS (
            SELECT FROM pg_catalog.pg_inherits i
            WHERE i.inhparent OPERATOR(pg_catalog.=) c.oid OR i.inhrelid OPERATOR(pg_catalog.=) c.oid
        ) THEN 'it has parent or child tables'
        WHEN EXISTS (
            SELECT FROM pg_catalog.pg_attribute a
            JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid
            WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attnum OPERATOR(pg_catalog.>) 0
                AND (a.attgenerated OPERATOR(pg_catalog.<>) ''
                    OR t.typnamespace OPERATOR(pg_catalog.<>)
                        'pg_catalog'::pg_catalog.regnamespace::pg_catalog.oid)
        ) THEN 'it has a generated column or one of a type that is not of pg_catalog'
        WHEN EXISTS (
            SELECT FROM pg_catalog.pg_constraint k
            WHERE k.conrelid OPERATOR(pg_catalog.=) c.oid AND k.contype OPERATOR(pg_catalog.=)
                ANY (ARRAY['c', 'f', 'x', 't']::pg_catalog."char"[])
        ) THEN 'it has a constraint other than its key'
        WHEN EXISTS (
            SELECT FROM pg_catalog.pg_index x
            WHERE x.indrelid OPERATOR(pg_catalog.=) c.oid
                AND (x.indexprs IS NOT NULL OR x.indpred IS NOT NULL)
        ) THEN 'it has an index on an expression or with a condition'
        WHEN EXISTS (
            -- Defaults that call a function of a role that is not a superuser, or name its objects.
            SELECT FROM pg_catalog.pg_attrdef d
            JOIN pg_catalog.pg_depend p
                ON p.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass::pg_catalog.oid
                AND p.objid OPERATOR(pg_catalog.=) d.oid
            WHERE d.adrelid OPERATOR(pg_catalog.=) c.oid
                AND p.refobjid OPERATOR(pg_catalog.<>) c.oid
                AND p.refclassid OPERATOR(pg_catalog.<>)
                    'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
        ) THEN 'it has a default that is not of pg_catalog'
    END INTO fault
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_roles o ON o.oid OPERATOR(pg_catalog.=) c.relowner
    WHERE c.relnamespace OPERATOR(pg_catalog.=) schema_id
        AND c.relname OPERATOR(pg_catalog.=) '@TABLE@';
    IF NOT FOUND OR fault IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'CT001', MESSAGE = pg_catalog.format(
            'table @SCHEMA@.@TABLE@ is not used: %s; rename or drop that table, and the next start '
            'makes another', COALESCE(fault, 'it was renamed just now'));
    END IF;
END;
