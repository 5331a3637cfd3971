//! A pageserver that lies over libpq.

use super::super::errors::ErrorClass;
use super::super::testing::message;
use super::conversation::{Lie, saying, told};
use super::*;
use crate::secret::Secret;
use crate::spec::ComputeMode;
use crate::spec::pageserver::PageserverConnectionInfo;

/// The messages of a base backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    AskPassword,
    AuthenticationOk,
    ParameterStatus,
    BackendKeyData,
    ReadyForQuery,
    Notice,
    CopyOut,
    FirstData,
    SecondData,
    CopyDone,
    CommandComplete,
    LastReadyForQuery,
}

fn conversation() -> Vec<(Kind, Vec<u8>)> {
    let archive = archive();
    let (first, second) = archive.split_at(archive.len() / 2);
    vec![
        (Kind::AskPassword, message(b'R', &[0, 0, 0, 3])),
        (Kind::AuthenticationOk, message(b'R', &[0, 0, 0, 0])),
        (Kind::ParameterStatus, message(b'S', b"client_encoding\0UTF8\0")),
        (Kind::BackendKeyData, message(b'K', &[1; 8])),
        (Kind::ReadyForQuery, message(b'Z', b"I")),
        (Kind::Notice, message(b'N', b"SNOTICE\0Mbusy\0\0")),
        (Kind::CopyOut, message(b'H', &[0, 0, 0])),
        (Kind::FirstData, message(b'd', first)),
        (Kind::SecondData, message(b'd', second)),
        (Kind::CopyDone, message(b'c', b"")),
        (Kind::CommandComplete, message(b'C', b"SELECT 1\0")),
        (Kind::LastReadyForQuery, message(b'Z', b"I")),
    ]
}

/// Lies about what has no part in the archive and its end.
fn is_harmless(kind: Kind, lie: Lie) -> bool {
    match kind {
        // Everything was said before.
        Kind::LastReadyForQuery => true,
        Kind::CommandComplete => {
            matches!(lie, Lie::Twice | Lie::Short | Lie::Long | Lie::Swallows)
        }
        // A server need not ask, and may ask again.
        Kind::AskPassword => matches!(lie, Lie::Missing | Lie::Twice),
        // What follows each of these three may come at any time.
        Kind::AuthenticationOk | Kind::ReadyForQuery => lie == Lie::Swapped,
        Kind::ParameterStatus => {
            matches!(lie, Lie::Missing | Lie::Twice | Lie::Swapped | Lie::Swallows)
        }
        Kind::BackendKeyData => matches!(lie, Lie::Missing | Lie::Twice),
        Kind::Notice => matches!(lie, Lie::Missing | Lie::Twice | Lie::Swapped),
        Kind::CopyOut | Kind::FirstData | Kind::SecondData | Kind::CopyDone => false,
    }
}

#[tokio::test]
async fn every_lie_about_every_message_is_noticed_or_harmless() {
    let (kinds, messages): (Vec<_>, Vec<_>) = conversation().into_iter().unzip();
    let token = Secret::new("planted-token".to_owned());
    for (at, kind) in kinds.into_iter().enumerate() {
        for lie in Lie::ALL {
            let Some(bytes) = told(&messages, at, lie) else { continue };
            let (port, _server) = saying(vec![bytes.clone(), bytes, messages.concat()]).await;
            let url = format!("postgresql://no_user@127.0.0.1:{port}");
            let info = PageserverConnectionInfo::from_connstring(&url, None).unwrap();
            let target = PageserverTarget::new(&info, Some(&token), ComputeMode::Primary).unwrap();

            let (outcome, files) = fetch(&target, 0).await;
            match outcome {
                Ok(_) => {
                    assert!(is_harmless(kind, lie), "{kind:?} {lie:?} is not noticed");
                    assert_eq!(files, good_files(), "{kind:?} {lie:?}");
                }
                Err(error) => {
                    assert!(!is_harmless(kind, lie), "{kind:?} {lie:?}: {error}");
                    assert_eq!(error.error.class(), ErrorClass::Transient, "{kind:?} {lie:?}");
                    let text = error.to_string();
                    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
                    assert!(lie != Lie::Error || text.contains("a lie"), "{text}");
                    assert!(!text.contains("planted"), "{text}");
                }
            }
            // The second client hears the lie as well, the third one does not.
            let (outcome, files) = fetch(&target, 1).await;
            outcome.unwrap_or_else(|error| panic!("{kind:?} {lie:?}: {error}"));
            assert_eq!(files, good_files(), "{kind:?} {lie:?}");
        }
    }
}
