//! Flags of `compute_ctl token`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{ArgGroup, Args, Subcommand};

use super::values::one_of;
use crate::client::args::document;

/// A longer time is more likely a mistake than a wish.
const MAX_LIFETIME: u64 = 1000 * 86_400;

/// Commands about tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token to try things out, and the key that signs it unless there is one
    New(NewTokenArgs),
    /// Say whether a compute accepts a token: exit code 0 if it does
    Verify(VerifyTokenArgs),
}

/// Flags of `compute_ctl token new`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("opens").args(["compute_id", "scope"]).multiple(true).required(true)))]
pub struct NewTokenArgs {
    /// Private key, as PEM: Ed25519, or RSA for RS256; a new Ed25519 key if the file does not exist
    #[arg(long, value_name = "FILE", default_value = "key.pem")]
    pub key: PathBuf,

    /// The algorithm that the key must have; a new key for RS256 is made by `openssl genpkey`
    /// [default: that of the key]
    #[arg(
        long,
        value_name = "EdDSA|RS256",
        value_parser = algorithm(),
        hide_possible_values = true
    )]
    pub algorithm: Option<Algorithm>,

    /// The compute that the token opens: its --compute-id
    #[arg(short = 'i', long)]
    pub compute_id: Option<String>,

    /// The token opens every compute that has the key
    #[arg(long, value_name = "admin", value_parser = admin())]
    pub scope: Option<Scope>,

    /// How long the token is valid, such as 30m, 12h or 7d; or never, for one without end
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = lifetime)]
    pub expires: Lifetime,

    /// Write the token to this file, which only its owner may read, and not to stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Replace the file of --out if it exists; a key is never replaced
    #[arg(long)]
    pub force: bool,
}

/// Flags of `compute_ctl token verify`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("keys").args(["config", "jwks"]).required(true)))]
pub struct VerifyTokenArgs {
    /// File that holds the token
    #[arg(value_name = "FILE")]
    pub token: PathBuf,

    /// JSON configuration file of the compute, with its keys
    #[arg(short = 'c', long, value_name = "FILE", value_parser = document())]
    pub config: Option<PathBuf>,

    /// File with the keys alone: {"keys": […]}
    #[arg(long, value_name = "FILE")]
    pub jwks: Option<PathBuf>,

    /// Id of the compute [default: the one that the token names]
    #[arg(short = 'i', long)]
    pub compute_id: Option<String>,
}

/// Rights beyond one compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every compute that has the key.
    Admin,
}

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// With a key of Ed25519.
    EdDsa,
    /// With a key of RSA, and SHA-256.
    Rs256,
}

impl Algorithm {
    /// The name in tokens and keys.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }
}

/// How long a token is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime(pub Option<Duration>);

/// A whole number with the unit `s`, `m`, `h` or `d`, or `never`.
fn lifetime(text: &str) -> Result<Lifetime, String> {
    if text == "never" {
        return Ok(Lifetime(None));
    }
    let units = [('s', 1_u64), ('m', 60), ('h', 3600), ('d', 86_400)];
    let seconds = units.into_iter().find_map(|(unit, seconds)| {
        let digits = text.strip_suffix(unit)?;
        let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok());
        seconds.checked_mul(number??)
    });
    seconds
        .filter(|seconds| *seconds <= MAX_LIFETIME)
        .map(|seconds| Lifetime(Some(Duration::from_secs(seconds))))
        .ok_or_else(|| {
            "a duration such as 30m, 12h or 7d is needed, 1000d at most, or never".to_owned()
        })
}

fn algorithm() -> impl TypedValueParser<Value = Algorithm> {
    one_of([Algorithm::EdDsa, Algorithm::Rs256].map(|it| (it.name(), it)))
}

fn admin() -> impl TypedValueParser<Value = Scope> {
    one_of([("admin", Scope::Admin)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes() {
        for (text, seconds) in
            [("0s", 0), ("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800)]
        {
            assert_eq!(lifetime(text), Ok(Lifetime(Some(Duration::from_secs(seconds)))), "{text}");
        }
        assert_eq!(lifetime("never"), Ok(Lifetime(None)));
        for text in ["", "h", "1", "1w", "-1h", "+1h", "1001d", "99999999999999999999d"] {
            assert!(lifetime(text).unwrap_err().contains("7d"), "{text}");
        }
    }
}
