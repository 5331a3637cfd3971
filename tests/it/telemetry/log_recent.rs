//! `GET /log`: the last lines of the program and of Postgres, from memory.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

async fn lines(compute: &Compute, query: &str) -> Vec<Value> {
    let url = format!("{}/log{query}", compute.internal);
    let answer = compute.http.get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

fn find<'a>(lines: &'a [Value], source: &str, text: &str) -> Option<&'a Value> {
    let fits = |line: &&Value| line["message"].as_str().unwrap().contains(text);
    lines.iter().filter(|line| line["source"] == source).find(fits)
}

#[tokio::test]
async fn it_has_the_lines_of_the_program_and_of_postgres() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        // A message of Postgres is complete when nothing has followed it for a while.
        until("Postgres' line is there", || async {
            let all = lines(&compute, "?lines=500").await;
            let line = find(&all, "postgres", "database system is ready to accept");
            line.is_some_and(|line| line["level"] == "INFO")
        })
        .await;
        let all = lines(&compute, "?lines=500").await;
        let first = find(&all, "compute_ctl", "compute_ctl ").unwrap();
        assert_eq!((&all[0]["sequence"], &first["level"]), (&1.into(), &"INFO".into()));
        // In the words of the log, without time and level.
        let line = format!(
            "{}  INFO {}\n",
            first["timestamp"].as_str().unwrap(),
            first["message"].as_str().unwrap()
        );
        assert!(compute.log().contains(&line), "{line}\n{}", compute.log());

        // A wait ends with the error that Postgres logs, of which the client does not hear.
        let last = all.last().unwrap()["sequence"].as_u64().unwrap();
        let sql = compute.sql().await;
        assert!(sql.batch_execute("select 1/0 as planted").await.is_err());
        until("the line is there", || async {
            let new = lines(&compute, &format!("?after={last}&timeout=10s")).await;
            assert!(new.iter().all(|line| line["sequence"].as_u64().unwrap() > last));
            find(&new, "postgres", "division by zero").is_some_and(|line| line["level"] == "ERROR")
        })
        .await;
        // Its requests are not in the log.
        let about = compute.count_in_log("url.path=/log");
        assert_eq!(about, 0);
        assert_eq!(compute.get("/log").await.0, 404, "only on the internal server");
        drop(sql);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
