use super::rules::{check, faults};
use super::tokens::text;

/// Texts without a fault.
const GOOD: &[&str] = &[
    "SELECT 1",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT DISTINCT 'x', c.oid::pg_catalog.regclass FROM pg_catalog.pg_class c, ONLY public.t",
    "SELECT pg_catalog.count(*) FILTER (WHERE a OPERATOR(pg_catalog.=) 'x') FROM (SELECT) s (a)",
    "SELECT FROM pg_catalog.pg_database WHERE datconnlimit OPERATOR(pg_catalog.<>) -2",
    "WITH a AS (DELETE FROM neon.t), b (x) AS (SELECT 1) INSERT INTO neon.t (c) SELECT x FROM b, a",
    "SELECT x.n FROM pg_catalog.unnest(ARRAY[1]::pg_catalog.int4[]) AS x (n) CROSS JOIN LATERAL \
     pg_catalog.f(x.n) y JOIN {view} v ON v.a OPERATOR(pg_catalog.=) ANY (ARRAY['a', 'b'])",
    "SELECT CASE WHEN a THEN 1 END, EXTRACT(epoch FROM b), COALESCE(c, -1), \
     substring(d FROM 'x'), e::integer, (pg_catalog.f(g)).*",
    "UPDATE pg_catalog.pg_extension SET a = true, b = -1 WHERE NOT extrelocatable",
    "INSERT INTO public.t (id, at) VALUES (1, pg_catalog.now()) \
     ON CONFLICT (id) DO UPDATE SET at = EXCLUDED.at, id = 2 RETURNING id",
    "CREATE TABLE IF NOT EXISTS neon.t (id pg_catalog.int4 PRIMARY KEY, b integer, UNIQUE (b))",
    "GRANT SELECT ON public.t TO x; GRANT USAGE ON SCHEMA neon TO x; REVOKE ALL ON neon.t FROM y",
    "GRANT EXECUTE ON FUNCTION pg_catalog.f() TO {role}",
    "ALTER EXTENSION neon UPDATE; ALTER ROLE a SET statement_timeout = '1s'; ALTER ROLE b",
    "ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP DATABASE x WITH (FORCE)",
    "SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, pg_catalog.to_regrole('x'), \
     pg_catalog.to_regprocedure('pg_catalog.f(pg_catalog.text, integer)')",
    "DO $x$ DECLARE a pg_catalog.text := 'y'; b record; c boolean; BEGIN \
     FOR a IN SELECT d FROM pg_catalog.pg_class LOOP \
     EXECUTE pg_catalog.format('ALTER ROLE %I SET x = 1', a); SELECT 1 INTO a; \
     PERFORM pg_catalog.set_config('a', '=', true); END LOOP; \
     IF a IS NULL THEN RAISE EXCEPTION 'x = %', a; END IF; END $x$",
    "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'CT001', MESSAGE = 'x'; END $$; \
     FETCH ALL FROM some_cursor",
    "LOCK TABLE pg_catalog.pg_subscription IN ACCESS EXCLUSIVE MODE",
    "AND s.oid OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.oid[])",
    "SELECT a COLLATE pg_catalog.\"C\" FROM pg_catalog.t WHERE @WHICH@ ORDER BY 1 DESC LIMIT 2",
];

/// Texts with the named fault.
const BAD: &[(&str, &str)] = &[
    ("SELECT a = 1", "`=`"),
    ("SELECT a, b = 1", "`=`"),
    ("SELECT a FROM n.t WHERE x SET y = 1 AND z = 2", "`=`"),
    ("UPDATE n.t SET a = 1 WHERE b = 2", "`=`"),
    ("SELECT a || 'x'", "`||`"),
    ("SELECT a - 1", "`-`"),
    ("SELECT a * 1", "`*`"),
    ("SELECT a OPERATOR(public.=) 1", "not of pg_catalog `=`"),
    ("SELECT a <> -1", "`<>`"),
    ("SELECT a IN (1)", "`IN`"),
    ("SELECT a NOT IN (1)", "`IN`"),
    ("SELECT a NOT LIKE 'x'", "`LIKE`"),
    ("SELECT a ILIKE 'x'", "`ILIKE`"),
    ("SELECT a SIMILAR TO 'x'", "`SIMILAR`"),
    ("SELECT a BETWEEN 1 AND 2", "`BETWEEN`"),
    ("SELECT a IS DISTINCT FROM b", "`DISTINCT`"),
    ("SELECT a IS NOT DISTINCT FROM b", "`DISTINCT`"),
    ("SELECT NULLIF(a, b)", "`NULLIF`"),
    ("SELECT CASE a WHEN 1 THEN 2 END", "`CASE`"),
    ("SELECT FROM n.a JOIN n.b USING (c)", "`USING`"),
    ("SELECT FROM n.a NATURAL JOIN n.b", "`NATURAL`"),
    ("SELECT a COLLATE \"C\"", "`COLLATE`"),
    ("SELECT count(*)", "function without schema `COUNT`"),
    ("SELECT 1 WHERE \"F\"(1)", "function without schema `\"F\"`"),
    ("SELECT FROM unnest(x)", "function without schema `UNNEST`"),
    ("SELECT a OPERATOR(pg_catalog.=) f(1)", "function without schema `F`"),
    ("SELECT substring(a, 1)", "function without schema `SUBSTRING`"),
    ("SELECT FROM pg_class", "relation without schema `PG_CLASS`"),
    ("SELECT FROM n.a, pg_class", "relation without schema `PG_CLASS`"),
    ("SELECT FROM n.a x LEFT JOIN pg_class ON true", "relation without schema `PG_CLASS`"),
    ("INSERT INTO t (a) VALUES (1)", "relation without schema `T`"),
    ("UPDATE t SET a = 1", "relation without schema `T`"),
    ("DELETE FROM ONLY t", "relation without schema `T`"),
    ("LOCK TABLE t", "relation without schema `T`"),
    ("DROP TABLE IF EXISTS t", "relation without schema `T`"),
    ("GRANT SELECT ON t TO x", "relation without schema `T`"),
    ("SELECT a::text", "type without schema `TEXT`"),
    ("SELECT CAST(a AS text)", "type without schema `TEXT`"),
    ("SELECT oid '1'", "type without schema `OID`"),
    ("CREATE TABLE n.t (a integer, b text DEFAULT 'x')", "type without schema `TEXT`"),
    ("CREATE TABLE n.t (a timestamp DEFAULT now())", "function without schema `NOW`"),
    ("DO $$ DECLARE a text; BEGIN END $$", "type without schema `TEXT`"),
    ("DO $$ BEGIN IF a = 1 THEN END IF; END $$", "`=`"),
    ("DO $@X@$ BEGIN EXECUTE 'DELETE FROM t'; END $@X@$", "relation without schema `T`"),
    ("SELECT 'pg_class'::pg_catalog.regclass", "in a constant `'pg_class'`"),
    ("SELECT pg_catalog.to_regclass('pg_class')", "in a constant `'pg_class'`"),
    ("SELECT pg_catalog.to_regprocedure('n.f(text)')", "in a constant `'n.f(text)'`"),
    ("AND s.oid IN ({})", "`IN`"),
];

#[test]
fn qualified_names_pass() {
    for sql in GOOD {
        assert_eq!(faults(sql), [""; 0], "{sql}");
    }
}

#[test]
fn faults_are_named() {
    for (sql, fault) in BAD {
        let found = faults(sql);
        assert!(found.len() == 1 && found[0].ends_with(fault), "{sql}: {found:?}");
    }
}

#[test]
fn findings_have_their_lines() {
    let sql = "SELECT\n  'a' -- x = y\n  , $x$ SELECT\n b = c $x$";
    assert_eq!(check(&text(sql, 7)).first().map(|finding| finding.line), Some(10));
}
