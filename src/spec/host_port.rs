//! `host:port` as operators write it.

/// Splits at the last colon, so that an IPv6 address can stand before it, with or without brackets
/// (04 W18). `None` unless the host has no blanks or control characters and the port is at most
/// 65535. The host is returned as it was written.
pub(crate) fn split_host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let clean = !host.is_empty() && !host.contains(|c: char| c.is_control() || c.is_whitespace());
    (digits && clean).then_some(())?;
    Some((host, port.parse().ok()?))
}

/// Takes the brackets off an IPv6 address.
pub(crate) fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_colon() {
        for (text, expected) in [
            ("c.x:10514", Some(("c.x", 10514))),
            ("svc_a:0", Some(("svc_a", 0))),
            ("[2001:db8::7]:5555", Some(("[2001:db8::7]", 5555))),
            ("2001:db8::7:5555", Some(("2001:db8::7", 5555))),
            ("c.x", None),
            ("c.x:", None),
            (":1", None),
            ("c.x:+1", None),
            ("c.x:65536", None),
            ("c.x:1 ", None),
            ("c x:1", None),
            ("c\n.x:1", None),
            ("", None),
        ] {
            assert_eq!(split_host_port(text), expected, "{text:?}");
        }
        assert_eq!(without_brackets("[::1]"), "::1");
        assert_eq!(without_brackets("::1"), "::1");
    }
}
