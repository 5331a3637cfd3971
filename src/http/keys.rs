//! The keys that verify tokens: which of a set can be used, and why the others cannot (03 §4.3).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm};
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::spec::wire::Jwks;

/// The one algorithm of the set (03 §4.3).
pub(super) fn algorithm(jwks: &Jwks) -> Algorithm {
    let says_rs256 = |key: &Jwk| key.common.key_algorithm == Some(KeyAlgorithm::RS256);
    if jwks.keys.iter().any(says_rs256) { Algorithm::RS256 } else { Algorithm::EdDSA }
}

/// The keys, by index, that the server skips, with the reason.
pub(crate) fn unusable_keys(jwks: &Jwks) -> Vec<(usize, &'static str)> {
    let algorithm = algorithm(jwks);
    let keys = jwks.keys.iter().enumerate();
    keys.filter_map(|(index, jwk)| Some((index, decoding_key(jwk, algorithm).err()?))).collect()
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
pub(super) fn decoding_key(jwk: &Jwk, algorithm: Algorithm) -> Result<DecodingKey, &'static str> {
    match (algorithm, &jwk.algorithm) {
        (Algorithm::EdDSA, AlgorithmParameters::OctetKeyPair(key)) => {
            if key.curve != EllipticCurve::Ed25519 {
                return Err("its curve is not Ed25519");
            }
            // The library reads exactly 32 bytes without checking the length.
            if base64url(&key.x)?.len() != 32 {
                return Err("it does not have 32 bytes");
            }
        }
        (Algorithm::RS256, AlgorithmParameters::RSA(key)) => {
            let (modulus, exponent) = (base64url(&key.n)?, base64url(&key.e)?);
            let modulus: Vec<u8> = modulus.into_iter().skip_while(|byte| *byte == 0).collect();
            if !(256..=512).contains(&modulus.len()) {
                return Err("its modulus does not have 2048 to 4096 bits");
            }
            if modulus.last().is_none_or(|byte| byte % 2 == 0) || exponent.is_empty() {
                return Err("its modulus or exponent is impossible");
            }
        }
        (Algorithm::RS256, _) => return Err("it is not an RSA key, but the set uses RS256"),
        _ => return Err("it is not an Ed25519 key"),
    }
    DecodingKey::from_jwk(jwk).map_err(|_| "it is malformed")
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

    fn public_part() -> String {
        URL_SAFE_NO_PAD.encode([0xfb; 32])
    }
}
