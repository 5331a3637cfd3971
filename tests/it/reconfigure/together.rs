//! Requests that arrive together are served one after the other: each is answered, none is lost,
//! and the last configuration is in force (01 §13, §24 nos. 3 and 9).

use std::collections::HashSet;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::{Bed, Pair, TlsFiles};
use crate::support::server::on_one_server;

const APPLIED: &str = "finished reconfiguration of compute node for operation number-";
/// The limit on the number of specs to try.
const NUMBERS: usize = 300;

/// Specs, refreshes and certificates, all at once.
#[tokio::test]
async fn each_is_answered_and_what_was_accepted_was_applied() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.member("features", json!(["tls_experimental"]));
        let files = TlsFiles::new(&bed);
        files.put_pair(&Pair::new());
        let mut compute = files.start(&bed);
        bed.wait_running(&mut compute).await;

        let document = |name: &str| {
            let mut document = files.config(&bed);
            document["spec"]["operation_uuid"] = json!(format!("number-{name}"));
            let settings = document["spec"]["cluster"]["settings"].as_array_mut().unwrap();
            settings.push(json!({"name": "app.number", "value": name, "vartype": "string"}));
            document
        };
        let configure = async |number: usize| {
            compute.post("/configure", Some(&document(&number.to_string()))).await
        };
        let specs = async {
            let (mut accepted, mut number) = (HashSet::new(), 0);
            // Repeats the request until the refreshes let one through.
            while number < 30 || (accepted.is_empty() && number < NUMBERS) {
                let three =
                    tokio::join!(configure(number), configure(number + 1), configure(number + 2));
                for (n, (code, body)) in [three.0, three.1, three.2].into_iter().enumerate() {
                    match code.as_u16() {
                        200 => assert!(accepted.insert(number + n)),
                        412 => assert!(body["error"].is_string(), "{body}"),
                        _ => panic!("{code} {body}\n{}", compute.log()),
                    }
                }
                number += 3;
            }
            assert!(!accepted.is_empty(), "all refused\n{}", compute.log());
            accepted
        };
        let refreshes = async {
            let url = format!("{}/refresh_configuration", compute.internal);
            for number in 0..20 {
                let next = bed.write("next.json", &document(&format!("file-{number}")));
                std::fs::rename(next, bed.dir().join("config.json")).unwrap();
                let code = compute.http.post(&url).send().await.unwrap().status();
                assert!([200, 500].contains(&code.as_u16()), "{code}");
            }
        };
        let certificates = async {
            for _ in 0..5 {
                files.put_pair(&Pair::new());
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let (accepted, (), ()) = tokio::join!(specs, refreshes, certificates);
        compute.wait_for("running").await;
        for number in &accepted {
            compute.wait_for_log(&format!("{APPLIED}{number}\n")).await;
        }
        let log = compute.log();
        for number in (0..NUMBERS).filter(|number| !accepted.contains(number)) {
            assert!(!log.contains(&format!("{APPLIED}{number}\n")), "number {number}\n{log}");
        }
        until("what was applied last is in force", || async {
            let log = compute.log();
            let (_, last) = log.rsplit_once(APPLIED).unwrap();
            last.lines().next() == Some(compute.sql_text("SHOW app.number").await.as_str())
        })
        .await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A `/terminate` that comes while a refresh is stuck in its pause, and the refresh that comes with
/// it: the end wins, both are answered.
#[tokio::test]
async fn the_end_comes_before_everything_else() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        bed.write_text("config.json", "{");
        compute.refresh().await;
        compute.wait_for_log("could not refresh the configuration").await;
        let url = format!("{}/refresh_configuration", compute.internal);
        let (terminated, refreshed) = tokio::join!(
            compute.post("/terminate?mode=immediate", None),
            compute.http.post(url).send()
        );
        assert_eq!(terminated.0, 200, "{terminated:?}");
        // The compute may have ended before the request arrived.
        let code = refreshed.map_or(200, |answer| answer.status().as_u16());
        assert!([200, 500].contains(&code), "{code}");
        assert_eq!(compute.wait_exit().await.code(), Some(0));
        assert_nothing_left(&bed);
    })
    .await;
}
