//! `--sample`: a complete configuration with comments.

/// The document. It can be used as it is, and has each member of the types in `spec::wire`.
pub(super) const SAMPLE: &str = include_str!("sample.json");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{AcceptedSpec, ConfParams};
    use crate::spec::ParsedSpec;
    use crate::spec::document::parse;
    use crate::spec::similar::known_members;
    use crate::spec::wire::ConfigDocument;

    #[test]
    fn it_is_complete_and_usable() {
        let parsed = parse::<ConfigDocument>(SAMPLE.as_bytes()).unwrap();
        assert_eq!(parsed.unknown_members, Vec::<String>::new());
        let config = parsed.value.compute_ctl_config;
        assert_eq!(crate::http::unusable_keys(&config.jwks), []);
        let params = ConfParams {
            privileged_role_name: "r",
            internal_http_port: 1,
            tls: config.tls.as_ref(),
            lakebase_connstr: None,
        };
        let spec = ParsedSpec::try_from(parsed.value.spec.unwrap()).unwrap();
        assert!(spec.odd_safekeepers.is_empty());
        let accepted = AcceptedSpec::new(spec, params).unwrap();
        assert_eq!(accepted.conf().remarks(), Vec::<String>::new());

        // In an example within a comment quotes are escaped.
        let text = SAMPLE.replace("\\\"", "\"");
        let missing: Vec<_> = known_members().into_iter().collect();
        let missing: Vec<_> =
            missing.iter().filter(|name| !text.contains(&format!("\"{name}\": "))).collect();
        // A member of the control plane's answer.
        assert_eq!(missing, ["status"]);
    }
}
