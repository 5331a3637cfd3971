//! Compares values of settings as Postgres does: by type, with units, as in its `guc.c`.

/// Units of one kind, largest first, with their size in the smallest one.
const MEMORY: [(&str, f64); 5] = [
    ("TB", 1_099_511_627_776.0),
    ("GB", 1_073_741_824.0),
    ("MB", 1_048_576.0),
    ("kB", 1024.0),
    ("B", 1.0),
];
const TIME: [(&str, f64); 6] = [
    ("d", 86_400_000_000.0),
    ("h", 3_600_000_000.0),
    ("min", 60_000_000.0),
    ("s", 1_000_000.0),
    ("ms", 1000.0),
    ("us", 1.0),
];

/// Whether a value of a file and the server's `pg_settings.setting` are the same for a setting of
/// this `vartype` and `unit`. `None`: the value of the file does not have that type.
pub(super) fn same(vartype: &str, unit: Option<&str>, file: &str, server: &str) -> Option<bool> {
    match vartype {
        "bool" => Some(boolean(file)? == boolean(server)?),
        "integer" => Some(integer(file, unit)? == integer(server, unit)?),
        "real" => {
            let (file, server) = (number(file, unit, false)?, number(server, unit, false)?);
            // The server prints only the digits that identify the value, not all that it computed
            // with.
            Some((file - server).abs() <= 1e-9 * file.abs().max(server.abs()))
        }
        // Some enumerations have other names for `on` and `off` too.
        "enum" => Some(
            file.eq_ignore_ascii_case(server)
                || boolean(file).is_some_and(|value| boolean(server) == Some(value)),
        ),
        _ => Some(file == server),
    }
}

/// `on`, `off`, `true`, `false`, `yes`, `no`, their unambiguous beginnings, `1` and `0`.
fn boolean(text: &str) -> Option<bool> {
    let text = text.to_ascii_lowercase();
    let begins = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    if begins("true", 1) || begins("yes", 1) || text == "on" || text == "1" {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || text == "0" {
        Some(false)
    } else {
        None
    }
}

fn integer(text: &str, unit: Option<&str>) -> Option<f64> {
    number(text, unit, true).map(f64::round_ties_even)
}

/// A number with or without a unit, in units of the setting.
fn number(text: &str, unit: Option<&str>, integer: bool) -> Option<f64> {
    let text = text.trim();
    let (value, rest) = leading_number(text, integer)?;
    let given = rest.trim();
    if given.is_empty() {
        return Some(value);
    }
    let (count, base) = split_base_unit(unit?)?;
    let units: &[(&str, f64)] =
        if MEMORY.iter().any(|(name, _)| *name == base) { &MEMORY } else { &TIME };
    let size = |wanted: &str| units.iter().find(|(name, _)| *name == wanted).map(|(_, s)| *s);
    let base = count * size(base)?;
    let converted = value * size(given)? / base;
    // The server treats 30.1GB as a whole number of MB.
    let smaller = units.iter().skip_while(|(name, _)| *name != given).nth(1);
    Some(match smaller {
        Some((_, size)) => (converted / (size / base)).round_ties_even() * (size / base),
        None => converted,
    })
}

/// `8kB` is eight of `kB`, `ms` is one of `ms`.
fn split_base_unit(unit: &str) -> Option<(f64, &str)> {
    let digits = unit.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = unit.split_at_checked(digits)?;
    Some((if count.is_empty() { 1.0 } else { count.parse().ok()? }, unit))
}

/// The number at the beginning, and the rest. Integers may be written in hexadecimal or octal.
fn leading_number(text: &str, integer: bool) -> Option<(f64, &str)> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let hexadecimal = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X"));
    if integer && let Some(digits) = hexadecimal {
        let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
        let (digits, rest) = digits.split_at_checked(end)?;
        return Some((sign * exact(i64::from_str_radix(digits, 16).ok()?)?, rest));
    }
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(unsigned);
    let mut end = whole;
    let after = |end: usize| unsigned.split_at_checked(end).map_or("", |(_, rest)| rest);
    if let Some(fraction) = after(end).strip_prefix('.') {
        end = end.saturating_add(1).saturating_add(digits(fraction));
    }
    if let Some(exponent) = after(end).strip_prefix(['e', 'E']) {
        let sign = usize::from(exponent.starts_with(['+', '-']));
        let count = digits(exponent.split_at_checked(sign).map_or("", |(_, digits)| digits));
        if count > 0 {
            end = end.saturating_add(1).saturating_add(sign).saturating_add(count);
        }
    }
    let (number, rest) = unsigned.split_at_checked(end)?;
    if integer && end == whole && number.len() > 1 && number.starts_with('0') {
        return Some((sign * exact(i64::from_str_radix(number, 8).ok()?)?, rest));
    }
    Some((sign * number.parse::<f64>().ok()?, rest))
}

/// Converts an integer to a float; `None` outside of 32 bits, the width of settings.
fn exact(value: i64) -> Option<f64> {
    i32::try_from(value).ok().map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_compared_as_the_server_does() {
        let cases = [
            ("integer", Some("8kB"), "128MB", "16384", Some(true)),
            ("integer", Some("8kB"), "0.125GB", "16384", Some(true)),
            ("integer", Some("8kB"), "16384", "16384", Some(true)),
            ("integer", Some("8kB"), "30.1GB", "3945216", Some(true)),
            ("integer", Some("8kB"), "128 MB", "16384", Some(true)),
            ("integer", Some("8kB"), "128mb", "16384", None),
            ("integer", Some("8kB"), "1min", "16384", None),
            ("integer", Some("kB"), "8192B", "8", Some(true)),
            ("integer", Some("ms"), "1min", "60000", Some(true)),
            ("integer", Some("s"), "1.5h", "5400", Some(true)),
            ("integer", Some("min"), "1d", "1440", Some(true)),
            ("integer", Some("ms"), "1d", "1", Some(false)),
            ("integer", None, "0777", "511", Some(true)),
            ("integer", None, "0777", "0777", Some(true)),
            ("integer", None, "0x10", "16", Some(true)),
            ("integer", None, "-1", "-1", Some(true)),
            ("integer", None, "1e2", "100", Some(true)),
            ("integer", None, "1kB", "1", None),
            ("integer", None, "x", "1", None),
            ("integer", None, "", "1", None),
            ("real", None, "0.50", "0.5", Some(true)),
            ("real", Some("ms"), "1s", "1000", Some(true)),
            ("real", None, "0.4", "0.5", Some(false)),
            ("bool", None, "yes", "on", Some(true)),
            ("bool", None, "FALSE", "off", Some(true)),
            ("bool", None, "0", "on", Some(false)),
            ("bool", None, "o", "on", None),
            ("bool", None, "", "on", None),
            ("enum", None, "Logical", "logical", Some(true)),
            ("enum", None, "true", "on", Some(true)),
            ("enum", None, "try", "on", Some(false)),
            ("string", None, "a", "a", Some(true)),
            ("string", None, "a, b", "a,b", Some(false)),
        ];
        for (vartype, unit, file, server, expected) in cases {
            assert_eq!(same(vartype, unit, file, server), expected, "{vartype} {file} {server}");
        }
    }
}
