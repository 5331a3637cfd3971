//! The private key that signs tokens, in a file.

use std::path::Path;

use anyhow::{Context, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::rsa::PublicKeyComponents;
use ring::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::cli::Algorithm;
use crate::secret::Secret;

/// What stands before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410 §7). The form that ring
/// writes has the public key, too, which OpenSSL cannot read.
const PKCS8_OF_ED25519: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A key that signs tokens.
pub(super) enum SigningKey {
    /// For `EdDSA`.
    Ed25519(Ed25519KeyPair),
    /// For `RS256`.
    Rsa(Box<RsaKeyPair>),
}

impl SigningKey {
    /// A new Ed25519 key, and its file.
    pub(super) fn generate() -> anyhow::Result<(Self, Secret<String>)> {
        let mut seed = [0; 32];
        let random = SystemRandom::new();
        random.fill(&mut seed).map_err(|_| anyhow!("the system gives no random numbers"))?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
            .map_err(|error| anyhow!("could not make a key: {error}"))?;
        let der = [PKCS8_OF_ED25519.as_slice(), &seed].concat();
        let text = STANDARD.encode(der);
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        Ok((Self::Ed25519(pair), Secret::new(pem)))
    }

    /// Reads a key of Ed25519 or RSA. An error does not show the text.
    pub(super) fn read(pem: &[u8], path: &Path) -> anyhow::Result<Self> {
        let unusable = || {
            format!(
                "{} cannot be used: a private key of Ed25519, or of RSA with 2048 to 4096 bits, is \
                 needed, as PEM without a password",
                path.display()
            )
        };
        let der = PrivateKeyDer::from_pem_slice(pem).with_context(unusable)?;
        let rsa = match &der {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
                    return Ok(Self::Ed25519(pair));
                }
                RsaKeyPair::from_pkcs8(der)
            }
            _ => return Err(anyhow!(unusable())),
        };
        let rsa = rsa.map_err(|error| anyhow!("{error}")).with_context(unusable)?;
        Ok(Self::Rsa(Box::new(rsa)))
    }

    /// The public key, as an entry of `compute_ctl_config.jwks.keys`.
    pub(super) fn public(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ed25519(pair) => json!({
                "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
                "x": text(pair.public_key().as_ref())
            }),
            Self::Rsa(pair) => {
                let public: PublicKeyComponents<Vec<u8>> = pair.public_key().into();
                json!({
                    "kty": "RSA", "use": "sig", "alg": "RS256",
                    "n": text(&public.n), "e": text(&public.e)
                })
            }
        }
    }

    /// How it signs.
    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ed25519(_) => Algorithm::EdDsa,
            Self::Rsa(_) => Algorithm::Rs256,
        }
    }

    /// A token with these claims.
    pub(super) fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let algorithm = self.algorithm().name();
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": algorithm, "typ": "JWT"});
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = match self {
            Self::Ed25519(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let random = SystemRandom::new();
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature)
                    .map_err(|_| anyhow!("the key cannot sign"))?;
                signature
            }
        };
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
