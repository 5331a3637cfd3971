//! The keys that verify tokens: which of a set can be used, and why the others cannot (03 §4.3).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm};
use ring::rsa::PublicKeyComponents;
use ring::signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use crate::spec::wire::Jwks;

/// A public key that can verify tokens.
#[derive(Debug)]
pub(super) enum VerifyingKey {
    /// Ed25519, for `EdDSA`.
    Ed25519(UnparsedPublicKey<Vec<u8>>),
    /// Modulus and exponent as big-endian numbers without leading zeros, for `RS256`.
    Rsa(PublicKeyComponents<Vec<u8>>),
}

impl VerifyingKey {
    /// Whether the owner of the key has signed the message.
    pub(super) fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => key.verify(message, signature).is_ok(),
            Self::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok(),
        }
    }
}

/// The one algorithm of the set (03 §4.3).
pub(super) fn algorithm(jwks: &Jwks) -> Algorithm {
    let says_rs256 = |key: &Jwk| key.common.key_algorithm == Some(KeyAlgorithm::RS256);
    if jwks.keys.iter().any(says_rs256) { Algorithm::RS256 } else { Algorithm::EdDSA }
}

/// The keys, by index, that the server skips, with the reason.
pub(crate) fn unusable_keys(jwks: &Jwks) -> Vec<(usize, &'static str)> {
    let algorithm = algorithm(jwks);
    let keys = jwks.keys.iter().enumerate();
    keys.filter_map(|(index, jwk)| Some((index, verifying_key(jwk, algorithm).err()?))).collect()
}

/// Decodes a value of a key. What an editor or a copy adds is named.
fn base64url(text: &str) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| {
        if text.contains(['\n', '\r']) {
            "it is not base64url: there is a line break in it"
        } else if text.contains(char::is_whitespace) {
            "it is not base64url: there is a blank in it"
        } else if text.ends_with('=') {
            "it is not base64url: there is padding (`=`) at its end"
        } else if text.contains(['+', '/']) {
            "it is not base64url: it has `+` or `/` where base64url has `-` and `_`"
        } else {
            "it is not base64url"
        }
    })
}

/// Builds a key and checks that it can be used with the algorithm.
pub(super) fn verifying_key(jwk: &Jwk, algorithm: Algorithm) -> Result<VerifyingKey, &'static str> {
    match (algorithm, &jwk.algorithm) {
        (Algorithm::EdDSA, AlgorithmParameters::OctetKeyPair(key)) => {
            if key.curve != EllipticCurve::Ed25519 {
                return Err("its curve is not Ed25519");
            }
            let point = base64url(&key.x)?;
            if point.len() != 32 {
                return Err("it does not have 32 bytes");
            }
            Ok(VerifyingKey::Ed25519(UnparsedPublicKey::new(&ED25519, point)))
        }
        (Algorithm::RS256, AlgorithmParameters::RSA(key)) => {
            let (n, e) = (number(&key.n)?, number(&key.e)?);
            if !(256..=512).contains(&n.len()) {
                return Err("its modulus does not have 2048 to 4096 bits");
            }
            // A larger exponent would make each check slow.
            if !is_odd(&n) || !is_odd(&e) || e == [1] || e.len() > 4 {
                return Err("its modulus or exponent is impossible");
            }
            Ok(VerifyingKey::Rsa(PublicKeyComponents { n, e }))
        }
        (Algorithm::RS256, _) => Err("it is not an RSA key, but the set uses RS256"),
        _ => Err("it is not an Ed25519 key"),
    }
}

/// A big-endian number without leading zeros.
fn number(text: &str) -> Result<Vec<u8>, &'static str> {
    Ok(base64url(text)?.into_iter().skip_while(|byte| *byte == 0).collect())
}

fn is_odd(number: &[u8]) -> bool {
    number.last().is_some_and(|byte| byte % 2 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_an_editor_adds_is_named() {
        let jwks = |x: &str| {
            let key = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x});
            serde_json::from_value::<Jwks>(json!({"keys": [key]})).unwrap()
        };
        let good = public_part();
        assert_eq!(unusable_keys(&jwks(&good)), []);
        for (x, reason) in [
            (format!("{good}\n"), "a line break"),
            (format!("{good}\r\n"), "a line break"),
            (format!(" {good}"), "a blank"),
            (format!("{good}="), "padding"),
            (good.replace('-', "+").replace('_', "/") + "+", "`+` or `/`"),
            (format!("{good}!"), "not base64url"),
            (good.chars().take(20).collect(), "32 bytes"),
            (String::new(), "32 bytes"),
        ] {
            let unusable = unusable_keys(&jwks(&x));
            assert_eq!(unusable.len(), 1, "{x:?}");
            assert!(unusable[0].1.contains(reason), "{x:?}: {unusable:?}");
        }
    }

    #[test]
    fn rsa_keys_that_cannot_be_used_are_named() {
        let reason = |n: &[u8], e: &[u8]| {
            let [n, e] = [n, e].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
            let key = json!({"kty": "RSA", "alg": "RS256", "n": n, "e": e});
            let jwks = serde_json::from_value(json!({"keys": [key]})).unwrap();
            unusable_keys(&jwks).first().map(|(_, reason)| *reason)
        };
        let modulus = |bytes| vec![0xd5; bytes];
        let [good, even] = [modulus(256), [modulus(255), vec![0xd4]].concat()];
        assert_eq!(reason(&good, &[1, 0, 1]), None);
        assert_eq!(reason(&good, &[3]), None);
        assert_eq!(reason(&[vec![0], good.clone()].concat(), &[0, 1, 0, 1]), None);
        assert_eq!(reason(&modulus(512), &[1, 0, 1]), None);
        for (n, e, text) in [
            (modulus(255), vec![1, 0, 1], "bits"),
            (modulus(513), vec![1, 0, 1], "bits"),
            (vec![], vec![1, 0, 1], "bits"),
            (even, vec![1, 0, 1], "impossible"),
            (good.clone(), vec![], "impossible"),
            (good.clone(), vec![1], "impossible"),
            (good.clone(), vec![2], "impossible"),
            (good, vec![1, 0, 0, 0, 1], "impossible"),
        ] {
            assert!(reason(&n, &e).is_some_and(|reason| reason.contains(text)), "{n:x?} {e:x?}");
        }
    }

    fn public_part() -> String {
        URL_SAFE_NO_PAD.encode([0xfb; 32])
    }
}
