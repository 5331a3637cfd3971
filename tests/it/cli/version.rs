//! `compute_ctl --version`: which build this is.

use crate::support::process::client;

#[tokio::test]
async fn the_long_form_has_a_line_for_each_input_of_the_build() {
    let long = client(&["--version"]).await;
    assert_eq!((long.code, long.stderr.as_str()), (Some(0), ""), "{long:?}");
    let mut lines = long.stdout.lines();
    assert_eq!(lines.next(), Some(concat!("compute_ctl ", env!("CARGO_PKG_VERSION"))));
    let [hash, tag, features, target] = ["git hash: ", "build tag: ", "features: ", "target: "]
        .map(|name| {
            let line = lines.next().unwrap_or_default();
            line.strip_prefix(name).unwrap_or_else(|| panic!("{name}: {long:?}")).to_owned()
        });
    assert_eq!(lines.next(), None);
    assert!(hash == "unknown" || hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
    assert!(!tag.is_empty());
    assert!(["none", "testing"].contains(&features.as_str()), "{features}");
    let processor = std::env::consts::ARCH;
    assert!(target.starts_with(processor) && target.contains("linux"), "{target}");

    let short = client(&["-V"]).await;
    let line = format!("compute_ctl {} (build tag {tag})\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((short.code, short.stdout), (Some(0), line));
}
