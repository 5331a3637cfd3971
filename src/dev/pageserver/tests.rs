use std::io::Write;
use std::pin::pin;

use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::StreamExt;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::*;

const BACKUP: &str = "basebackup 51b0c7e2a94d4c06b3f7d1e8a2640f9c \
                      e7d25a1c90b84f3fa6120c4b8d93f57e 0/2A3B4C8 --gzip";

/// Plain content, and a server of its gzip form.
async fn start() -> (tempfile::TempDir, Vec<u8>, StandInPageserver) {
    let dir = tempfile::tempdir().unwrap();
    let plain: Vec<u8> = (0..400_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&plain).unwrap();
    let archive = dir.path().join("base.tar.gz");
    std::fs::write(&archive, packer.finish().unwrap()).unwrap();
    let options = PageserverOptions { archive, ..Default::default() };
    let server = StandInPageserver::start(options).await.unwrap();
    (dir, plain, server)
}

async fn client(server: &StandInPageserver) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&server.connstring(), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Returns the received payload and the end of the stream.
async fn fetch(
    server: &StandInPageserver,
    command: &str,
) -> (Vec<u8>, Result<(), tokio_postgres::Error>) {
    let mut payload = Vec::new();
    let client = match client(server).await {
        Ok(client) => client,
        Err(error) => return (payload, Err(error)),
    };
    let mut stream = match client.copy_out(command).await {
        Ok(stream) => pin!(stream),
        Err(error) => return (payload, Err(error)),
    };
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => payload.extend(&chunk),
            Err(error) => return (payload, Err(error)),
        }
    }
    (payload, Ok(()))
}

fn message(result: Result<(), tokio_postgres::Error>) -> String {
    result.unwrap_err().as_db_error().unwrap().message().to_owned()
}

#[tokio::test]
async fn serves_the_archive_packed_and_plain() {
    let (dir, plain, server) = start().await;
    let packed = std::fs::read(dir.path().join("base.tar.gz")).unwrap();
    let (payload, end) = fetch(&server, BACKUP).await;
    end.unwrap();
    assert!(payload == packed);
    let (payload, end) = fetch(&server, BACKUP.trim_end_matches(" --gzip")).await;
    end.unwrap();
    assert!(payload == plain);
    assert_eq!(server.journal().commands().len(), 2);
    assert_eq!(server.journal().connections(), 2);

    let other = dir.path().join("other");
    std::fs::write(&other, "short").unwrap();
    server.set_archive(&other);
    assert_eq!(fetch(&server, BACKUP).await.0, b"short");
    // A broken archive is an error, not an end of stream.
    let (_, end) = fetch(&server, BACKUP.trim_end_matches(" --gzip")).await;
    assert!(message(end).starts_with("cannot read the archive"));
    server.set_archive(&dir.path().join("none"));
    assert!(message(fetch(&server, BACKUP).await.1).starts_with("Not found"));
    server.shutdown().await;
}

#[tokio::test]
async fn faults_in_the_stream() {
    let (dir, _plain, server) = start().await;
    let packed = std::fs::read(dir.path().join("base.tar.gz")).unwrap();
    let text = || "storage says no".to_owned();
    let half = packed.len() / 2;
    // Fault, number of bytes that arrive, and whether the server sends an error.
    let cases = [
        (Fault::Error(text()), 0, true),
        (Fault::ErrorAfter(half as u64, text()), half, true),
        (Fault::ErrorAfterArchive(text()), packed.len(), true),
        (Fault::DropAfter(half as u64), half, false),
        (Fault::DropAfter(0), 0, false),
    ];
    for (fault, bytes, says) in cases {
        server.set_fault(fault.clone(), Some(1));
        let (payload, end) = fetch(&server, BACKUP).await;
        assert_eq!(payload.len(), bytes, "{fault:?}");
        match says {
            true => assert_eq!(message(end), text(), "{fault:?}"),
            false => assert!(end.unwrap_err().as_db_error().is_none(), "{fault:?}"),
        }
        assert!(fetch(&server, BACKUP).await.1.is_ok(), "{fault:?} only once");
    }
    // These look like a success in the protocol; only the payload is wrong.
    let cases = [(Fault::Empty, 0), (Fault::Truncated(100_000), 100_000)];
    for (fault, bytes) in cases {
        server.set_fault(fault.clone(), None);
        let (payload, end) = fetch(&server, BACKUP).await;
        end.unwrap();
        assert!(payload == packed[..bytes], "{fault:?}");
    }
    server.set_fault(Fault::Garbage, None);
    let (payload, end) = fetch(&server, BACKUP).await;
    end.unwrap();
    assert!(!payload.is_empty() && !payload.starts_with(&[0x1f, 0x8b]));
}

#[tokio::test]
async fn an_error_after_copy_done_is_sent() {
    let (_dir, _plain, server) = start().await;
    server.set_fault(Fault::ErrorAfterCopyDone("too late".to_owned()), None);
    // This client stops reading at CopyDone, so the test checks the bytes themselves.
    let mut stream = raw(&server).await;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut query = vec![b'Q'];
    query.extend((BACKUP.len() as u32 + 5).to_be_bytes());
    query.extend(BACKUP.as_bytes());
    query.extend([0, b'X', 0, 0, 0, 4]);
    stream.write_all(&query).await.unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await.unwrap();
    let end = b"c\0\0\0\x04E\0\0\0\x1dSERROR\0CXX000\0Mtoo late\0\0Z\0\0\0\x05I";
    assert!(back.ends_with(end), "{:?}", String::from_utf8_lossy(&back[back.len() - 60..]));
}

async fn raw(server: &StandInPageserver) -> tokio::net::TcpStream {
    use tokio::io::AsyncWriteExt;
    let address = ("127.0.0.1", server.port());
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"\0\0\0\x09\0\x03\0\0\0").await.unwrap();
    stream
}

#[tokio::test]
async fn a_stall_lasts_until_the_client_or_the_server_goes() {
    let (_dir, _plain, server) = start().await;
    server.set_fault(Fault::StallAfter(1000), Some(1));
    let first = client(&server).await.unwrap();
    let mut stream = pin!(first.copy_out(BACKUP).await.unwrap());
    assert_eq!(stream.next().await.unwrap().unwrap().len(), 1000);
    // The second attempt is served while the first hangs.
    fetch(&server, BACKUP).await.1.unwrap();
    server.set_fault(Fault::Silence, None);
    let third = client(&server).await.unwrap();
    let ask = third.copy_out(BACKUP);
    let ((), answer) = tokio::join!(server.shutdown(), ask);
    assert!(answer.is_err());
    assert!(stream.next().await.unwrap().is_err());
}

#[tokio::test]
async fn refusals_count_connections_and_errors_count_commands() {
    let (_dir, _plain, server) = start().await;
    server.set_fault(Fault::Refuse, Some(2));
    server.then_fault(Fault::Error("later".to_owned()), Some(1));
    assert!(client(&server).await.is_err());
    assert!(client(&server).await.is_err());
    let leaseholder = client(&server).await.unwrap();
    leaseholder.simple_query("set datestyle to iso").await.unwrap();
    assert_eq!(message(fetch(&server, BACKUP).await.1), "later");
    fetch(&server, BACKUP).await.1.unwrap();
    assert_eq!(server.journal().connections(), 5);
}

#[tokio::test]
async fn leases() {
    let (_dir, _plain, server) = start().await;
    let client = client(&server).await.unwrap();
    let command = BACKUP.replace("basebackup", "lease lsn").replace("--gzip", "");
    let ask = async || {
        let items = client.simple_query(&command).await?;
        Ok::<_, tokio_postgres::Error>(items.into_iter().find_map(|item| match item {
            SimpleQueryMessage::Row(row) => Some(row.get("valid_until").map(str::to_owned)),
            _ => None,
        }))
    };
    let until: u128 = ask().await.unwrap().unwrap().unwrap().parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    assert!((500_000..=600_000).contains(&(until - now)));
    server.behave(|behaviour| behaviour.lease = LeaseAnswer::Text(None));
    assert_eq!(ask().await.unwrap(), Some(None));
    server.behave(|behaviour| behaviour.lease = LeaseAnswer::NoRow);
    assert_eq!(ask().await.unwrap(), None);
    server.behave(|behaviour| behaviour.lease = LeaseAnswer::Error("x".to_owned()));
    assert!(ask().await.is_err());
}

#[tokio::test]
async fn secrets_are_not_printed() {
    let password = Some("hunter2".to_owned());
    let options = PageserverOptions { password, ..Default::default() };
    assert!(!format!("{options:?}").contains("hunter2"));
    let server = StandInPageserver::start(options).await.unwrap();
    assert!(!format!("{server:?}").contains("hunter2"));
}

#[tokio::test]
async fn after_a_shutdown_both_ports_are_free() {
    let server = StandInPageserver::start(PageserverOptions::default()).await.unwrap();
    let ports = [server.port(), server.grpc_port()];
    server.shutdown().await;
    for port in ports {
        std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    }
}
