//! Connections through TLS, over real sockets.

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;

use super::*;
use crate::server::ServerLimits;
use crate::server::tests::{PATIENCE, Server};

/// A server with TLS, and what its clients trust.
struct Door {
    server: Server,
    client: TlsConnector,
    _configs: watch::Sender<Arc<ServerConfig>>,
}

impl Door {
    fn open(limits: ServerLimits) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let cert = CertificateDer::from(cert.self_signed(&key).unwrap());
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![cert.clone()], key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert).unwrap();
        let client = ClientConfig::builder_with_provider(provider);
        let client = client.with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let (sender, configs) = watch::channel(Arc::new(config));
        let server = Server::start_with(limits, Some(&configs));
        Self { server, client: TlsConnector::from(Arc::new(client)), _configs: sender }
    }

    async fn connect(&self) -> ClientStream<TcpStream> {
        let socket = self.server.connect().await;
        let name = ServerName::try_from("localhost").unwrap();
        timeout(PATIENCE, self.client.connect(name, socket)).await.unwrap().unwrap()
    }

    async fn says_hello(&self) {
        let mut stream = self.connect().await;
        let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    }
}

async fn ends(mut stream: TcpStream) {
    // An end, or a reset.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.unwrap();
}

#[tokio::test]
async fn stalled_handshakes_displace_each_other() {
    let door = Door::open(ServerLimits { connections: 2, ..ServerLimits::default() });
    let mut stalled = Vec::new();
    for _ in 0..5 {
        stalled.push(door.server.connect().await);
        door.says_hello().await;
    }
    // There is room for one of them.
    for stream in stalled.drain(..4) {
        ends(stream).await;
    }
}

/// The limit of a head is far longer.
#[tokio::test]
async fn a_handshake_has_its_own_limit() {
    let handshake = Duration::from_millis(50);
    let door = Door::open(ServerLimits { handshake, ..ServerLimits::default() });
    ends(door.server.connect().await).await;
    let mut half = door.server.connect().await;
    half.write_all(b"\x16\x03\x01\x02\x00").await.unwrap();
    ends(half).await;
}

/// The client has sent more than the server reads, and still gets the alert.
#[tokio::test]
async fn plain_http_gets_an_alert() {
    let door = Door::open(ServerLimits::default());
    let mut stream = door.server.connect().await;
    stream
        .write_all(format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(20_000)).as_bytes())
        .await
        .unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer.first(), Some(&21), "an alert: {answer:?}");
}

#[tokio::test]
async fn an_upgraded_connection_through_tls() {
    let door = Door::open(ServerLimits::default());
    let mut stream = door.connect().await;
    let head = "GET /echo HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{answer:?}");
    // More than the buffers hold.
    let bytes = vec![b'x'; 1 << 20];
    let (mut from, mut to) = tokio::io::split(stream);
    let mut read = vec![0; bytes.len()];
    let both = async { tokio::join!(to.write_all(&bytes), from.read_exact(&mut read)) };
    let (written, got) = timeout(PATIENCE, both).await.unwrap();
    written.unwrap();
    got.unwrap();
    assert_eq!(read, bytes);
    timeout(PATIENCE, door.server.tasks.shutdown(10 * PATIENCE)).await.unwrap();
    ends_of(&mut from).await;
}

async fn ends_of(stream: &mut (impl AsyncRead + Unpin)) {
    let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.unwrap();
}

/// The shutdown does not wait for them.
#[tokio::test]
async fn handshakes_end_with_the_server() {
    let door = Door::open(ServerLimits::default());
    let stalled = door.server.connect().await;
    door.says_hello().await;
    timeout(PATIENCE, door.server.tasks.shutdown(10 * PATIENCE)).await.unwrap();
    ends(stalled).await;
}

#[test]
fn reasons() {
    let of = |error| reason(&io::Error::new(io::ErrorKind::InvalidData, error));
    let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
    assert!(of(plain).contains("plain HTTP"));
    assert!(of(rustls::Error::NoCertificatesPresented).contains("no certificate"));
    assert_eq!(of(rustls::Error::DecryptError), "cannot decrypt peer's message");
}
