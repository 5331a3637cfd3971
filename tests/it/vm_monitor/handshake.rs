//! The route and the handshake (08 §2, §3, §11.2 cases 2 to 7).

use futures_util::SinkExt as _;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::agent::{Agent, Gone};
use super::machine::{Machine, limit, shown};
use crate::support::server::on_one_server;

#[tokio::test]
async fn only_a_websocket_at_monitor() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let compute = machine.start().await;
        let url = |path: &str| format!("http://127.0.0.1:{}{path}", machine.port);
        let answer = compute.http.get(url("/")).send().await.unwrap();
        assert_eq!(answer.status(), 404);
        assert_eq!(answer.text().await.unwrap(), "");
        let answer = compute.http.post(url("/monitor")).send().await.unwrap();
        assert_eq!(answer.status(), 405);
        assert_eq!(answer.headers()["allow"], "GET,HEAD");
        let mut agent = machine.agent().await;
        let answer = compute.http.get(url("/monitor")).send().await.unwrap();
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.text().await.unwrap(), "Connection header did not include 'upgrade'");
        let get = compute.http.get(url("/monitor"));
        let get = get.header("connection", "upgrade").header("upgrade", "websocket");
        let answer = get.header("sec-websocket-version", "12").send().await.unwrap();
        assert_eq!(answer.status(), 400);
        // What is refused does not disturb the agent.
        agent.is_served(2).await;
        machine.end(compute).await;
    })
    .await;
}

#[tokio::test]
async fn versions_are_agreed_upon_or_refused() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let compute = machine.start().await;
        for range in [json!({"min": 1, "max": 1}), json!({"max": 7, "min": 1, "x": 2})] {
            let mut agent = Agent::open(machine.port).await;
            agent.say(&range).await;
            assert_eq!(agent.hear().await, json!({"version": 1}));
            agent.is_served(2).await;
        }
        for (min, max, shown) in [
            (0, 0, "<invalid: zero>"),
            (2, 2, "<unknown: 2>"),
            (2, 3, "<unknown: 2> to <unknown: 3>"),
            (200, 255, "<unknown: 200> to <unknown: 255>"),
        ] {
            let mut agent = Agent::open(machine.port).await;
            agent.say(&json!({"min": min, "max": max})).await;
            let error =
                format!("Received protocol version range {shown} which does not overlap with v1.0");
            assert_eq!(agent.hear().await, json!({ "error": error }));
            assert_eq!(agent.gone().await, Gone::Dropped);
        }
        let first = [
            Message::text(r#"{"min":3,"max":1}"#),
            Message::text(r#"{"min":1,"max":256}"#),
            Message::text("[]"),
            Message::text("nope"),
            Message::binary(&b"{\"min\":1,\"max\":1}"[..]),
            Message::Ping("x".into()),
        ];
        for message in first {
            let mut agent = Agent::open(machine.port).await;
            // The connection may end before the frame is sent as a whole.
            let _ = agent.socket.send(message.clone()).await;
            assert_eq!(agent.next().await, Err(Gone::Dropped), "{message:?}");
        }
        machine.agent().await.is_served(4).await;
        machine.end(compute).await;
    })
    .await;
}

/// Silence, and an agent that begins only the upgrade.
#[tokio::test]
async fn a_handshake_has_a_limit() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let compute = machine.start().await;
        let began = std::time::Instant::now();
        let mut silent = Agent::open(machine.port).await;
        assert_eq!(silent.gone().await, Gone::Dropped);
        assert!(began.elapsed().as_secs_f64() > 3.9, "{:?}", began.elapsed());
        compute.wait_for_log("the handshake took longer than 4s").await;
        assert_eq!(shown(&compute).await["agent"], json!(null));

        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut half = tokio::net::TcpStream::connect(("127.0.0.1", machine.port)).await.unwrap();
        half.write_all(b"GET /monitor HTTP/1.1\r\nHost: x\r\nUpgrade: webso").await.unwrap();
        machine.agent().await.is_served(2).await;
        let mut rest = Vec::new();
        // Its time for the headers ends.
        half.read_to_end(&mut rest).await.unwrap();
        machine.end(compute).await;
    })
    .await;
}

/// 08 §4.1: the cache gets its size from the memory of the machine.
#[tokio::test]
async fn the_set_up_sizes_the_cache() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let compute = machine.start().await;
        assert_eq!(limit(&compute).await, "128MB");
        assert_eq!(shown(&compute).await["threshold_bytes"], json!(null));
        let mut agent = machine.agent().await;
        agent.is_served(2).await;
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
        let kib: u64 = meminfo.split_whitespace().nth(1).unwrap().parse().unwrap();
        let total = kib * 1024;
        let by_growth = (total.saturating_sub(256 << 20) as f64 / 1.1) as u64;
        let size = by_growth.min((total as f64 * 0.75) as u64) >> 20;
        assert_eq!(limit(&compute).await, size.min(8192).to_string());
        let seen = shown(&compute).await;
        assert_eq!(seen["threshold_bytes"], json!((total as f64 * 0.85) as u64));
        assert_eq!(seen["file_cache"]["wanted_bytes"], json!(size << 20));
        assert_eq!(seen["file_cache"]["bytes"], json!(size.min(8192) << 20));
        assert_eq!(seen["address"], json!(format!("127.0.0.1:{}", machine.port)));
        assert!(seen["agent"]["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{seen}");
        machine.end(compute).await;
    })
    .await;
}
