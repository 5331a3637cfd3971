//! The text commands that a compute sends to a pageserver (06 §3.3, §3.10, §6.2).
//!
//! Strict on purpose: commands that a real pageserver would refuse are refused here too.

use crate::spec::Lsn;

/// The commands a compute sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// `basebackup`, compressed or plain.
    Basebackup { gzip: bool },
    /// `lease lsn`, a request for an LSN lease.
    Lease,
    /// `set`, which is accepted and ignored.
    Set,
}

/// Parses a command by the server's grammar (06 §3.3, §3.10, §6.2).
pub(super) fn parse(command: &str) -> Result<Verb, String> {
    let mut words = command.split_whitespace();
    let verb = words.next().unwrap_or_default();
    let rest: Vec<&str> = words.collect();
    match (verb.to_ascii_lowercase().as_str(), rest.as_slice()) {
        ("set", _) => Ok(Verb::Set),
        ("basebackup", [tenant, timeline, rest @ ..]) if is_id(tenant) && is_id(timeline) => {
            let flags = match rest {
                [lsn, flags @ ..] if !lsn.starts_with("--") => {
                    if *lsn != "latest" && lsn.parse::<Lsn>().is_err() {
                        return Err(format!("invalid LSN for basebackup command: {lsn}"));
                    }
                    flags
                }
                flags => flags,
            };
            let (mut gzip, mut replica) = (false, false);
            for flag in flags {
                let seen = match *flag {
                    "--gzip" => &mut gzip,
                    "--replica" => &mut replica,
                    _ => return Err(format!("invalid parameter for basebackup command: {flag}")),
                };
                if std::mem::replace(seen, true) {
                    return Err(format!("duplicate parameter for basebackup command: {flag}"));
                }
            }
            Ok(Verb::Basebackup { gzip })
        }
        ("lease", [what, shard, timeline, lsn])
            if what.eq_ignore_ascii_case("lsn")
                && shard.split('-').next().is_some_and(is_id)
                && is_id(timeline)
                && lsn.parse::<Lsn>().is_ok() =>
        {
            Ok(Verb::Lease)
        }
        ("basebackup" | "lease", _) => Err(format!("invalid arguments in {command}")),
        _ => Err(format!("unsupported command {verb} in {command}")),
    }
}

/// Whether the word consists of 32 hex digits.
pub(super) fn is_id(word: impl AsRef<str>) -> bool {
    let word = word.as_ref();
    word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        let t = "51b0c7e2a94d4c06b3f7d1e8a2640f9c";
        let good = [
            (format!("basebackup {t} {t}"), Verb::Basebackup { gzip: false }),
            (
                format!(" BaseBackup {t}  {t} latest --replica --gzip"),
                Verb::Basebackup { gzip: true },
            ),
            (format!("basebackup {t} {t} 0/0 --gzip"), Verb::Basebackup { gzip: true }),
            (format!("lease lsn {t} {t} 0/1 "), Verb::Lease),
            (format!("lease lsn {t}-0102 {t} 0/1"), Verb::Lease),
        ];
        for (text, verb) in good {
            assert_eq!(parse(&text), Ok(verb), "{text}");
        }
        let bad = [
            String::new(),
            "basebackup".to_owned(),
            format!("basebackup {t} short"),
            format!("basebackup {t} {t} 0-1"),
            format!("basebackup {t} {t} --gzip 0/1"),
            format!("basebackup {t} {t} --gzip --gzip"),
            format!("basebackup {t} {t} --GZIP"),
            format!("lease lsn {t} {t}"),
            format!("pagestream_v3 {t} {t}"),
        ];
        for text in bad {
            assert!(parse(&text).is_err(), "{text}");
        }
    }
}
