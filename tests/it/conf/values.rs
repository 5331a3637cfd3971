//! Every value that a file can hold reaches the server unchanged, and affects no other setting:
//! real servers read the rendered file.

use compute_ctl::postgres::conf::{ConfFile, ConfInputs, Origin};
use compute_ctl::spec::ComputeSpec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::string::string_regex;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::support::server::{Vanilla, on_every_server};

const CASES: usize = 300;

/// Characters that mean something in the file, in a shell, in a pattern or in an encoding.
const TRICKY: &str =
    "[a-z0-9 '\"\\\\,;=#%$&@{}()\\[\\]|<>*?!`~^:/._+\\-\t\n\r\u{1}\u{7f}éÄ漢🐘\u{a0}\u{2028}]";

fn tricky(count: &str) -> impl Strategy<Value = String> {
    string_regex(&format!("{TRICKY}{count}")).unwrap()
}

fn entry(name: &str, value: &str, vartype: &str) -> Value {
    json!({"name": name, "value": value, "vartype": vartype})
}

fn build(settings: &[Value]) -> Result<ConfFile, String> {
    let spec: ComputeSpec = serde_json::from_value(json!({
        "format_version": 1.0, "suspend_timeout_seconds": -1,
        "drop_subscriptions_before_start": true,
        "audit_log_level": "Full",
        "cluster": {"roles": [], "databases": [], "settings": settings,
            "postgresql_conf": "log_line_prefix = '%m [%p] ''x'' '\n# ' \napp.base \t'b'\r\n"}
    }))
    .unwrap();
    let inputs = ConfInputs {
        privileged_role_name: "neon_superuser",
        internal_http_port: 3081,
        overcommit_strict: false,
        tls: false,
        lakebase_port: None,
    };
    ConfFile::build(&spec, &inputs).map_err(|error| error.to_string())
}

/// Values of vartype `string`, for the settings of an application and for some of Postgres.
fn strings(runner: &mut TestRunner) -> Vec<Value> {
    let mut settings: Vec<Value> = [
        ("log_line_prefix", "%m [%p] %q%u@%d/%a '\\' \n"),
        ("application_name", "it's \"mine\" \\ # ; $1"),
        ("search_path", "\"$user\", public, \"My \"\"Schema\"\"\", 'x'"),
        ("DateStyle", "ISO, DMY"),
        ("TimeZone", "Europe/Berlin"),
        ("work_mem", "64MB"),
        ("session_preload_libraries", "/a b/c, \"d,e\""),
        ("archive_command", "test ! -f /x/%f && cp %p '/x y/%f'"),
        ("app.empty", ""),
        ("app.quote", "'"),
        ("app.quotes", "''''''"),
        ("app.backslash", "\\"),
        ("app.escape", "\\n\\t\\101\\'"),
        ("app.lines", "one\ntwo\r\nport = 1\n"),
        ("app.comment", "a # b"),
        ("app.include", "x'\ninclude 'y"),
        ("é.ü", "ß"),
    ]
    .into_iter()
    .map(|(name, value)| entry(name, value, "string"))
    .collect();
    settings.push(entry("app.long", &"0123456789 '\\\n".repeat(5_000), "string"));
    let texts = prop_oneof![
        4 => tricky("{0,20}"),
        1 => "[^\\x00]{0,40}",
        1 => tricky("{200,400}"),
    ];
    for at in 0..CASES {
        let value = texts.new_tree(runner).unwrap().current();
        settings.push(entry(&format!("app.s{at}"), &value, "string"));
    }
    settings
}

/// Values of other vartypes, which are written unchanged.
fn plain(runner: &mut TestRunner) -> Vec<Value> {
    let mut settings: Vec<Value> = [
        ("max_connections", "112", "integer"),
        ("work_mem", "4MB", "integer"),
        ("random_page_cost", "1.1", "real"),
        ("seq_page_cost", "-.5e+3", "real"),
        ("fsync", "off", "bool"),
        ("wal_level", "logical", "enum"),
        ("unix_socket_permissions", "0777", "integer"),
        ("app.hex", "0x1F", "integer"),
        ("app.word", "a-b.c:d/e", "enum"),
        ("app.cased", "Üb_er", "String"),
    ]
    .into_iter()
    .map(|(name, value, vartype)| entry(name, value, vartype))
    .collect();
    let words = prop_oneof![
        ("[+-]?[0-9]{1,12}(kB|MB|GB|ms|min)?", Just("integer")),
        ("[+-]?[0-9]{0,4}\\.[0-9]{0,4}([eE][+-]?[0-9]{1,2})?", Just("real")),
        (prop_oneof!["on", "off", "yes", "0"].prop_map(String::from), Just("bool")),
        ("[a-zA-Z_é][a-zA-Z0-9_é]{0,20}", Just("enum")),
    ];
    for at in 0..CASES {
        let (value, vartype) = words.new_tree(runner).unwrap().current();
        settings.push(entry(&format!("app.p{at}"), &value, vartype));
    }
    settings
}

#[tokio::test]
async fn every_value_arrives_and_its_neighbours_stay() {
    on_every_server(|server| async move {
        let vanilla = Vanilla::start(&server, &[]).await;
        let mut runner = TestRunner::default();
        let given: Vec<Value> = [strings(&mut runner), plain(&mut runner)]
            .concat()
            .into_iter()
            .enumerate()
            // Each has a neighbour that would show a quote left open.
            .flat_map(|(at, setting)| [setting, entry(&format!("next.n{at}"), "'", "string")])
            .collect();
        let conf = build(&given).unwrap();
        assert_eq!(conf.unreadable(), []);

        let text = conf.render().unwrap();
        let seen = vanilla.read_conf(text.expose()).await.unwrap();
        let ours: Vec<(String, String)> = conf
            .settings()
            .into_iter()
            .filter(|setting| setting.origin != Origin::Override)
            .map(|setting| (setting.name, setting.value.expose().clone()))
            .collect();
        for (ours, seen) in ours.iter().zip(&seen) {
            assert_eq!(ours, seen);
        }
        assert_eq!(ours.len(), seen.len());
        let text = |setting: &Value, member: &str| setting[member].as_str().unwrap().to_owned();
        let from = seen.iter().position(|(name, _)| name == "log_line_prefix").unwrap() + 1;
        let from = from + seen[from..].iter().position(|(n, _)| n == "log_line_prefix").unwrap();
        for (given, seen) in given.iter().zip(&seen[from..]) {
            assert_eq!(&(text(given, "name"), text(given, "value")), seen);
        }
        vanilla.stop().await;
    })
    .await;
}

/// A single value, so that the file around it is small: Postgres reads back the values that the
/// program accepts, and the program names the values that it refuses.
#[tokio::test]
async fn each_value_alone() {
    on_every_server(|server| async move {
        let vanilla = Vanilla::start(&server, &[]).await;
        let mut runner = TestRunner::default();
        let cases = (
            // So that many cases are read and many refused, whatever the random numbers are.
            prop_oneof![1 => "[a-zA-Z_é.0-9 '=#\\-]{0,6}", 3 => Just("app.x".to_owned())],
            prop_oneof![3 => tricky("{0,6}"), 1 => Just("a\0b".to_owned())],
            prop_oneof![Just("string"), Just("integer"), Just("enum")],
        );
        let (mut read, mut refused) = (0, 0);
        for _ in 0..CASES {
            let (name, value, vartype) = cases.new_tree(&mut runner).unwrap().current();
            let setting = entry(&name, &value, vartype);
            let conf = match build(&[setting.clone(), entry("next.n", "'", "string")]) {
                Ok(conf) => conf,
                Err(error) => {
                    assert!(
                        error.contains(&format!("{name:?}")) || error.contains(&name),
                        "{error}"
                    );
                    refused += 1;
                    continue;
                }
            };
            let text = conf.render().unwrap();
            let seen = vanilla.read_conf(text.expose()).await;
            if vartype != "string" && value.chars().all(|c| matches!(c, ' ' | '\t')) {
                let seen = seen.unwrap_or_else(|error| panic!("{setting}: {error}"));
                assert!(seen.iter().all(|pair| pair.0 != name), "{setting}: {seen:?}");
                continue;
            }
            if !conf.unreadable().is_empty() {
                assert!(seen.is_err(), "{setting}: {seen:?}");
                assert_ne!(vartype, "string", "{setting}");
                continue;
            }
            let seen = seen.unwrap_or_else(|error| panic!("{setting}: {error}"));
            let at = seen.iter().position(|pair| *pair == ("next.n".to_owned(), "'".to_owned()));
            let at = at.unwrap_or_else(|| panic!("{setting}: {seen:?}"));
            assert_eq!(seen[at - 1].0, name);
            // A value that is quoted already is unquoted; all others arrive unchanged.
            if vartype == "string" {
                assert_eq!(seen[at - 1].1, value);
            } else if !value.contains('\'') {
                let value = value.split('#').next().unwrap().trim_matches([' ', '\t']);
                assert_eq!(seen[at - 1].1, value);
            }
            read += 1;
        }
        assert!(read > 20 && refused > 20, "{read} {refused}");
        vanilla.stop().await;
    })
    .await;
}
