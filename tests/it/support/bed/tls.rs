//! Key pairs, the folder they are mounted in, and the certificate that a server presents.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, Stream};
use serde_json::{Value, json};

use crate::support::assertions::PATIENCE;
use crate::support::bed::{Bed, hand_over};
use crate::support::process::Compute;

/// A key and its certificate as PEM texts.
#[derive(Debug, Clone)]
pub struct Pair {
    pub key: String,
    pub cert: String,
}

impl Pair {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        Self { key: key.serialize_pem(), cert: params.self_signed(&key).unwrap().pem() }
    }

    /// The server's own certificate.
    pub fn leaf(&self) -> Vec<u8> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap().to_vec()
    }
}

/// A folder beside PGDATA for `tls.key` and `tls.crt`, neither of which exists at first.
#[derive(Debug)]
pub struct TlsFiles {
    pub dir: PathBuf,
}

impl TlsFiles {
    pub fn new(bed: &Bed) -> Self {
        let dir = bed.dir().join("tls");
        fs::create_dir(&dir).unwrap();
        hand_over(&dir);
        Self { dir }
    }

    /// Writes one file under another name and renames it into place.
    pub fn put(&self, name: &str, text: &str) {
        let temp = self.dir.join("temp");
        fs::write(&temp, text).unwrap();
        hand_over(&temp);
        fs::rename(temp, self.dir.join(name)).unwrap();
    }

    pub fn put_pair(&self, pair: &Pair) {
        self.put("tls.key", &pair.key);
        self.put("tls.crt", &pair.cert);
    }

    /// As Kubernetes mounts secrets: both files are links through `..data`, which is switched.
    pub fn mount(&self, version: &str, pair: &Pair) {
        let folder = self.dir.join(version);
        fs::create_dir(&folder).unwrap();
        hand_over(&folder);
        for (name, text) in [("tls.key", &pair.key), ("tls.crt", &pair.cert)] {
            fs::write(folder.join(name), text).unwrap();
            hand_over(&folder.join(name));
            let link = self.dir.join(name);
            if !link.is_symlink() {
                symlink(format!("..data/{name}"), link).unwrap();
            }
        }
        symlink(version, self.dir.join("..data_tmp")).unwrap();
        fs::rename(self.dir.join("..data_tmp"), self.dir.join("..data")).unwrap();
    }

    /// The whole document, with `tls` in the agent's part.
    pub fn config(&self, bed: &Bed) -> Value {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let mut config = bed.spec.config();
        config["compute_ctl_config"]["tls"] =
            json!({"key_path": path("tls.key"), "cert_path": path("tls.crt")});
        config
    }

    /// Starts a compute on the spec as it is now, with TLS in the agent's configuration.
    pub fn start(&self, bed: &Bed) -> Compute {
        let config = bed.write("config.json", &self.config(bed));
        bed.start_with(&["--compute-id", "c1", "--config", &config.display().to_string()])
    }
}

/// Names of the copies in PGDATA that are there.
pub fn copies(bed: &Bed) -> Vec<&'static str> {
    let there = |name: &&str| bed.pgdata().join(name).exists();
    ["server.key", "server.crt"].into_iter().filter(there).collect()
}

/// Waits until the server presents this certificate to new connections.
pub async fn served(compute: &Compute, bed: &Bed, pair: &Pair) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let port = bed.port;
        let shown = tokio::task::spawn_blocking(move || handshake(port)).await.unwrap();
        if shown.as_deref() == Some(&pair.leaf()) {
            return;
        }
        assert!(Instant::now() < deadline, "shown {shown:?}\n{}", compute.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Requests TLS as `sslmode=require` does, up to the server's answer to the start-up message.
/// Returns its certificate; `None` if the server refuses TLS.
fn handshake(port: u16) -> Option<Vec<u8>> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // SSLRequest: length and code.
    socket.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    let mut answer = [0];
    socket.read_exact(&mut answer).unwrap();
    if answer != *b"S" {
        return None;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = Stream::new(&mut session, &mut socket);
    let parameters = b"user\0cloud_admin\0database\0postgres\0\0";
    let length = u32::try_from(8 + parameters.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes()[..], &[0, 3, 0, 0], parameters].concat()).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"R", "authentication comes first");
    Some(session.peer_certificates().unwrap()[0].to_vec())
}

/// Trusts every certificate; the handshake proves that the server's key fits it, as far as rustls
/// can tell.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 is expected".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if signed.scheme == SignatureScheme::ECDSA_NISTP521_SHA512 {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let provider = rustls::crypto::ring::default_provider();
        let algorithms = provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        let mut schemes = provider.signature_verification_algorithms.supported_schemes();
        schemes.push(SignatureScheme::ECDSA_NISTP521_SHA512);
        schemes
    }
}
