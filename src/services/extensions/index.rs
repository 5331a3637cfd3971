//! Which extension a request means, and where its archive is (02 §10.2, §10.3). Pure.

use thiserror::Error;
use url::Url;

use crate::postgres::install::PgVersion;
use crate::spec::wire::RemoteExtensions;
use crate::telemetry::metrics::BUILD_TAG;

/// Why a name has no archive. Clients see these texts with status 404.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ResolveError {
    /// Not in `library_index`.
    #[error("library {0} is not found")]
    Library(String),
    /// In neither list of extensions that this compute may use.
    #[error("extension {0} is not found")]
    Extension(String),
    /// Allowed, but the spec has no data of it.
    #[error("real_ext_name {0} is not found")]
    Data(String),
}

/// The extension that a request of Postgres means: the name itself, or the extension that a library
/// belongs to. A library name never matches an extension, or the reverse.
///
/// # Errors
/// See [`ResolveError`].
pub(crate) fn resolve<'a>(
    index: &'a RemoteExtensions,
    name: &'a str,
    is_library: bool,
) -> Result<&'a str, ResolveError> {
    let extension = if is_library {
        let library = without_suffix(name);
        let extension = index.library_index.get(library);
        extension.ok_or_else(|| ResolveError::Library(library.to_owned()))?
    } else {
        name
    };
    if !is_allowed(index, extension) {
        return Err(ResolveError::Extension(extension.to_owned()));
    }
    if !index.extension_data.contains_key(extension) {
        return Err(ResolveError::Data(extension.to_owned()));
    }
    Ok(extension)
}

/// Whether this compute may use an extension. A missing list counts as empty.
pub(crate) fn is_allowed(index: &RemoteExtensions, extension: &str) -> bool {
    let lists = [&index.public_extensions, &index.custom_extensions];
    lists.into_iter().flatten().flatten().any(|allowed| allowed == extension)
}

/// Whether the lists keep an extension's control files away: both are present, and it is in neither
/// (02 §10.4). A control plane that leaves a list out has not said which extensions there are.
pub(crate) fn is_excluded(index: &RemoteExtensions, extension: &str) -> bool {
    index.public_extensions.is_some()
        && index.custom_extensions.is_some()
        && !is_allowed(index, extension)
}

/// Name of a library without `.so` or `.so.` and the rest. Only a suffix is cut: a name such as
/// `x.sob` has none (02 W20).
fn without_suffix(library: &str) -> &str {
    let is_suffix = |rest: &str| {
        rest.is_empty()
            || rest
                .strip_prefix('.')
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let mut places = library.match_indices(".so");
    let suffix = places.find(|(at, so)| library.get(at + so.len()..).is_some_and(is_suffix));
    suffix.and_then(|(at, _)| library.get(..at)).unwrap_or(library)
}

/// Name of an archive: key of the fetched archives, and label of the metric.
pub(crate) fn file_name(extension: &str) -> String {
    format!("{extension}.tar.zst")
}

/// Address of an archive below the gateway, whose own path is kept. An extension's name is always
/// one part of the path, because special characters are escaped.
pub(crate) fn archive_url(gateway: &Url, version: PgVersion, extension: &str) -> Url {
    let mut url = gateway.clone();
    // The request of an address that cannot have a path fails later.
    if let Ok(mut parts) = url.path_segments_mut() {
        let (version, file) = (version.to_string(), file_name(extension));
        parts.pop_if_empty().extend([BUILD_TAG, arch(), &version, "extensions", &file]);
    }
    url
}

/// The processor architecture, under its name in Go.
const fn arch() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "amd64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        std::env::consts::ARCH
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn index() -> RemoteExtensions {
        let data = json!({"control_data": {}, "archive_path": "ignored"});
        serde_json::from_value(json!({
            "public_extensions": ["hypo_geo", "nodata"],
            "custom_extensions": ["own"],
            "library_index": {"hypo_geo-2": "hypo_geo", "hypo": "hypo_geo", "l": "locked"},
            "extension_data": {"hypo_geo": data, "own": data, "locked": data},
        }))
        .unwrap()
    }

    #[test]
    fn names_and_libraries() {
        let index = index();
        let cases = [
            ("hypo_geo", false, Ok("hypo_geo")),
            ("own", false, Ok("own")),
            ("hypo_geo-2.so", true, Ok("hypo_geo")),
            ("hypo_geo-2", true, Ok("hypo_geo")),
            ("hypo.so.3", true, Ok("hypo_geo")),
            ("hypo.so.3.1", true, Ok("hypo_geo")),
            ("hypo", false, Err("extension hypo is not found")),
            ("hypo_geo", true, Err("library hypo_geo is not found")),
            ("hypo.sob", true, Err("library hypo.sob is not found")),
            ("zzz.so.3", true, Err("library zzz is not found")),
            ("l.so", true, Err("extension locked is not found")),
            ("locked", false, Err("extension locked is not found")),
            ("nodata", false, Err("real_ext_name nodata is not found")),
            ("", true, Err("library  is not found")),
        ];
        for (name, is_library, expected) in cases {
            let found = resolve(&index, name, is_library).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{name}");
        }
    }

    #[test]
    fn a_missing_list_is_an_empty_one() {
        let mut index = index();
        index.public_extensions = None;
        assert!(is_allowed(&index, "own") && !is_allowed(&index, "hypo_geo"));
        index.custom_extensions = None;
        assert!(!is_allowed(&index, "own"));
    }

    #[test]
    fn only_two_lists_exclude() {
        let named = || Some(vec!["own".to_owned()]);
        for (public, custom, excludes) in [
            (None, None, false),
            (None, named(), false),
            (named(), None, false),
            (Some(Vec::new()), None, false),
            (named(), Some(Vec::new()), true),
            (Some(Vec::new()), Some(Vec::new()), true),
        ] {
            let mut index = index();
            let named = [&public, &custom].into_iter().flatten().flatten().count() > 0;
            index.public_extensions = public;
            index.custom_extensions = custom;
            assert_eq!(is_excluded(&index, "locked"), excludes, "{index:?}");
            assert_eq!(is_excluded(&index, "own"), excludes && !named, "{index:?}");
        }
    }

    #[test]
    fn suffixes() {
        for (library, expected) in [
            ("a.so", "a"),
            ("a.so.12", "a"),
            ("a.solid.so", "a.solid"),
            ("a.so.x", "a.so.x"),
            (".so", ""),
            ("ä.so", "ä"),
            ("a", "a"),
        ] {
            assert_eq!(without_suffix(library), expected);
        }
    }

    #[test]
    fn addresses() {
        let url = |base: &str, extension: &str| {
            archive_url(&Url::parse(base).unwrap(), PgVersion::V17, extension).to_string()
        };
        let arch = arch();
        assert_eq!(
            url("http://ext-gw.example/pg-ext/", "hypo_geo"),
            format!(
                "http://ext-gw.example/pg-ext/{BUILD_TAG}/{arch}/v17/extensions/hypo_geo.tar.zst"
            )
        );
        assert_eq!(
            url("http://ext-gw.example", "../a b?c"),
            format!(
                "http://ext-gw.example/{BUILD_TAG}/{arch}/v17/extensions/..%2Fa%20b%3Fc.tar.zst"
            )
        );
    }
}
