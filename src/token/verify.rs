//! `compute_ctl token verify`: what the HTTP server would say about a token.

use std::io::Write as _;

use anyhow::{Context, bail};
use chrono::{DateTime, SecondsFormat, Utc};

use crate::cli::VerifyTokenArgs;
use crate::http::{Opens, unusable_keys, verdict};
use crate::os::secret_files::secret_in;
use crate::spec::source::{config_within, keys_within};
use crate::spec::wire::Jwks;
use crate::timeouts::Timeouts;

pub(super) fn run(args: &VerifyTokenArgs) -> anyhow::Result<u8> {
    let limit = Timeouts::default().control_plane.start.file;
    let jwks = match (&args.config, &args.jwks) {
        (Some(path), _) => config_within(path, limit)?.value.compute_ctl_config.jwks,
        (_, Some(path)) => keys_within(path, limit)?.value,
        // The command line requires one.
        _ => bail!("one of --config and --jwks is needed"),
    };
    warn_of_keys(&jwks);
    let token = secret_in("FILE", &args.token)?;
    let now = Utc::now().timestamp();
    let opens = verdict(&jwks, args.compute_id.as_deref(), token.expose(), now)?;
    writeln!(std::io::stdout(), "{}", sentence(&opens)).context("could not write to stdout")?;
    Ok(0)
}

fn warn_of_keys(jwks: &Jwks) {
    for (index, reason) in unusable_keys(jwks) {
        eprintln!("warning: key no. {} cannot be used: {reason}", index.saturating_add(1));
    }
}

fn sentence(opens: &Opens) -> String {
    let whom = match &opens.compute_id {
        Some(id) => format!("the compute {id}"),
        None => "every compute that has the key".to_owned(),
    };
    let until = match opens.expiry {
        None => "without end".to_owned(),
        Some(seconds) => match DateTime::from_timestamp(seconds as i64, 0) {
            Some(time) => format!("until {}", time.to_rfc3339_opts(SecondsFormat::Secs, true)),
            None => "until a time too far away to be written".to_owned(),
        },
    };
    format!("accepted: it opens {whom}, {until}")
}
