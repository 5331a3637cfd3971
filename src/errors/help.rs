//! What to do about a failure, by its phase: for `compute_ctl status` and the page. The error itself
//! says what failed; this says where to look next.

/// Advice on failures in one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Help {
    /// One sentence.
    pub advice: &'static str,
    /// Where the messages of this phase are explained.
    pub page: &'static str,
}

/// Advice on failures in a phase, by its name in `/status`; general advice for an unknown one.
pub(crate) fn help(phase: &str) -> Help {
    let (advice, page) = match phase {
        "certificate" => (
            "Look at the files of compute_ctl_config.tls: both must exist, belong together, and be \
             readable for the user of Postgres.",
            "docs/how-to/debug-a-failed-start.md#status-failed-tls",
        ),
        "stale_processes" | "prepare_directory" => (
            "Look at the data directory: what is in it, who owns it, and which process uses it.",
            "docs/how-to/debug-a-failed-start.md#status-failed-pgdata",
        ),
        "safekeeper_check" | "safekeeper_sync" | "basebackup" => (
            "Find out whether storage answers: compute_ctl check --config FILE --probe asks the \
             safekeepers and the pageserver.",
            "docs/how-to/debug-a-failed-start.md#status-failed-storage",
        ),
        "start_postgres" => (
            "Read the last lines of Postgres in the error and in the log; compute_ctl check --config \
             FILE finds settings that Postgres refuses.",
            "docs/how-to/debug-a-failed-start.md#status-failed-postgres",
        ),
        "apply_catalog" => (
            "Correct the role or database that the error names; compute_ctl check --config FILE --plan \
             shows what would be changed.",
            "docs/how-to/debug-a-failed-start.md#status-failed-catalog",
        ),
        "fetch_configuration"
        | "check_configuration"
        | "log_export"
        | "write_configuration"
        | "reload" => (
            "Correct the configuration at its source and send it again; compute_ctl check --config \
             FILE says whether it can be used.",
            "docs/how-to/debug-a-failed-start.md#it-runs-but",
        ),
        _ => (
            "Look for the lowest cause of the error on this page.",
            "docs/how-to/debug-a-failed-start.md",
        ),
    };
    Help { advice, page }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_exist() {
        let page = include_str!("../../docs/how-to/debug-a-failed-start.md");
        let anchors: Vec<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix("## "))
            .map(|title| title.to_lowercase().replace([':', ','], "").replace(' ', "-"))
            .collect();
        for phase in [
            "certificate",
            "prepare_directory",
            "basebackup",
            "start_postgres",
            "apply_catalog",
            "reload",
        ] {
            let (_, anchor) = help(phase).page.split_once('#').unwrap();
            assert!(anchors.iter().any(|it| it == anchor), "{phase}: {anchor} of {anchors:?}");
        }
        assert_eq!(help("").page, help("anything").page);
    }
}
