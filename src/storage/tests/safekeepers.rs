//! Safekeepers that lie about their answers, and go back in what they answer.

use super::super::safekeepers::{SyncCheck, SyncCheckRequest, check_safekeepers};
use super::super::sync_verdict::Answer;
use super::super::testing::{Act, Server, message, table};
use super::conversation::{Lie, saying, told};
use super::*;
use crate::secret::Secret;

async fn check(ports: impl Iterator<Item = u16>) -> (SyncCheck, Vec<String>) {
    let token = Secret::new("token".to_owned());
    let addresses: Vec<_> = ports.map(|port| format!("127.0.0.1:{port}")).collect();
    let request = SyncCheckRequest {
        safekeepers: &addresses,
        tenant_id: "51b0c7e2a94d4c06b3f7d1e8a2640f9c".parse().unwrap(),
        timeline_id: "e7d25a1c90b84f3fa6120c4b8d93f57e".parse().unwrap(),
        token: Some(&token),
    };
    let check = check_safekeepers(request, PATIENCE, &Metrics::new().unwrap().tries).await;
    (check, addresses)
}

fn answer(flush: &str, commit: &str) -> Vec<u8> {
    table(&["flush_lsn", "commit_lsn"], &[&[Some(flush), Some(commit)]])
}

/// Messages of these bytes.
fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some(length) = bytes.get(1..5) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize + 1;
        messages.push(bytes[..length].to_vec());
        bytes = &bytes[length..];
    }
    messages
}

#[tokio::test]
async fn no_lie_about_a_message_makes_another_lsn() {
    let greeting =
        [message(b'R', &[0; 4]), message(b'S', b"client_encoding\0UTF8\0"), message(b'Z', b"I")];
    let messages = [greeting.to_vec(), split(&answer("0/9", "0/9"))].concat();
    for at in 0..messages.len() {
        for lie in Lie::ALL {
            let Some(bytes) = told(&messages, at, lie) else { continue };
            let (port, _server) = saying(vec![bytes]).await;
            let (check, addresses) = check([port].into_iter()).await;
            let name = format!("{} {lie:?}: {check}", char::from(messages[at][0]));
            match &check {
                SyncCheck::InSync(lsn) => assert_eq!(*lsn, Lsn(9), "{name}"),
                SyncCheck::NoQuorum(_) => assert!(name.contains(&addresses[0]), "{name}"),
                // An answer without a row is not a lie.
                SyncCheck::NotInSync(reports) => {
                    assert_eq!(reports[0].answer, Some(Answer::TimelineUnknown), "{name}");
                    assert_eq!(messages[at][0], b'D', "{name}");
                }
            }
            // Errors, and what is cut before the row is complete, are never an agreement.
            let is_row = messages[at][0] == b'D';
            let is_cut = matches!(lie, Lie::CutHeader | Lie::CutBody | Lie::Error);
            assert!(!(is_row && is_cut && matches!(check, SyncCheck::InSync(_))), "{name}");
        }
    }
}

/// Each safekeeper: its two answers, as flush and commit each.
type Answers = &'static [[(u64, u64); 2]];

/// What was committed once stays so: an earlier LSN needs the full sync, even if all agree.
#[tokio::test]
async fn a_quorum_that_goes_back_is_not_in_sync() {
    let cases: [(Answers, Option<u64>); 7] = [
        (&[[(9, 8), (9, 9)]], Some(9)),
        // Its own rest was never committed, and it may give it up.
        (&[[(9, 8), (8, 8)]], Some(8)),
        (&[[(9, 8), (7, 7)]], None),
        (&[[(9, 8), (0, 0)]], None),
        (&[[(9, 9), (9, 9)], [(8, 8), (9, 9)], [(7, 7), (9, 9)]], Some(9)),
        (&[[(9, 9), (5, 5)], [(8, 8), (5, 5)], [(7, 7), (5, 5)]], None),
        (&[[(9, 9), (8, 8)], [(8, 8), (8, 8)], [(7, 7), (7, 7)]], None),
    ];
    for (answers, expected) in cases {
        let mut servers = Vec::new();
        for both in answers {
            let acts = both.map(|(flush, commit)| {
                Act::Answer(answer(&Lsn(flush).to_string(), &Lsn(commit).to_string()))
            });
            servers.push(Server::start(acts.to_vec()).await);
        }
        let (check, _) = check(servers.iter().map(|server| server.port)).await;
        match expected {
            Some(lsn) => assert_eq!(check, SyncCheck::InSync(Lsn(lsn)), "{answers:?}"),
            None => assert!(matches!(check, SyncCheck::NotInSync(_)), "{answers:?}: {check}"),
        }
    }
}
