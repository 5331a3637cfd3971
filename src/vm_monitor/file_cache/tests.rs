//! The table of 08 §5.1, and a Postgres that does not answer.

use proptest::prelude::*;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::*;

#[test]
fn sizes() {
    for (total, expected) in [
        (0, 0),
        (100, 0),
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
        (2972, 2229),
        (3996, 2997),
        (4096, 3072),
        (6044, 4533),
        (8092, 6069),
        (16284, 12213),
    ] {
        assert_eq!(size(total * MIB), expected * MIB, "{total} MiB");
    }
}

proptest! {
    #[test]
    fn sizes_are_whole_and_leave_room(total: u64) {
        let size = size(total);
        prop_assert_eq!(size % MIB, 0);
        prop_assert!(size <= total / 4 * 3 + 3 || total > 1 << 50);
        prop_assert!(size == 0 || total - size >= 256 * MIB);
    }

    #[test]
    fn sizes_grow_with_the_memory(total in 0..1_u64 << 50, more in 0..1_u64 << 40) {
        prop_assert!(size(total) <= size(total + more));
    }
}

#[test]
fn both_forms_of_the_setting() {
    let present = |text: &str, bytes| Present { text: text.to_owned(), bytes };
    // A placeholder keeps the text, and a defined setting has a unit.
    assert!(present("607", Some(607)).is(607));
    assert!(present("2GB", Some(2048 * MIB)).is(2048));
    assert!(present("0", Some(0)).is(0));
    assert!(!present("128MB", Some(128 * MIB)).is(607));
}

fn cache(connstr: &str, change: Duration) -> FileCache {
    let limits = FileCacheLimits { change, ..FileCacheLimits::default() };
    FileCache::new(&Secret::new(connstr.to_owned()), PgVersion::V17, limits)
}

#[tokio::test]
async fn an_unusable_connection_string_is_not_repeated() {
    for connstr in ["planted", "host=localhost password='planted", "plantedoption=1"] {
        let error = cache(connstr, Duration::from_secs(9)).set(MIB, true).await.unwrap_err();
        assert_eq!(error, CacheError::BadConnstr, "{connstr}");
        assert!(!error.to_string().contains("planted"));
    }
}

/// A server that accepts a connection and is silent.
#[tokio::test]
async fn a_silent_server_meets_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connstr = format!("host=127.0.0.1 port={port} user=u dbname=d password=planted");
    let limit = Duration::from_millis(50);
    let mut cache = cache(&connstr, limit);
    let error = cache.set(MIB, true).await.unwrap_err();
    assert_eq!(error, CacheError::Deadline { limit, doing: "connecting" });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut seen = Vec::new();
    // The session was dropped, so this ends.
    stream.read_to_end(&mut seen).await.unwrap();
    assert!(!format!("{cache:?} {error}").contains("planted"));
}

/// The first failure of a connection is repeated once, and not more often.
#[tokio::test]
async fn a_refused_connection_is_tried_twice() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut cache = cache(&format!("host=127.0.0.1 port={port} user=u"), Duration::from_secs(60));
    let set = tokio::spawn(async move { cache.set(MIB, true).await.unwrap_err() });
    for _ in 0..2 {
        drop(listener.accept().await.unwrap());
    }
    let error = set.await.unwrap();
    assert!(matches!(error, CacheError::Sql(SessionError::Connect(_))), "{error}");
}
