//! Objects of a tenant that are named like those of Postgres and of the compute. Each makes `ann` a
//! superuser once a superuser runs it, and logs that.

use tokio_postgres::Client;

use crate::support::assertions::until;
use crate::support::bed::Bed;
use crate::support::process::Compute;

/// What a trap writes into the log.
const SPRUNG: &str = "a trap has sprung";

/// Databases that belong to `ann`: the system database, and another one.
pub const HERS: [&str; 2] = ["postgres", "tdb"];

/// Superusers, members of superusers, and roles that may create in `pg_catalog`.
const POWERS: &str = "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolsuper UNION ALL \
    SELECT r.rolname || ' has ' || m.member::regrole FROM pg_catalog.pg_auth_members m \
    JOIN pg_catalog.pg_roles r ON r.oid = m.roleid WHERE r.rolsuper UNION ALL \
    SELECT 'catalog ' || rolname FROM pg_catalog.pg_roles \
    WHERE has_schema_privilege(oid, 'pg_catalog', 'CREATE') ORDER BY 1";

/// A look of the activity monitor.
const LOOKS: &str = "SELECT query_start FROM pg_stat_activity \
    WHERE application_name = 'compute_ctl:compute_monitor' AND query_start IS NOT NULL";

/// The function that all traps call, in a schema that exists, and as a trigger.
fn spring(schema: &str) -> String {
    let is_super = "(SELECT r.rolsuper FROM pg_catalog.pg_roles r \
                     WHERE r.rolname OPERATOR(pg_catalog.=) current_user)";
    let act = format!(
        "IF {is_super} THEN RAISE LOG '{SPRUNG}: % as %', what, current_user; \
         BEGIN EXECUTE 'ALTER ROLE ann SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END; END IF;"
    );
    format!(
        "CREATE FUNCTION {schema}.spring(what pg_catalog.text) RETURNS pg_catalog.bool \
             LANGUAGE plpgsql AS $f$ BEGIN {act} RETURN true; END $f$; \
         CREATE FUNCTION {schema}.fixed(what pg_catalog.text) RETURNS pg_catalog.bool \
             LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN {act} RETURN true; END $f$; \
         CREATE FUNCTION {schema}.fire() RETURNS pg_catalog.trigger LANGUAGE plpgsql AS $f$ \
             DECLARE what pg_catalog.text := 'a trigger of ' || TG_TABLE_NAME; \
             BEGIN {act} RETURN NEW; END $f$; \
         CREATE FUNCTION {schema}.notice() RETURNS pg_catalog.event_trigger LANGUAGE plpgsql \
             AS $f$ DECLARE what pg_catalog.text := 'an event trigger'; BEGIN {act} END $f$;"
    )
}

/// Operators for all pairs of types that statements of the compute could use, functions for their
/// possible arguments, views over catalogs, and domains.
fn shadows(schema: &str) -> String {
    let literal = schema.replace('\'', "''");
    format!(
        r#"DO $do$ DECLARE
    s text := '{literal}'; a text; b text; o text;
    types text[] := ARRAY['oid', 'int4', 'int8', 'text', 'name', '"char"', 'bool', 'regclass'];
BEGIN
    FOREACH a IN ARRAY types LOOP FOREACH b IN ARRAY types LOOP
        a := 'pg_catalog.' || replace(a, 'pg_catalog.', '');
        EXECUTE format('CREATE FUNCTION %s.truth(%s, pg_catalog.%s) RETURNS pg_catalog.bool '
            'LANGUAGE plpgsql AS %L', s, a, b,
            format('BEGIN PERFORM %s.spring(''an operator of %s, %s''); RETURN true; END', s, a, b));
        EXECUTE format('CREATE FUNCTION %s.sum_of(%s, pg_catalog.%s) RETURNS pg_catalog.text '
            'LANGUAGE plpgsql AS %L', s, a, b,
            format('BEGIN PERFORM %s.spring(''an operator of %s, %s''); RETURN 1; END', s, a, b));
        FOREACH o IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>=', '~', '!~', '~~', '!~~'] LOOP
            EXECUTE format('CREATE OPERATOR %s.%s (LEFTARG = %s, RIGHTARG = pg_catalog.%s, '
                'FUNCTION = %s.truth)', s, o, a, b, s);
        END LOOP;
        FOREACH o IN ARRAY ARRAY['||', '+', '-', '*'] LOOP
            EXECUTE format('CREATE OPERATOR %s.%s (LEFTARG = %s, RIGHTARG = pg_catalog.%s, '
                'FUNCTION = %s.sum_of)', s, o, a, b, s);
        END LOOP;
    END LOOP; END LOOP;
    FOREACH o IN ARRAY ARRAY['format', 'quote_ident', 'quote_literal', 'count', 'sum', 'max',
        'current_setting', 'set_config', 'current_database', 'to_regclass', 'to_regrole',
        'to_regnamespace', 'to_regprocedure', 'pg_get_userbyid', 'array_to_string', 'string_agg',
        '"left"', '"substring"', 'has_table_privilege', 'pg_backend_pid', 'pg_read_file', 'now',
        'row_to_json', 'starts_with', 'pg_terminate_backend', 'pg_has_role', 'aclexplode', 'unnest']
    LOOP
        FOREACH a IN ARRAY types || ARRAY['', 'text, pg_catalog.text', 'text, pg_catalog.name',
            'name, pg_catalog.text', 'name, pg_catalog.name', 'text, pg_catalog.bool',
            'name, pg_catalog.name, pg_catalog.text', 'text, pg_catalog.text, pg_catalog.bool']
        LOOP
            EXECUTE format('CREATE FUNCTION %s.%s(%s) RETURNS pg_catalog.text '
                'LANGUAGE plpgsql AS %L', s, o, CASE a WHEN '' THEN '' ELSE 'pg_catalog.' || a END,
                format('BEGIN PERFORM %s.spring(''function %s''); RETURN 1; END', s, o));
        END LOOP;
    END LOOP;
    FOR o IN SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace
        AND relname IN ('pg_class', 'pg_roles', 'pg_authid', 'pg_database', 'pg_extension',
            'pg_namespace', 'pg_shdepend', 'pg_subscription', 'pg_stat_activity', 'pg_settings',
            'pg_stat_database', 'pg_stat_replication', 'pg_stat_subscription', 'pg_config',
            'pg_proc', 'pg_db_role_setting', 'pg_default_acl', 'pg_locks')
    LOOP
        EXECUTE format('CREATE VIEW %s.%I AS SELECT x.* FROM pg_catalog.%I x '
            'WHERE %s.spring(''view %I'')', s, o, o, s, o);
    END LOOP;
    FOREACH o IN ARRAY ARRAY['text', 'name', 'oid', 'int4', 'int8', 'bool', 'timestamptz'] LOOP
        EXECUTE format('CREATE DOMAIN %s.%I AS pg_catalog.%I CHECK (%s.spring(''type %I''))',
            s, o, o, s, o);
    END LOOP;
END $do$"#
    )
}

impl Compute {
    /// Fills a database of hers with traps: in the schema that `''` would name as a search path,
    /// and in one that the database's own search path lists before `pg_catalog`.
    pub async fn lay_traps(&self, database: &str) {
        let ann = self.session_of("ann", database).await;
        for schema in ["\"''\"", "traps"] {
            let create = format!(
                "SET search_path = pg_catalog; CREATE SCHEMA {schema}; \
                 GRANT USAGE ON SCHEMA {schema} TO PUBLIC;"
            );
            run(&ann, &create).await;
            run(&ann, &spring(schema)).await;
            run(&ann, &shadows(schema)).await;
        }
        let set = format!("ALTER DATABASE {database} SET search_path = \"''\", traps, pg_catalog");
        run(&ann, &set).await;
    }

    /// Creates the functions that traps call, in schema `traps`, and no object that calls them.
    pub async fn lay_spring(&self, database: &str) {
        let schema = "CREATE SCHEMA traps; GRANT USAGE ON SCHEMA traps TO PUBLIC;";
        self.hers(database, &format!("{schema} {}", spring("traps"))).await;
    }

    /// Runs statements as `ann`.
    pub async fn hers(&self, database: &str, sql: &str) {
        run(&self.session_of("ann", database).await, sql).await;
    }

    /// Roles with such powers. The query runs in a database without traps.
    pub async fn powers(&self) -> Vec<String> {
        self.rows_in("template1", POWERS).await
    }

    /// Waits for a complete look of the activity monitor.
    pub async fn monitor_has_looked(&self) {
        for _ in 0..2 {
            let before = self.rows_in("template1", LOOKS).await;
            until("the monitor has looked", || async {
                self.rows_in("template1", LOOKS).await != before
            })
            .await;
        }
    }

    /// Ends the compute, and checks that no trap has sprung since it was started.
    pub async fn ends_with(&mut self, powers: &[String]) {
        self.has_only(powers).await;
        self.end().await;
        self.nothing_sprang();
    }

    pub async fn has_only(&self, powers: &[String]) {
        assert_eq!(self.powers().await, powers, "{}", sprung(&self.log()));
    }

    pub fn nothing_sprang(&self) {
        let log = self.log();
        assert!(!log.contains(SPRUNG), "{}", sprung(&log));
    }
}

impl Bed {
    /// Makes `ann` the owner of the databases of [`HERS`].
    pub fn belongs_to_ann(&mut self) {
        self.spec.role("ann", None);
        for database in HERS {
            self.spec.database(database, "ann");
        }
    }
}

fn sprung(log: &str) -> String {
    log.lines().filter(|line| line.contains(SPRUNG)).collect::<Vec<_>>().join("\n")
}

async fn run(session: &Client, sql: &str) {
    session.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}
