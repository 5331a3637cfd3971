//! Tests of the templates; that rsyslogd takes them is tested in `tests/it`.

use super::*;
use proptest::prelude::*;

fn inputs<'a>(endpoint_id: &'a str, project_id: &'a str) -> AuditInputs<'a> {
    AuditInputs {
        log_folder: Path::new("/var/db/postgres/compute/log"),
        work_folder: Path::new("/var/log/rsyslog"),
        endpoint_id,
        project_id,
    }
}

fn collector(tls: bool) -> Collector {
    Collector { host: "collector.example".to_owned(), port: 5555, tls }
}

/// The table of 04 §10.1, case R2 of 04 §15.
#[test]
fn endpoints() {
    let long_label = format!("{}.x:1", "a".repeat(64));
    let long_name = format!("{}:1", ["a".repeat(49).as_str(); 6].join("."));
    for (text, expected) in [
        ("collector.example:5555", Some(("collector.example", 5555))),
        ("10.0.0.1:5555", Some(("10.0.0.1", 5555))),
        ("[2001:db8::7]:5555", Some(("2001:db8::7", 5555))),
        ("[2001:0DB8:0::0007]:0", Some(("2001:db8::7", 0))),
        ("Collector.EXAMPLE:80", Some(("collector.example", 80))),
        ("bücher.example:1", Some(("xn--bcher-kva.example", 1))),
        ("a-b.1x:65535", Some(("a-b.1x", 65535))),
        ("collector.example", None),
        ("collector.example:", None),
        (":5555", None),
        ("collector.example:90001", None),
        ("-collector.example:5555", None),
        ("collector-.example:5555", None),
        ("collector..example:5555", None),
        ("collector.example.:5555", None),
        ("collector_a.example:5555", None),
        ("a:::5", None),
        ("2001:db8::7:5555", None),
        ("[::1:5555", None),
        ("u@a:5", None),
        ("u:p@a:5", None),
        ("a:5/x", None),
        ("a/x:5", None),
        ("a?x:5", None),
        ("a#x:5", None),
        ("a\\x:5", None),
        ("a:5?x", None),
        ("a b:5", None),
        ("a\n:5", None),
        ("a:+5", None),
        (" a:5", None),
        (long_label.as_str(), None),
        (long_name.as_str(), None),
    ] {
        let endpoints = AuditEndpoints { plain: text.to_owned(), tls: String::new() };
        let got = endpoints.collector();
        match expected {
            Some((host, port)) => {
                assert_eq!(got, Ok(Collector { host: host.to_owned(), port, tls: false }));
            }
            None => {
                let error = got.expect_err(text).to_string();
                assert!(error.contains("AUDIT_LOGGING_ENDPOINT"), "{error}");
            }
        }
    }
}

/// Cases R1 and R3 of 04 §15.
#[test]
fn tls_is_preferred_and_something_must_be_there() {
    let (plain, tls) = ("plain.example:1".to_owned(), "tls.example:2".to_owned());
    let both = AuditEndpoints { plain, tls }.collector().unwrap();
    assert_eq!(both, Collector { host: "tls.example".to_owned(), port: 2, tls: true });
    assert!(!audit(&both, &inputs("", "")).contains("plain.example"));
    assert_eq!(
        AuditEndpoints::default().collector().unwrap_err().to_string(),
        "AUDIT_LOGGING_ENDPOINT and AUDIT_LOGGING_TLS_ENDPOINT are both empty"
    );
    let bad = AuditEndpoints { plain: "a:1".to_owned(), tls: "b".to_owned() };
    let error = bad.collector().unwrap_err().to_string();
    assert!(error.contains("AUDIT_LOGGING_TLS_ENDPOINT is \"b\""), "{error}");
}

#[test]
fn both_variants_have_the_documented_parts() {
    for tls in [true, false] {
        let text = audit(&collector(tls), &inputs("ep-1", "pr-1"));
        let variable = format!("set $.remote_syslog_tls = \"{tls}\";");
        for part in [
            variable.as_str(),
            r#"type="omfwd""#,
            r#"target="collector.example""#,
            r#"port="5555""#,
            r#"StreamDriverPermittedPeers="collector.example""#,
            r#"File="/var/db/postgres/compute/log/*.log""#,
            r#"workDirectory="/var/log/rsyslog""#,
            r#"set $.json_log!endpoint_id = "ep-1";"#,
            r#"set $.json_log!project_id = "pr-1";"#,
            r#"DefaultNetstreamDriverCAFile="/etc/ssl/certs/ca-certificates.crt""#,
            "<%PRI%>1 %TIMESTAMP:::date-rfc3339% %HOSTNAME% - - - - %$.json_log%",
            r#"[[:digit:]]{2}.[[:digit:]]{3} GMT,""#,
        ] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
        assert_eq!(text.matches("type=\"omfwd\"").count(), 2);
    }
}

/// Case R4 of 04 §15.
#[test]
fn export_file() {
    let text = export(Some("c.x:10514")).unwrap();
    for part in [
        r#"if $programname == "postgres" then {"#,
        r#"target="c.x" port="10514" protocol="tcp""#,
        r#"template="RSYSLOG_SyslogProtocol23Format""#,
        r#"action.resumeRetryCount="3""#,
        r#"queue.type="linkedList" queue.size="1000""#,
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    assert!(
        export(Some("[2001:db8::7]:514")).unwrap().contains(r#"target="2001:db8::7" port="514""#)
    );
    assert_eq!(export(None).unwrap(), "");
    for bad in ["c.x", "", ":5", "c.x:", "c.x:y", "c x:1"] {
        let error = export(Some(bad)).unwrap_err().to_string();
        assert!(error.starts_with("Invalid host format for Postgres logs export"), "{error}");
        assert!(error.contains("logs_export_host"), "{error}");
    }
}

/// Reads a string of RainerScript; none if it does not end where the text ends.
fn unquoted(text: &str) -> Option<String> {
    let mut chars = text.strip_prefix('"')?.chars();
    let mut out = String::new();
    loop {
        match chars.next()? {
            '"' => return chars.next().is_none().then_some(out),
            '$' => return None,
            '\\' => match chars.next()? {
                c @ ('"' | '\\') => out.push(c),
                c => {
                    let digits: String = [c, chars.next()?, chars.next()?].into_iter().collect();
                    out.push(char::from(u8::from_str_radix(&digits, 8).ok()?));
                }
            },
            c => out.push(c),
        }
    }
}

proptest! {
    #[test]
    fn every_string_stays_one_string(text in any::<String>()) {
        prop_assert_eq!(unquoted(&quoted(&text)), Some(text));
    }

    #[test]
    fn ids_cannot_add_statements(id in "[a-z\"\\\\${}\n;%']{0,20}") {
        let plain = audit(&collector(true), &inputs("x", "x"));
        let odd = audit(&collector(true), &inputs(&id, &id));
        prop_assert_eq!(odd.lines().count(), plain.lines().count());
        let set_to = |id: &str| format!("_id = {};", quoted(id));
        prop_assert_eq!(odd.replace(&set_to(&id), &set_to("x")), plain);
    }

    #[test]
    fn an_endpoint_that_is_accepted_is_harmless(text in "[a-zA-Z0-9.:@/\\[\\]\"_ -]{0,12}:[0-9]{1,6}") {
        if let Some((host, _)) = host_and_port(&text) {
            prop_assert!(host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b)));
        }
    }
}
