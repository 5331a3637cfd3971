//! `/status` under load: 10,000 requests over kept connections while a hundred databases are made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use nix::sys::signal::Signal;
use reqwest::StatusCode;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::server::on_one_server;

const REQUESTS: usize = 10_000;
const CLIENTS: usize = 2;
/// Leaves Postgres a part of the processor.
const PAUSE: Duration = Duration::from_micros(500);
/// A hundred databases take a while on a machine that does other things as well.
const LONG: Duration = Duration::from_secs(300);
const DATABASES: usize = 100;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: .ci/run runs it"]
async fn status_answers_while_a_hundred_databases_are_made() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.role("ann", None);
        let mut compute = bed.start();
        compute.wait_for("running").await;
        bed.spec.skip_pg_catalog_updates = false;
        for number in 0..DATABASES {
            bed.spec.database(&format!("store{number}"), "ann");
        }

        let (answered, configuring) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let over = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let client = reqwest::Client::builder().no_proxy().build().unwrap();
                let url = format!("{}/status", compute.external);
                let (answered, configuring) = (Arc::clone(&answered), Arc::clone(&configuring));
                let over = Arc::clone(&over);
                tokio::spawn(async move {
                    while answered.load(SeqCst) < REQUESTS || !over.load(SeqCst) {
                        let answer = client.get(&url).send().await.unwrap();
                        assert_eq!(answer.status(), StatusCode::OK);
                        let text = answer.text().await.unwrap();
                        configuring.fetch_add(
                            usize::from(text.contains(r#""status":"configuration""#)),
                            SeqCst,
                        );
                        answered.fetch_add(1, SeqCst);
                        tokio::time::sleep(PAUSE).await;
                    }
                })
            })
            .collect();
        let configure = compute
            .http
            .post(format!("{}/configure", compute.external))
            .header("content-type", "application/json")
            .body(bed.configure_body().to_string())
            .timeout(LONG);
        let answer = configure.send().await.unwrap();
        over.store(true, SeqCst);
        assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.text().await);
        for client in clients {
            client.await.unwrap();
        }
        assert!(answered.load(SeqCst) >= REQUESTS);
        assert!(configuring.load(SeqCst) > 0, "none came while the databases were made");
        let made = "SELECT count(*) FROM pg_database WHERE datname LIKE 'store%'";
        assert_eq!(compute.sql_text(made).await, DATABASES.to_string());
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
