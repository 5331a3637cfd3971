//! `compute_ctl check`: checks a configuration without a compute.
//!
//! The document goes through the same reading, validation and building of `postgresql.conf` as at a
//! start and at `/configure`; optionally the connections to storage are tried. Invariant: nothing
//! is written or changed anywhere, and no secret of the document is printed.

mod plan;
mod probe;
mod redact;
mod report;
mod restart;
mod table;
mod units;

use std::io::Write;

use anyhow::{Context, bail};

use crate::catalog::passwords;
use crate::cli::CheckArgs;
use crate::env::{Environment, OfProcess};
use crate::errors;
use crate::node::{AcceptedSpec, ConfParams};
use crate::sidecars::sidecars::{SidecarParams, Sidecars};
use crate::spec::ParsedSpec;
use crate::spec::document::Parsed;
use crate::spec::source::{read_config, read_spec};
use crate::spec::wire::TlsConfig;
use crate::timeouts::Timeouts;
use crate::tls::{self, TlsPair};
use report::Report;
use restart::ServerSettings;

/// Runs the command. Findings go to stdout, problems to stderr. Returns the exit code: 0, or 1 if a
/// compute could not use the document.
pub fn run(args: &CheckArgs) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::default();
    if let Err(error) = runtime.block_on(check(args, &Timeouts::default(), &mut report)) {
        report.problem(errors::one_line(error.as_ref()));
    }
    std::io::stdout().write_all(report.text.as_bytes()).context("could not write to stdout")?;
    for problem in &report.problems {
        eprintln!("Error: {problem}");
    }
    Ok(u8::from(!report.problems.is_empty()))
}

async fn check(args: &CheckArgs, timeouts: &Timeouts, report: &mut Report) -> anyhow::Result<()> {
    let (path, parsed) = match (&args.config, &args.spec) {
        (Some(path), _) => (path, read_config(path)?),
        (_, Some(path)) => (path, read_spec(path)?),
        // The command line requires one.
        _ => bail!("one of --config and --spec is needed"),
    };
    let Parsed { value: document, unknown_members } = parsed;
    for member in unknown_members {
        report.line(format_args!("unknown member: {member}"));
    }
    match document.spec {
        None => report.line("there is no spec: a compute would start empty, for /configure"),
        Some(spec) => {
            let spec = ParsedSpec::try_from(spec).context("the spec cannot be used")?;
            let tls = document.compute_ctl_config.tls.as_ref();
            check_spec(args, timeouts, spec, tls, report).await?;
        }
    }
    if report.problems.is_empty() {
        report.line(format_args!("{} can be used", path.display()));
    }
    Ok(())
}

async fn check_spec(
    args: &CheckArgs,
    timeouts: &Timeouts,
    spec: ParsedSpec,
    tls: Option<&TlsConfig>,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.line(format_args!(
        "mode {}, tenant {}, timeline {}, {} shard(s), {} safekeeper(s)",
        spec.mode(),
        spec.tenant_id,
        spec.timeline_id,
        spec.pageserver.indexes().count(),
        spec.safekeepers.len()
    ));
    let params = ConfParams {
        privileged_role_name: &args.privileged_role_name,
        internal_http_port: args.internal_http_port,
        tls,
        // The command does not know the mode of the process.
        lakebase_connstr: None,
    };
    let accepted = AcceptedSpec::new(spec, params).context("the spec cannot be used")?;
    let (spec, conf) = (accepted.spec(), accepted.conf());
    for unreadable in conf.unreadable() {
        report.problem(unreadable);
    }
    let is_problem = |remark: &str| conf.unreadable().iter().any(|u| u.to_string() == remark);
    for remark in conf.remarks().iter().filter(|remark| !is_problem(remark)) {
        report.line(format_args!("remark: {remark}"));
    }
    // A plan includes these checks.
    if !args.plan {
        for remark in spec.spec.cluster.roles.iter().filter_map(passwords::remark) {
            report.line(format_args!("remark: {remark}"));
        }
    }
    check_surroundings(spec, tls, report);
    if args.probe {
        probe::probe(spec, probe::LIMIT, report).await;
    }
    if args.plan
        && let Some(connstr) = &args.connstr
    {
        plan::plan(spec, &args.privileged_role_name, connstr, timeouts, report).await?;
    }
    if args.show_conf {
        let server = match &args.connstr {
            Some(connstr) => Some(ServerSettings::ask(connstr, timeouts).await?),
            None => None,
        };
        report.text.push_str(&table::table(&conf.settings(), server.as_ref()));
    }
    Ok(())
}

/// Checks the needs of the spec besides storage: an unusable certificate is a problem; a missing
/// collector of audit records is only a remark, since the compute may have another environment than
/// this command.
fn check_surroundings(spec: &ParsedSpec, tls: Option<&TlsConfig>, report: &mut Report) {
    if let Some(files) = tls::active_config(tls, &spec.spec)
        && let Err(error) = TlsPair::load(files)
    {
        report.problem(error);
    }
    match Environment::read(&OfProcess) {
        Ok(environment) => {
            let side = SidecarParams::new(&environment);
            let side = Sidecars::new(side, Timeouts::default().sidecars);
            if let Err(error) = side.check(&spec.spec) {
                report.line(format_args!("remark: {error}"));
            }
        }
        Err(error) => report.line(format_args!("remark: {error}")),
    }
}
