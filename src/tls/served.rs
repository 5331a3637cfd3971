//! Checks which certificate a server shows to its clients (04 W7).
//!
//! Postgres reads key and certificate again at a reload; if it cannot use them, it writes that to
//! its log and keeps the previous ones. The sender of the signal does not learn of it, but a client
//! does. So this module is a client up to the handshake: no user, no password, no query.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use tokio::time::Instant;

/// `SSLRequest` of the protocol: its length, and a code in place of a version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// Pause between two checks: a reload takes the server a moment.
const PAUSE: Duration = Duration::from_millis(20);

/// Certificate that the server at `address` sends in its handshake; `None` if it refuses TLS.
/// Blocks; each read and write takes at most `limit`.
///
/// # Errors
/// The server cannot be reached, or the handshake fails.
fn certificate(address: SocketAddr, limit: Duration) -> io::Result<Option<Vec<u8>>> {
    let mut socket = TcpStream::connect_timeout(&address, limit)?;
    socket.set_read_timeout(Some(limit))?;
    socket.set_write_timeout(Some(limit))?;
    socket.write_all(&SSL_REQUEST)?;
    let mut answer = [0];
    socket.read_exact(&mut answer)?;
    if answer != *b"S" {
        return Ok(None);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Onlooker))
        .with_no_client_auth();
    let name = ServerName::from(address.ip());
    let mut session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    let shown = session.peer_certificates().and_then(<[_]>::first).map(|leaf| leaf.to_vec());
    session.send_close_notify();
    // The server does not need this last message.
    let _ = session.complete_io(&mut socket);
    Ok(shown)
}

/// Accepts every certificate, because it is only examined and no data is sent. The server itself
/// checks that the key matches.
#[derive(Debug)]
struct Onlooker;

impl ServerCertVerifier for Onlooker {
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
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    /// All schemes that a key of Postgres may use, so that no handshake fails for that reason.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        use SignatureScheme::{
            ECDSA_NISTP256_SHA256, ECDSA_NISTP384_SHA384, ECDSA_NISTP521_SHA512, ED448, ED25519,
            RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
            RSA_PSS_SHA512,
        };
        vec![
            ECDSA_NISTP256_SHA256,
            ECDSA_NISTP384_SHA384,
            ECDSA_NISTP521_SHA512,
            ED25519,
            ED448,
            RSA_PSS_SHA256,
            RSA_PSS_SHA384,
            RSA_PSS_SHA512,
            RSA_PKCS1_SHA256,
            RSA_PKCS1_SHA384,
            RSA_PKCS1_SHA512,
        ]
    }
}

/// Result of the check.
#[derive(Debug)]
pub(crate) enum Served {
    /// The expected certificate.
    Wanted,
    /// Another certificate, or none, until the deadline.
    Other(Option<Vec<u8>>),
    /// The server could not be checked.
    Unknown(io::Error),
}

/// Checks until the server shows the certificate `leaf`, for at most `limit`.
pub(crate) async fn wait_for(address: SocketAddr, leaf: &[u8], limit: Duration) -> Served {
    let deadline = Instant::now() + limit;
    loop {
        // `limit` bounds the blocking task, which ends by itself after a drop.
        let look = tokio::task::spawn_blocking(move || certificate(address, limit)).await;
        let shown = look.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Ok(Some(shown)) = &shown
            && shown == leaf
        {
            return Served::Wanted;
        }
        if Instant::now() + PAUSE >= deadline {
            return match shown {
                Ok(shown) => Served::Other(shown),
                Err(error) => Served::Unknown(error),
            };
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;
    use crate::tls::testing::{Texts, new_pair};

    const LIMIT: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(200);

    fn leaf(texts: &Texts) -> Vec<u8> {
        CertificateDer::from_pem_slice(texts.cert.as_bytes()).unwrap().to_vec()
    }

    /// Answers one client after the other with the given pair, or without TLS.
    fn serve(answers: Vec<Option<Texts>>) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut socket, _) = listener.accept().unwrap();
                let mut request = [0; 8];
                socket.read_exact(&mut request).unwrap();
                assert_eq!(request, SSL_REQUEST);
                let Some(texts) = answer else {
                    socket.write_all(b"N").unwrap();
                    continue;
                };
                socket.write_all(b"S").unwrap();
                let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_no_client_auth()
                    .with_single_cert(
                        vec![leaf(&texts).into()],
                        PrivateKeyDer::from_pem_slice(texts.key.as_bytes()).unwrap(),
                    )
                    .unwrap();
                let mut session = ServerConnection::new(Arc::new(config)).unwrap();
                let _ = session.complete_io(&mut socket);
            }
        });
        address
    }

    #[tokio::test]
    async fn the_new_certificate_is_waited_for() {
        let (old, new) = (new_pair(), new_pair());
        let address = serve(vec![None, Some(old), Some(new.clone())]);
        let served = wait_for(address, &leaf(&new), LIMIT).await;
        assert!(matches!(served, Served::Wanted), "{served:?}");
    }

    #[tokio::test]
    async fn another_one_and_none_and_no_server_are_told_apart() {
        let (old, new) = (new_pair(), new_pair());
        for answer in [None, Some(old)] {
            let address = serve(vec![answer.clone(); 1000]);
            let Served::Other(shown) = wait_for(address, &leaf(&new), SHORT).await else {
                panic!("it shows neither");
            };
            assert_eq!(shown, answer.as_ref().map(leaf));
        }
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let served = wait_for(gone, &leaf(&new), SHORT).await;
        assert!(matches!(served, Served::Unknown(_)), "{served:?}");
    }
}
