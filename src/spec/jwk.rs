//! The shape of a JSON web key (02 §4.2).
//!
//! `jsonwebtoken` takes an unknown `kty`, `crv` or `alg`, or a key without its members, as a key of
//! another kind. A control plane that sends such a key would hear nothing, and the key would
//! accept no token. So the shape is checked here, where the error has the path of the member (02 R9).
//! Whether a well-formed key can be used is decided where tokens are verified.

use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters, Jwk,
    KeyAlgorithm, KeyOperations, OctetKeyPairParameters, OctetKeyParameters, PublicKeyUse,
    RSAKeyParameters,
};
use serde::de::{Deserialize, Deserializer, Error};

/// `kty`; decides which other members are required.
#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum KeyType {
    Okp,
    Rsa,
    Ec,
    #[serde(rename = "oct")]
    Oct,
}

/// Every member that a key of any kind can have.
#[derive(serde::Deserialize)]
struct Members {
    kty: KeyType,
    #[serde(default, deserialize_with = "known_algorithm")]
    alg: Option<KeyAlgorithm>,
    crv: Option<EllipticCurve>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    k: Option<String>,
    #[serde(rename = "use")]
    public_key_use: Option<PublicKeyUse>,
    key_ops: Option<Vec<KeyOperations>>,
    kid: Option<String>,
    x5u: Option<String>,
    x5c: Option<Vec<String>>,
    x5t: Option<String>,
    #[serde(rename = "x5t#S256")]
    x5t_s256: Option<String>,
}

/// `alg`: null and absent are accepted, an unknown name is not.
fn known_algorithm<'de, D: Deserializer<'de>>(from: D) -> Result<Option<KeyAlgorithm>, D::Error> {
    match Option::deserialize(from)? {
        Some(KeyAlgorithm::UNKNOWN_ALGORITHM) => Err(D::Error::custom(
            "unknown algorithm, expected one of `EdDSA`, `RS256`, `RS384`, `RS512`, `PS256`, \
             `PS384`, `PS512`, `ES256`, `ES384`, `HS256`, `HS384`, `HS512`, `RSA1_5`, `RSA-OAEP`, \
             `RSA-OAEP-256`",
        )),
        known => Ok(known),
    }
}

impl Members {
    fn into_key<E: Error>(self) -> Result<Jwk, E> {
        let missing = E::missing_field;
        let text = |member: Option<String>, name| member.ok_or_else(|| missing(name));
        let curve = |member: Option<EllipticCurve>| member.ok_or_else(|| missing("crv"));
        let algorithm = match self.kty {
            KeyType::Okp => AlgorithmParameters::OctetKeyPair(OctetKeyPairParameters {
                curve: curve(self.crv)?,
                x: text(self.x, "x")?,
                ..Default::default()
            }),
            KeyType::Rsa => AlgorithmParameters::RSA(RSAKeyParameters {
                n: text(self.n, "n")?,
                e: text(self.e, "e")?,
                ..Default::default()
            }),
            KeyType::Ec => AlgorithmParameters::EllipticCurve(EllipticCurveKeyParameters {
                curve: curve(self.crv)?,
                x: text(self.x, "x")?,
                y: text(self.y, "y")?,
                ..Default::default()
            }),
            KeyType::Oct => AlgorithmParameters::OctetKey(OctetKeyParameters {
                value: text(self.k, "k")?,
                ..Default::default()
            }),
        };
        let common = CommonParameters {
            public_key_use: self.public_key_use,
            key_operations: self.key_ops,
            key_algorithm: self.alg,
            key_id: self.kid,
            x509_url: self.x5u,
            x509_chain: self.x5c,
            x509_sha1_fingerprint: self.x5t,
            x509_sha256_fingerprint: self.x5t_s256,
        };
        Ok(Jwk { common, algorithm })
    }
}

/// A key of the right shape.
struct Checked(Jwk);

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Members::deserialize(from)?.into_key().map(Self)
    }
}

/// The keys of a set.
pub(super) fn keys<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Jwk>, D::Error> {
    Ok(Vec::<Checked>::deserialize(from)?.into_iter().map(|key| key.0).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::spec::document;
    use crate::spec::wire::ConfigDocument;

    fn parse(key: &Value) -> Result<ConfigDocument, String> {
        let good = json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"});
        let document = json!({"compute_ctl_config": {"jwks": {"keys": [good, key]}}});
        let text = document.to_string();
        document::parse(text.as_bytes()).map(|parsed| parsed.value).map_err(|e| e.to_string())
    }

    #[test]
    fn keys_of_every_kind_are_accepted() {
        let algorithms = [
            "HS256",
            "HS384",
            "HS512",
            "ES256",
            "ES384",
            "RS256",
            "RS384",
            "RS512",
            "PS256",
            "PS384",
            "PS512",
            "EdDSA",
            "RSA1_5",
            "RSA-OAEP",
            "RSA-OAEP-256",
        ];
        let of_algorithm = |alg| json!({"kty": "oct", "k": "AA", "alg": alg});
        let mut keys: Vec<Value> = algorithms.map(of_algorithm).to_vec();
        keys.extend([
            // Whether the values can be used is not a matter of shape.
            json!({"kty": "OKP", "crv": "Ed25519", "x": "not base64url!"}),
            json!({"kty": "OKP", "crv": "P-256", "x": ""}),
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "use": "anything", "kid": "k"}),
            json!({"kty": "RSA", "n": "", "e": "", "alg": null, "kid": null, "use": null}),
            json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "key_ops": ["verify", "x"]}),
            json!({"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA", "key_ops": []}),
            json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
            json!({"kty": "oct", "k": "", "x5u": "u", "x5c": ["c"], "x5t": "t", "x5t#S256": "s"}),
            json!({"kty": "oct", "k": "AA", "member_of_the_future": {"a": 1}}),
        ]);
        for key in keys {
            let document = parse(&key).unwrap_or_else(|error| panic!("{key}: {error}"));
            assert_eq!(document.compute_ctl_config.jwks.keys.len(), 2, "{key}");
        }
    }

    #[test]
    fn other_keys_are_refused_with_their_path() {
        for (key, path, reason) in [
            (json!({"crv": "Ed25519", "x": "AA"}), "", "missing field `kty`"),
            (json!({"kty": "okp", "crv": "Ed25519", "x": "AA"}), ".kty", "unknown variant"),
            (json!({"kty": "AKP", "pub": "AA"}), ".kty", "unknown variant"),
            (json!({"kty": null, "k": "AA"}), ".kty", ""),
            (json!({"kty": 1}), ".kty", ""),
            (json!({"kty": "OKP", "crv": "Ed448", "x": "AA"}), ".crv", "unknown variant"),
            (json!({"kty": "OKP", "crv": "ed25519", "x": "AA"}), ".crv", "unknown variant"),
            (json!({"kty": "EC", "crv": "secp256k1", "x": "A", "y": "A"}), ".crv", "unknown"),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": "A", "alg": "eddsa"}), ".alg", "unknown"),
            (json!({"kty": "RSA", "n": "A", "e": "A", "alg": "ES512"}), ".alg", "expected one of"),
            (json!({"kty": "oct", "k": "A", "alg": ""}), ".alg", "unknown algorithm"),
            (json!({"kty": "oct", "k": "A", "alg": 256}), ".alg", ""),
            (json!({"kty": "OKP", "x": "A"}), "", "missing field `crv`"),
            (json!({"kty": "OKP", "crv": "Ed25519"}), "", "missing field `x`"),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": null}), "", "missing field `x`"),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": 5}), ".x", "expected a string"),
            (json!({"kty": "RSA", "e": "AQAB"}), "", "missing field `n`"),
            (json!({"kty": "RSA", "n": "AQAB"}), "", "missing field `e`"),
            (json!({"kty": "EC", "x": "A", "y": "A"}), "", "missing field `crv`"),
            (json!({"kty": "EC", "crv": "P-256", "y": "A"}), "", "missing field `x`"),
            (json!({"kty": "EC", "crv": "P-256", "x": "A"}), "", "missing field `y`"),
            (json!({"kty": "oct"}), "", "missing field `k`"),
            (json!({"kty": "oct", "k": "A", "key_ops": "verify"}), ".key_ops", "sequence"),
            (json!({"kty": "oct", "k": "A", "x5c": "c"}), ".x5c", "sequence"),
            (json!({}), "", "missing field `kty`"),
            (json!("key"), "", "invalid type"),
            (json!(null), "", "invalid type"),
        ] {
            let error = parse(&key).expect_err(&key.to_string());
            let place = format!("compute_ctl_config.jwks.keys[1]{path}: ");
            assert!(error.starts_with(&place), "{key}: {error}");
            assert!(error.contains(reason), "{key}: {error}");
        }
    }
}
