//! A compute with a secret in every place that has one: none of the outputs of the program shows any
//! of them, in either form of the log, at the most verbose level.

use nix::sys::signal::Signal;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::json;

use crate::support::assertions::{PATIENCE, assert_nothing_left};
use crate::support::bed::{Authority, Bed, EdKey, TlsFiles};
use crate::support::network::collector::Collector;
use crate::support::network::{HttpStub, Reply, answer};
use crate::support::process::{Compute, client_with_env};
use crate::support::server::on_one_server;

/// A part of every secret that a test can choose.
const MARK: &str = "PLANTED";
const TOKEN: &str = "PLANTED-storage-token";
const HASH: &str = "SCRAM-SHA-256$4096:PLANTEDA\
                    $PLANTEDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\
                    :PLANTEDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const TRACE: (&str, &str) = ("RUST_LOG", "trace");

/// The secrets, and how many texts were searched for them.
struct Search {
    secrets: Vec<String>,
    texts: usize,
}

impl Search {
    #[track_caller]
    fn in_text(&mut self, what: &str, text: &str) {
        assert!(!text.is_empty(), "{what} is empty");
        for secret in &self.secrets {
            let found = text.lines().find(|line| line.contains(secret.as_str()));
            assert_eq!(found, None, "{secret} is in {what}");
        }
        self.texts += 1;
    }
}

/// Secrets in the spec, and peers that take them.
fn plant(bed: &mut Bed, endpoint_storage: &str) {
    bed.spec.storage_auth_token = Some(TOKEN.to_owned());
    bed.pageserver.behave(|it| it.password = Some(TOKEN.to_owned()));
    bed.safekeepers[0].behave(|it| it.password = Some(TOKEN.to_owned()));
    bed.spec.pageserver_connstring =
        bed.pageserver.connstring().replace("no_user@", "no_user:PLANTED-pageserver@");
    bed.spec.skip_pg_catalog_updates = false;
    bed.spec.role("ann", Some(HASH)).database("store", "ann");
    bed.spec.member("endpoint_id", json!("ep-1"));
    bed.spec.member("endpoint_storage_addr", json!(endpoint_storage));
    bed.spec.member("endpoint_storage_token", json!("PLANTED-endpoint-storage"));
}

#[tokio::test]
async fn no_output_shows_any() {
    on_one_server(|server| async move {
        for format in ["text", "json"] {
            let mut bed = Bed::new(server.clone()).await;
            let storage = HttpStub::start(Reply::Answer(500, Vec::new())).await;
            plant(&mut bed, &storage.address);
            let (key, stranger) = (EdKey::new(), EdKey::new());
            bed.spec.jwks = json!({"keys": [key.jwk()]});
            let good = key.sign(&json!({"compute_id": "c1"}));
            let bad = stranger.sign(&json!({"compute_id": "c1"}));
            let (authority, files) = (Authority::new("ours"), TlsFiles::new(&bed));
            let pair = authority.issue();
            files.put_pair(&pair);
            files.put("ca.crt", &authority.pem());
            let file = |name: &str| files.dir.join(name).display().to_string();
            let signature = |token: &str| token.rsplit_once('.').unwrap().1.to_owned();
            let mut secrets = vec![MARK.to_owned(), signature(&good), signature(&bad)];
            secrets.extend(pair.key.lines().filter(|it| !it.contains("---")).map(str::to_owned));
            assert!(secrets.len() > 4, "the key of TLS has lines");
            let mut search = Search { secrets, texts: 0 };

            let document = answer(&bed, "attached", bed.spec.spec());
            let cplane = HttpStub::start(Reply::Answer(200, document.into())).await;
            let base = cplane.url().replace("http://", "http://u:PLANTED@") + "/PLANTED?PLANTED";
            let mut line = bed.args_for(&base);
            let connstr = line.iter_mut().find(|it| it.starts_with("postgresql://")).unwrap();
            *connstr = connstr.replace("cloud_admin@", "cloud_admin:PLANTED-connstr@");
            let connstr = connstr.clone();
            line.extend(["--external-http-tls-key".into(), file("tls.key")]);
            line.extend(["--external-http-tls-cert".into(), file("tls.crt")]);
            line.extend(["--log-format".into(), format.to_owned()]);
            let collector = Collector::start().await;
            let env = collector.env(&[
                TRACE,
                ("NEON_CONTROL_PLANE_TOKEN", "PLANTED-control-plane"),
                ("PGBOUNCER_PASSWORD", "PLANTED-pgbouncer"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=PLANTED-header"),
                ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-other=PLANTED-header"),
            ]);
            let mut compute = Compute::spawn(&bed, &line, &env);
            let mut value = HeaderValue::from_str(&format!("Bearer {good}")).unwrap();
            value.set_sensitive(true);
            let trusted = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
            let builder = reqwest::Client::builder().no_proxy().timeout(2 * PATIENCE);
            let builder = builder.tls_certs_only([trusted]);
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            compute.http = builder.default_headers(headers).build().unwrap();
            compute.external = format!("https://127.0.0.1:{}", bed.external_port);
            bed.wait_running(&mut compute).await;
            let stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'ann'";
            assert_eq!(compute.sql_text(stored).await, HASH, "the planted one did arrive");

            // Work that fails, each with a secret in its hands.
            assert_eq!(compute.post("/lfc/prewarm", None).await.0.as_u16(), 202);
            compute.prewarm_outcome().await;
            bed.spec.role("pg_reserved", Some(HASH));
            let (code, refused) = compute.configure(&bed).await;
            assert!(!code.is_success(), "{refused}");
            search.in_text("the answer of /configure", &refused.to_string());
            for (server, path) in [
                (&compute.external, "/status?jwt=PLANTED"),
                (&compute.external, "/nope?token=PLANTED"),
                (&compute.external, "/status?wait=x&token=PLANTED"),
                (&compute.external, "/database_schema?token=PLANTED"),
                (&compute.internal, "/nope?PLANTED"),
                (&compute.internal, "/log?timeout=x&token=PLANTED"),
            ] {
                let url = format!("{server}{path}");
                let answer = compute.http.get(url).bearer_auth(&bad).send().await.unwrap();
                let head = format!("{:?}", answer.headers());
                search.in_text(path, &(head + &answer.text().await.unwrap()));
            }

            let (external, internal) = (compute.external.clone(), compute.internal.clone());
            for (server, paths) in [
                (&external, &["/status", "/details", "/metrics", "/metrics.json", "/ready"][..]),
                (&internal, &["/", "/api", "/details", "/log?lines=500", "/log_level"]),
            ] {
                for path in paths {
                    let answer = compute.http.get(format!("{server}{path}")).send().await.unwrap();
                    let head = format!("{:?}", answer.headers());
                    search.in_text(path, &(head + &answer.text().await.unwrap()));
                }
            }
            let token = bed.write_text("token", &good).display().to_string();
            let wrong = bed.write_text("wrong", &bad).display().to_string();
            let config = bed.write("planted.json", &bed.spec.config()).display().to_string();
            let (ca, postgres) = (file("ca.crt"), bed.pgbin.display().to_string());
            let to = ["--url", &external, "--ca-file", &ca, "--token-file"];
            let by = |command: &[&'static str], token| [command, &to[..], &[token]].concat();
            let own = |command: &[&'static str]| {
                [command, &["-c", &config, "--pgbin", &postgres][..]].concat()
            };
            for args in [
                by(&["status"], token.as_str()),
                by(&["status", "--json"], &token),
                by(&["status"], &wrong),
                by(&["wait", "--for", "failed", "--timeout", "0"], &token),
                [&["configure", &config][..], &by(&[], &wrong)].concat(),
                [&["configure", &config][..], &by(&[], &token)].concat(),
                vec!["logs", "--url", &internal],
                vec!["logs", "--json", "--url", &internal],
                vec!["metrics", "--url", &external, "--ca-file", &ca],
                own(&["check"]),
                own(&["check", "--json"]),
                [&own(&["check", "--plan"])[..], &["-C", &connstr]].concat(),
                [&own(&["plan"])[..], &["-C", &connstr]].concat(),
            ] {
                let ran = client_with_env(&args, &[TRACE]).await;
                search.in_text(&format!("{args:?}"), &format!("{}\n{}", ran.stdout, ran.stderr));
            }
            search.in_text("the log of a running compute", &compute.settled_log().await);
            compute.signal(Signal::SIGTERM);
            compute.wait_exit().await;
            search.in_text("the log of a life", &compute.log());
            for asked in collector.requests() {
                assert_eq!(asked.header("x-other").unwrap(), "PLANTED-header");
                search.in_text("a batch of spans", &String::from_utf8_lossy(&asked.body));
            }
            assert!(cplane.asked()[0].head.contains(MARK), "the planted ones did arrive");
            assert!(search.texts > 30, "{}", search.texts);
            assert_nothing_left(&bed);
        }
    })
    .await;
}
