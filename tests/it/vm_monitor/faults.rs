//! Agents that misbehave: none ends the process, and the next one is served (08 W1 to W3).

use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::agent::{Agent, Gone, upscale};
use super::machine::{Machine, metric};
use crate::support::server::on_one_server;

#[tokio::test]
async fn frames_that_are_too_large_or_broken() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let compute = machine.start().await;
        for size in [65_537, 1 << 20, 20 << 20] {
            let mut agent = machine.agent().await;
            // Sending may fail: the connection ends at the head of the frame.
            let _ = agent.socket.send(Message::text("x".repeat(size))).await;
            assert_ne!(agent.gone().await, Gone::Closed);
        }
        // The largest message that is read, and one in two frames.
        let mut agent = machine.agent().await;
        agent.frame(Message::text("x".repeat(65_536))).await;
        assert_eq!(agent.answer(0).await["type"], "InvalidMessage");
        let text = json!({"type": "HealthCheck", "content": {}, "id": 2}).to_string();
        let (head, tail) = text.split_at(9);
        let part = |text: &str, kind, last| {
            Message::Frame(Frame::message(text.to_owned(), OpCode::Data(kind), last))
        };
        agent.frame(part(head, Data::Text, false)).await;
        agent.frame(part(tail, Data::Continue, true)).await;
        assert_eq!(agent.answer(2).await["type"], "HealthCheck");

        // A frame that is not one: a reserved code.
        use tokio::io::AsyncWriteExt as _;
        agent.socket.get_mut().write_all(&[0x83, 0x80, 1, 2, 3, 4]).await.unwrap();
        assert_ne!(agent.gone().await, Gone::Closed);
        // Text that is not UTF-8.
        let mut agent = machine.agent().await;
        let frame = Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true);
        agent.frame(Message::Frame(frame)).await;
        assert_ne!(agent.gone().await, Gone::Closed);
        machine.agent().await.is_served(2).await;
        machine.end(compute).await;
    })
    .await;
}

/// Messages, pings and other frames without a pause, all answered, and a log that does not grow
/// with them.
#[tokio::test]
async fn floods() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let mut compute = machine.start().await;
        let mut agent = machine.agent().await;
        agent.is_served(2).await;
        let (log, memory) = (compute.log().len(), resident(compute.pid()));
        for _ in 0..10_000 {
            agent.socket.feed(Message::Ping("x".into())).await.unwrap();
        }
        agent.is_served(4).await;
        for group in 0..100 {
            for n in 0..100 {
                let id = 1000 + group * 100 + n;
                let message = json!({"type": "HealthCheck", "content": {}, "id": id});
                agent.socket.feed(Message::text(message.to_string())).await.unwrap();
            }
            agent.socket.flush().await.unwrap();
            for n in 0..100 {
                assert_eq!(agent.hear().await["id"], 1000 + group * 100 + n);
            }
        }
        for n in 0..1000 {
            agent.frame(Message::binary(vec![0; 100])).await;
            agent.send("{}").await;
            assert_eq!(agent.hear().await["type"], "InvalidMessage", "{n}");
        }
        agent.is_served(6).await;
        assert_eq!(metric(&compute, "unreadable_messages_total").await, Some(1000.0));
        let warnings = compute.settled_log().await.matches(" WARN ").count();
        assert!(warnings < 20, "{warnings} warnings, {log}");
        let grown = resident(compute.pid()).saturating_sub(memory);
        assert!(grown < 8 << 10, "{grown} KiB more");
        assert!(compute.is_alive());
        machine.end(compute).await;
    })
    .await;
}

/// Resident memory in KiB.
fn resident(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap()
}

/// 10,000 requests for work in a row, and an agent that leaves in the middle of them.
#[tokio::test]
async fn ten_thousand_messages_and_a_close_in_the_middle() {
    on_one_server(|server| async {
        let mut machine = Machine::new(server).await;
        machine.bed.spec.member("disable_lfc_resizing", json!(true));
        let compute = machine.start().await;
        let mut agent = machine.agent().await;
        for group in 0..100_u64 {
            for n in 0..100 {
                let id = group * 100 + n;
                agent.socket.feed(Message::text(upscale(4096 + n, id))).await.unwrap();
            }
            agent.socket.flush().await.unwrap();
            for n in 0..100 {
                let confirmed: Value = agent.hear().await;
                assert_eq!(
                    confirmed,
                    json!({"type": "UpscaleConfirmation", "id": group * 100 + n})
                );
            }
        }
        for id in 0..1000 {
            agent.socket.feed(Message::text(upscale(4096, id))).await.unwrap();
        }
        drop(agent);
        let mut agent = Agent::connect(machine.port).await;
        agent.is_served(2).await;
        // A close in the middle of a frame.
        use tokio::io::AsyncWriteExt as _;
        agent.socket.get_mut().write_all(&[0x81, 0xfe, 0x10]).await.unwrap();
        drop(agent);
        let mut agent = machine.agent().await;
        agent.grow(4096, 2).await;
        machine.end(compute).await;
    })
    .await;
}
