//! What the `encrypted_password` of a role means (02 §8.2, 05 §7.5).
//!
//! Postgres stores a SCRAM verifier or an MD5 hash unchanged. It takes every other text for a
//! password in plain text and silently hashes it. By contract every text that is not a SCRAM
//! verifier gets the prefix `md5`, so an empty text would give the role the password `md5`, which
//! is easy to guess. Hence:
//!
//! - An empty text means no password, as null does.
//! - Any other text that Postgres will hash is passed on as the contract says. The next apply
//!   recognises the hash that was stored for it, so that the role is not altered at each apply.
//! - Each apply reports both cases in a remark, with the name of the role and never the text.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};

use crate::secret::Secret;
use crate::spec::wire::Role;

/// Prefix of a SCRAM verifier, also of a malformed one.
const SCRAM: &str = "SCRAM-SHA-256";
/// Prefix of an MD5 hash in the catalog.
const MD5: &str = "md5";
/// Bytes of each key in a verifier.
const KEY: usize = digest::SHA256_OUTPUT_LEN;
/// The default number of rounds in Postgres. Users can store verifiers that take hours to compare,
/// so a verifier with more rounds is replaced instead.
const ITERATIONS: u32 = 4096;

/// The password text for the statement; `None` for no password. The catalog stores this text,
/// unless Postgres hashes it.
pub(crate) fn password_text(role: &Role) -> Option<String> {
    let text = role.encrypted_password.as_ref()?.expose();
    if text.is_empty() {
        None
    } else if text.starts_with(SCRAM) {
        Some(text.clone())
    } else {
        Some(format!("{MD5}{text}"))
    }
}

/// Whether the catalog already holds what the statement would store.
pub(crate) fn is_stored(stored: Option<&Secret<String>>, role: &Role) -> bool {
    let (stored, wanted) = (stored.map(Secret::expose), password_text(role));
    match (stored, wanted) {
        (Some(stored), Some(wanted)) => {
            *stored == wanted
                || (!is_hash(&wanted)
                    && Scram::parse(stored).is_some_and(|scram| scram.is_of(&wanted)))
        }
        (stored, wanted) => stored.is_none() && wanted.is_none(),
    }
}

/// A remark about a text that is neither a verifier nor null.
pub(crate) fn remark(role: &Role) -> Option<String> {
    let text = role.encrypted_password.as_ref()?.expose();
    let name = &role.name;
    let Some(sent) = password_text(role) else {
        return Some(format!(
            "encrypted_password of role {name:?} is empty: the role has no password, as with null, \
             and cannot log in with one"
        ));
    };
    if is_hash(&sent) {
        return None;
    }
    let (detail, taken) = if is_hash(text) {
        (" (it begins with \"md5\" already)", "the text with another \"md5\" in front")
    } else if text.starts_with(SCRAM) {
        (" (it is a broken SCRAM verifier)", "the text")
    } else {
        ("", "the text with \"md5\" in front")
    };
    Some(format!(
        "encrypted_password of role {name:?} is neither a SCRAM verifier nor an MD5 hash of 32 \
         lower-case digits{detail}: Postgres takes {taken} for a password in plain text and hashes it, so the role cannot log in with the password that was meant; correct \
         the spec"
    ))
}

/// Whether Postgres stores a password text unchanged instead of hashing it.
fn is_hash(text: &str) -> bool {
    match text.strip_prefix(MD5) {
        Some(hash) => hash.len() == 32 && hash.bytes().all(|b| b"0123456789abcdef".contains(&b)),
        None => Scram::parse(text).is_some(),
    }
}

/// The parts of `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>` that the comparison
/// with a password needs.
struct Scram {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    stored_key: Vec<u8>,
}

impl Scram {
    fn parse(text: &str) -> Option<Self> {
        let (work, keys) = text.strip_prefix(SCRAM)?.strip_prefix('$')?.split_once('$')?;
        let (iterations, salt) = work.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text| STANDARD.decode(text).ok().filter(|key| key.len() == KEY);
        key(server)?;
        Some(Self {
            iterations: iterations.parse().ok()?,
            salt: STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?,
            stored_key: key(stored)?,
        })
    }

    /// Whether Postgres made this verifier from the password (RFC 5802 §3). Only for a password in
    /// printable ASCII, which is hashed unchanged; others are normalised first.
    fn is_of(&self, password: &str) -> bool {
        let as_it_is = password.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        if !as_it_is || self.iterations.get() > ITERATIONS {
            return false;
        }
        let mut salted = [0; KEY];
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(algorithm, self.iterations, &self.salt, password.as_bytes(), &mut salted);
        let client = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &salted), b"Client Key");
        digest::digest(&digest::SHA256, client.as_ref()).as_ref() == self.stored_key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef";
    /// Of the password `md5short`, with a salt of the bytes 0 to 15.
    const OF_SHORT: &str = "SCRAM-SHA-256$4096:AAECAwQFBgcICQoLDA0ODw==$\
        Ccs4zGs98kOzCV3WG/D8bCAtKSgPg8zR30YmV5smEuI=:gv8tGM19bpUPVzPq9riCtsRSchgDd9D6x2jujERtS24=";
    /// The same with 8192 iterations.
    const OF_SHORT_DEARER: &str = "SCRAM-SHA-256$8192:AAECAwQFBgcICQoLDA0ODw==$\
        tmfSFgJyi0PgBsxE1VnYLaSkp53aFhnMANQ/fSRoEl4=:pupfphRaaeo7cduzzgLu4HSfQycZXyAgRD7H8yjgyuU=";

    fn role(text: Option<&str>) -> Role {
        let encrypted_password = text.map(|text| Secret::new(text.to_owned()));
        Role { name: "an\"n".to_owned(), encrypted_password, options: None }
    }

    fn text(of: &str) -> Option<String> {
        password_text(&role(Some(of)))
    }

    #[test]
    fn an_empty_text_means_null() {
        assert_eq!((text(""), password_text(&role(None))), (None, None));
        assert_eq!(text(" ").as_deref(), Some("md5 "), "only an empty text means null");
        assert_eq!(text(HASH), Some(format!("md5{HASH}")));
        assert_eq!(text(OF_SHORT).as_deref(), Some(OF_SHORT));
        assert_eq!(text("SCRAM-SHA-256").as_deref(), Some("SCRAM-SHA-256"));
    }

    #[test]
    fn what_is_stored_is_recognised() {
        let is = |stored: Option<&str>, of: Option<&str>| {
            let stored = stored.map(|text| Secret::new(text.to_owned()));
            is_stored(stored.as_ref(), &role(of))
        };
        let md5 = format!("md5{HASH}");
        assert!(is(None, None) && is(None, Some("")) && is(Some(&md5), Some(HASH)));
        assert!(is(Some(OF_SHORT), Some(OF_SHORT)) && is(Some(OF_SHORT), Some("short")));
        assert!(!is(Some(OF_SHORT), Some("shorter")) && !is(Some(OF_SHORT), Some("")));
        assert!(!is(Some(&md5), None) && !is(None, Some(HASH)) && !is(Some(&md5), Some(&md5)));
        // Verifiers with more rounds and passwords that Postgres normalises are not compared.
        assert!(!is(Some(OF_SHORT_DEARER), Some("short")));
        assert!(!is(Some(OF_SHORT), Some("shört")));
    }

    #[test]
    fn remarks_name_the_role_and_not_the_text() {
        let (upper, md5) = (HASH.to_uppercase(), format!("md5{HASH}"));
        let short_key = OF_SHORT.replace("$4096:", "$4096:AAEC==");
        let long = OF_SHORT.replace(':', "::");
        for (text, part) in [
            ("", Some("has no password, as with null")),
            (HASH, None),
            (OF_SHORT, None),
            ("planted", Some("with \"md5\" in front")),
            (upper.as_str(), Some("32 lower-case digits")),
            (md5.as_str(), Some("already")),
            ("SCRAM-SHA-256", Some("broken SCRAM verifier")),
            ("SCRAM-SHA-256$4096:a$b", Some("broken")),
            ("SCRAM-SHA-256$4096:AAEC==$MDEy=:YWJj=", Some("broken")),
            (short_key.as_str(), Some("broken")),
            (long.as_str(), Some("broken")),
        ] {
            let remark = remark(&role(Some(text)));
            let (Some(part), Some(remark)) = (part, &remark) else {
                assert_eq!((remark, part), (None, None), "{text}");
                continue;
            };
            assert!(remark.contains(part) && remark.contains(r#"role "an\"n" "#), "{remark}");
            assert!(text.is_empty() || !remark.contains(text), "{remark}");
        }
        assert_eq!(remark(&role(None)), None);
    }
}
