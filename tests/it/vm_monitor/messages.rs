//! Messages after the handshake (08 §7, §11.2 cases 8 to 17, 23), and the transcript in the guide.

use std::path::Path;

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::agent::Agent;
use super::machine::{Machine, limit, metric, shown, until_shown};
use crate::support::server::{on_every_server, on_one_server};

const GUIDE: &str = "docs/how-to/autoscaling.md";

#[tokio::test]
async fn up_down_and_a_request_for_more() {
    on_every_server(|server| async {
        let machine = Machine::new(server).await;
        let compute = machine.start().await;
        let mut agent = Agent::open(machine.port).await;
        agent.say(&json!({"min": 1, "max": 1})).await;
        // Sent before the set-up is over; its samples begin after it.
        agent.ask(2048, 2).await;
        assert_eq!(agent.hear().await, json!({"version": 1}));
        let early = agent.hear().await;
        assert_eq!(early["type"], "DownscaleResult", "{early}");
        let (ok, status) = (&early["Ok"], &early["Status"]);
        assert_eq!((ok, status.as_str()), (&json!(false), Some("haven't received enough cgroup memory stats yet")));

        agent.grow(4096, 4).await;
        assert_eq!(limit(&compute).await, "2997");
        until_shown(&compute, "/cgroup/memory_bytes", &json!(300 << 20)).await;
        let granted = "set file cache size to 607 MiB; set cgroup memory threshold from 3396.6 MiB \
                       to 785.4 MiB, of new total 924 MiB";
        assert_eq!(agent.shrink_with_samples(1024, 6).await, (true, granted.to_owned()));
        assert_eq!(limit(&compute).await, "607");
        let refused = "calculated memory threshold too low: 350.2 MiB (new threshold) < 300 (current \
                       usage) + 100 (downscale buffer)";
        assert_eq!(agent.shrink(512, 1006).await, (false, refused.to_owned()));
        assert_eq!(limit(&compute).await, "607");

        machine.uses(1500);
        for id in [3, 5, 7] {
            assert_eq!(agent.hear().await, json!({"type": "UpscaleRequest", "id": id}));
        }
        machine.uses(300);
        until_shown(&compute, "/cgroup/memory_bytes", &json!(300 << 20)).await;
        agent.is_served(1008).await;

        assert_eq!(metric(&compute, "connected").await, Some(1.0));
        assert_eq!(metric(&compute, "cgroup_readable").await, Some(1.0));
        assert_eq!(metric(&compute, "cgroup_memory_bytes").await, Some(f64::from(300 << 20)));
        assert_eq!(metric(&compute, "file_cache_bytes").await, Some(f64::from(607 << 20)));
        assert!(metric(&compute, "upscale_requests_total").await.unwrap() >= 3.0);
        // One granted, one refused, and the refusals before there were samples.
        assert!(metric(&compute, "downscales_total").await.unwrap() >= 3.0);
        compute.wait_for_log("requesting upscale: the cgroup uses ").await;
        compute.wait_for_log("the machine may shrink to 1024 MiB: set file cache").await;
        machine.end(compute).await;
    })
    .await;
}

/// Case 23: the table of sizes; case 13: the maximum of the server.
#[tokio::test]
async fn sizes_of_the_cache() {
    on_one_server(|server| async {
        let mut machine = Machine::new(server).await;
        machine.bed.spec.set("neon.max_file_cache_size", "2048MB");
        let compute = machine.start().await;
        let mut agent = machine.agent().await;
        for (nth, (total, size)) in (1..).zip([
            (0, 0),
            (256, 0),
            (257, 0),
            (300, 40),
            (412, 141),
            (512, 232),
            (924, 607),
            (1024, 698),
            (1462, 1096),
            (1463, 1097),
            (1948, 1461),
            (2048, 1536),
            (2972, 2048),
            (16284, 2048),
        ]) {
            agent.grow(total + 100, nth * 2).await;
            assert_eq!(limit(&compute).await, size.to_string(), "{total} MiB");
        }
        agent.grow(1, 100).await;
        assert_eq!(limit(&compute).await, "0", "less than the kernel needs");
        assert!(compute.log().contains("because of neon.max_file_cache_size"));
        machine.end(compute).await;
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_is_answered_and_the_connection_lives() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let compute = machine.start().await;
        let mut agent = machine.agent().await;
        agent.send(r#"{"id":2,"x":[1],"content":{"granted":{"mem":4294967296,"cpu":1,"y":0}},"type":"UpscaleNotification"}"#).await;
        assert_eq!(agent.answer(2).await["type"], "UpscaleConfirmation");
        for (text, id) in [
            ("hello", 0),
            (r#"{"type":"HealthCheck","id":8}"#, 8),
            (r#"{"type":"HealthCheck","content":{}}"#, 0),
            (r#"{"type":"Resize","content":{},"id":10}"#, 10),
            (r#"{"type":"UpscaleNotification","content":{"granted":{"cpu":1,"mem":1.5e9}},"id":12}"#, 12),
        ] {
            agent.send(text).await;
            let answer = agent.answer(id).await;
            assert_eq!(answer["type"], "InvalidMessage", "{text}: {answer}");
            assert!(!answer["error"].as_str().unwrap().is_empty());
        }
        // No answer to complaints, readable or not.
        for kind in ["InvalidMessage", "InternalError"] {
            agent.say(&json!({"type": kind, "content": {"error": "planted\nline"}, "id": 5})).await;
            agent.say(&json!({"type": kind, "id": 5})).await;
        }
        agent.frame(Message::Ping("x".into())).await;
        agent.frame(Message::Pong("y".into())).await;
        agent.frame(Message::binary(vec![0; 10])).await;
        agent.is_served(14).await;
        compute.wait_for_log("could not read our message 5: \"planted\\nline\"").await;
        assert_eq!(metric(&compute, "unreadable_messages_total").await, Some(7.0));
        assert!(shown(&compute).await["agent"].is_object());
        machine.end(compute).await;
    })
    .await;
}

/// 08 W9: answers keep the order of the messages.
#[tokio::test]
async fn answers_keep_the_order() {
    on_one_server(|server| async {
        let mut machine = Machine::new(server).await;
        // Without SQL, which can take so long that a health check overtakes it.
        machine.bed.spec.member("disable_lfc_resizing", json!(true));
        let compute = machine.start().await;
        let mut agent = machine.agent().await;
        agent.is_served(2).await;
        for round in 0..10 {
            let id = 10 + round * 10;
            agent.notify(2000 + round, id).await;
            agent.say(&json!({"type": "HealthCheck", "content": {}, "id": id + 2})).await;
            agent.ask(2000, id + 4).await;
        }
        for round in 0..10 {
            for (more, kind) in
                [(0, "UpscaleConfirmation"), (2, "HealthCheck"), (4, "DownscaleResult")]
            {
                let answer = agent.answer(10 + round * 10 + more).await;
                assert_eq!(answer["type"], kind, "{answer}");
            }
        }
        machine.end(compute).await;
    })
    .await;
}

/// The example in the guide is what happens. `UPDATE_DOCS=1` writes it.
#[tokio::test]
async fn the_transcript_of_the_guide() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let compute = machine.start().await;
        let mut agent = Agent::open(machine.port).await;
        agent.send(r#"{"min":1,"max":1}"#).await;
        agent.hear().await;
        agent.is_served(2).await;
        agent.grow(8192, 4).await;
        until_shown(&compute, "/cgroup/memory_bytes", &json!(300 << 20)).await;
        // The mean alone does not say that there are two samples.
        let kept = agent.transcript.clone();
        agent.shrink_with_samples(3072, 100).await;
        agent.grow(8192, 1000).await;
        agent.transcript = kept;
        let (ok, _) = agent.shrink(3072, 6).await;
        assert!(ok);
        machine.uses(2600);
        assert_eq!(agent.hear().await["type"], "UpscaleRequest");
        machine.uses(800);
        until_shown(&compute, "/cgroup/memory_bytes", &json!(800 << 20)).await;
        let kept = agent.transcript.clone();
        // A second request may have been sent before the use fell.
        agent.is_served(1002).await;
        agent.transcript = kept;
        agent.grow(6144, 8).await;
        let (ok, _) = agent.shrink(1024, 10).await;
        assert!(!ok);
        agent.send("hello").await;
        agent.hear().await;
        machine.end(compute).await;

        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GUIDE);
        let page = std::fs::read_to_string(&path).unwrap();
        let (begin, end) = ("<!-- transcript -->\n```text\n", "```\n<!-- end of transcript -->");
        let (before, rest) = page.split_once(begin).expect("the begin of the transcript");
        let (old, after) = rest.split_once(end).expect("the end of the transcript");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let new = [before, begin, &agent.transcript, end, after].concat();
            std::fs::write(path, new).unwrap();
        } else {
            assert_eq!(old, agent.transcript, "UPDATE_DOCS=1 writes {GUIDE}");
        }
    })
    .await;
}
