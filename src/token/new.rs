//! `compute_ctl token new`: makes a token, and the key that signs it unless there is one.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use super::key::SigningKey;
use crate::cli::{Algorithm, NewTokenArgs, Scope};
use crate::os::denied::explained;
use crate::os::named_file;

/// The public key goes to stdout, then the token unless it has a file. Remarks go to stderr.
pub(super) fn run(args: &NewTokenArgs) -> anyhow::Result<u8> {
    // Before a key is made in vain.
    if let Some(out) = &args.out
        && out.exists()
        && !args.force
    {
        bail!("{} exists already: remove it, or replace it with --force", out.display());
    }
    let key = key(&args.key, args.algorithm)?;
    let token = key.sign(&claims(args, chrono::Utc::now().timestamp()))?;
    let mut text = format!("{}\n", key.public());
    match &args.out {
        Some(out) => write_private(out, &format!("{token}\n"), args.force)?,
        None => {
            text.push_str(&token);
            text.push('\n');
        }
    }
    std::io::stdout().write_all(text.as_bytes()).context("could not write to stdout")?;
    Ok(0)
}

fn key(path: &Path, wanted: Option<Algorithm>) -> anyhow::Result<SigningKey> {
    match named_file::read(path, named_file::CREDENTIAL) {
        Ok(pem) => {
            let key = SigningKey::read(&pem, path)?;
            match (key.algorithm(), wanted) {
                (found, Some(wanted)) if found != wanted => bail!(
                    "the key {} is for {}, not for {}: name another file in --key",
                    path.display(),
                    found.name(),
                    wanted.name()
                ),
                _ => Ok(key),
            }
        }
        // The library that signs makes no keys of RSA.
        Err(error) if error.kind() == ErrorKind::NotFound && wanted == Some(Algorithm::Rs256) => {
            let file = path.display();
            bail!(
                "there is no key {file}, and this command makes keys for EdDSA only: make one for \
                 RS256 with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out {file}`"
            )
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let (key, pem) = SigningKey::generate()?;
            write_private(path, pem.expose(), false)?;
            eprintln!("made the private key {}", path.display());
            Ok(key)
        }
        Err(error) => Err(explained(error, path))
            .with_context(|| format!("could not read {}", path.display())),
    }
}

fn claims(args: &NewTokenArgs, now: i64) -> Value {
    let mut claims = Map::new();
    if let Some(id) = &args.compute_id {
        claims.insert("compute_id".to_owned(), json!(id));
    }
    if let Some(Scope::Admin) = args.scope {
        claims.insert("scope".to_owned(), json!("compute_ctl:admin"));
        claims.insert("aud".to_owned(), json!(["compute"]));
    }
    if let Some(lifetime) = args.expires.0 {
        claims.insert("exp".to_owned(), json!(now.saturating_add_unsigned(lifetime.as_secs())));
    }
    claims.into()
}

/// Only the owner may read it. Without `replace`, an existing file stays as it is.
fn write_private(path: &Path, text: &str, replace: bool) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        if replace
            && let Err(error) = std::fs::remove_file(path)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())
    };
    write()
        .map_err(|error| explained(error, path))
        .with_context(|| format!("could not write {}", path.display()))
}
