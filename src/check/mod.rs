//! `compute_ctl check`: checks a configuration without a compute.
//!
//! The document goes through the same reading, validation and building of `postgresql.conf` as at a
//! start and at `/configure`, and the Postgres that a start would use reads the settings; optionally
//! the connections to storage are tried. Invariant: nothing is changed, files are only written in a
//! folder of its own that is removed, and no secret of the document is printed.

mod plan;
mod probe;
mod redact;
mod report;
mod restart;
mod sample;
mod server;
mod table;
mod units;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use tokio_postgres::Config;

use crate::catalog::passwords;
use crate::catalog::plan::check_document;
use crate::cli::{CGROUP, CheckArgs};
use crate::env::Environment;
use crate::errors;
use crate::http::unusable_keys;
use crate::node::{AcceptedSpec, ConfParams, check_port, parse_connstr_of};
use crate::os::privileges::{self, Wanted};
use crate::os::secret_files;
use crate::postgres::process::require_cgexec;
use crate::secret::Secret;
use crate::sidecars::sidecars::{SidecarParams, Sidecars};
use crate::spec::ParsedSpec;
use crate::spec::document::{Parsed, did_you_mean};
use crate::spec::source::{SourceError, config_within, spec_within};
use crate::spec::wire::{Jwks, TlsConfig};
use crate::timeouts::Timeouts;
use crate::tls::{self, TlsPair};
use crate::vm_monitor::cgroup::{CGROUP_ROOT, Reader};
use report::Report;
use restart::ServerSettings;

/// Runs the command. Findings go to stdout, errors to stderr; with `--json` all of them go to stdout.
/// Returns the exit code: 0, or 1 if a compute could not use the document.
pub fn run(mut args: CheckArgs) -> anyhow::Result<u8> {
    let mut stdout = std::io::stdout();
    if args.sample {
        return sample();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::default();
    let checked = match args.read_connstr() {
        Ok(()) => runtime.block_on(check(&args, &Timeouts::default(), &mut report)),
        Err(error) => Err(error.into()),
    };
    if let Err(error) = checked {
        let member = error.downcast_ref().and_then(SourceError::member);
        report.problem_at(member.unwrap_or_default(), errors::report(&error));
    }
    let (text, errors) = if args.json { (report.json()?, String::new()) } else { report.texts() };
    stdout.write_all(text.as_bytes()).context("could not write to stdout")?;
    eprint!("{errors}");
    Ok(u8::from(!report.is_usable()))
}

/// Prints a complete configuration. Returns the exit code.
///
/// # Errors
/// It cannot be written to stdout.
pub fn sample() -> anyhow::Result<u8> {
    let sample = sample::SAMPLE.as_bytes();
    std::io::stdout().write_all(sample).context("could not write to stdout")?;
    Ok(0)
}

async fn check(args: &CheckArgs, timeouts: &Timeouts, report: &mut Report) -> anyhow::Result<()> {
    // As at a start: a pipe may have no writer.
    let limit = timeouts.control_plane.start.file;
    let (path, parsed) = match (&args.config, &args.spec) {
        (Some(path), _) => (path, config_within(path, limit)?),
        (_, Some(path)) => (path, spec_within(path, limit)?),
        // The command line requires one.
        _ => bail!("one of --config and --spec is needed"),
    };
    let Parsed { value: document, unknown_members } = parsed;
    for member in &unknown_members {
        check_unknown(member, args.strict, report);
    }
    if args.config.is_some() {
        check_keys(&document.compute_ctl_config.jwks, report);
    }
    let environment = check_environment(args, report);
    let parse =
        |text: &Secret<String>| parse_connstr_of(text.expose(), args.connstr_file.as_deref());
    let connstr = args.connstr.as_ref().map(parse).transpose()?.map(|(_, config)| config);
    match document.spec {
        None => report.line("there is no spec: a compute would start empty, for /configure"),
        Some(spec) => {
            let unusable = || format!("the spec cannot be used ({})", path.display());
            let spec = ParsedSpec::try_from(spec).with_context(unusable)?;
            let tls = document.compute_ctl_config.tls.as_ref();
            let params = ConfParams {
                privileged_role_name: &args.privileged_role_name,
                internal_http_port: args.internal_http_port,
                tls,
                // The command does not know the mode of the process.
                lakebase_connstr: None,
            };
            let accepted = AcceptedSpec::new(spec, params).with_context(unusable)?;
            check_spec(args, timeouts, &accepted, connstr.as_ref(), report).await?;
            check_surroundings(accepted.spec(), tls, environment.as_ref(), report);
        }
    }
    if report.is_usable() {
        report.line(format_args!("{} can be used", path.display()));
    }
    Ok(())
}

fn check_unknown(member: &str, is_error: bool, report: &mut Report) {
    let name = member.rsplit_once('.').map_or(member, |(_, name)| name);
    let hint = did_you_mean(name).map(|hint| format!(", {hint}")).unwrap_or_default();
    let message = format!("unknown member: {member}{hint}");
    if is_error {
        report.problem_at(member, message);
    } else {
        report.warning_at(member, message);
    }
}

/// A start only warns of an unusable key, and then lets none of its holders in.
fn check_keys(jwks: &Jwks, report: &mut Report) {
    for (index, reason) in unusable_keys(jwks) {
        let path = format!("compute_ctl_config.jwks.keys[{index}]");
        report.problem_at(&path, format_args!("{path} cannot be used: {reason}"));
    }
    if jwks.keys.is_empty() {
        let path = "compute_ctl_config.jwks.keys";
        let message =
            "has no keys: the external HTTP server refuses all requests that need a token";
        report.warning_at(path, format_args!("{path} {message}"));
    }
}

async fn check_spec(
    args: &CheckArgs,
    timeouts: &Timeouts,
    accepted: &AcceptedSpec,
    connstr: Option<&Config>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (spec, conf) = (accepted.spec(), accepted.conf());
    report.line(format_args!(
        "mode {}, tenant {}, timeline {}, {} shard(s), {} safekeeper(s)",
        spec.mode(),
        spec.tenant_id,
        spec.timeline_id,
        spec.pageserver.indexes().count(),
        spec.safekeepers.len().saturating_add(spec.odd_safekeepers.len())
    ));
    for number in &spec.odd_safekeepers {
        report.warning(format_args!(
            "safekeeper no. {number} is not of the form host:port: a start skips the quick check of \
             the safekeepers, and Postgres decides whether it can use the entry"
        ));
    }
    for unreadable in conf.unreadable() {
        let path = format!("spec.cluster.settings[{}]", unreadable.name);
        report.problem_at(&path, unreadable);
    }
    if spec.applies_catalog()
        && let Err(refused) = check_document(&spec.spec)
    {
        report.problem(refused);
    }
    let is_problem = |remark: &str| conf.unreadable().iter().any(|u| u.to_string() == remark);
    for remark in conf.remarks().iter().filter(|remark| !is_problem(remark)) {
        report.warning(remark);
    }
    // A plan includes these checks.
    if !args.plan {
        for remark in spec.spec.cluster.roles.iter().filter_map(passwords::remark) {
            report.warning(remark);
        }
    }
    if let Some(connstr) = connstr
        && let Err(other) = check_port(connstr, conf)
    {
        // What is compared with may be reached through a forwarded port.
        if other.is_certain() && !args.plan && !args.show_conf {
            report.problem_at("spec.cluster.settings[port]", other);
        } else {
            report.warning_at("spec.cluster.settings[port]", other);
        }
    }
    // Postgres would only say the same once more.
    if conf.unreadable().is_empty() {
        server::ask(args, accepted, timeouts.postgres.helper, report).await;
    }
    if args.probe {
        probe::probe(spec, probe::LIMIT, report).await;
    }
    if args.plan
        && let Some(connstr) = &args.connstr
    {
        plan::plan(spec, &args.privileged_role_name, connstr.expose(), timeouts, report).await?;
    }
    if args.show_conf {
        let server = match &args.connstr {
            Some(connstr) => Some(ServerSettings::ask(connstr.expose(), timeouts).await?),
            None => None,
        };
        report.line(table::table(&conf.settings(), server.as_ref()).trim_end());
    }
    Ok(())
}

impl CheckArgs {
    fn wanted_user(&self) -> Option<Wanted<'_>> {
        Wanted::from(self.run_as.as_deref(), self.run_as_by_variable)
    }
}

/// Without these a start ends at once, whatever the document is.
fn check_environment(args: &CheckArgs, report: &mut Report) -> Option<Environment> {
    // Without a named user, a start may be meant for a machine that has the default one.
    if args.run_as.is_some()
        && let Err(error) = privileges::user_for_postgres(args.wanted_user())
    {
        report.problem(error);
    }
    let environment = match secret_files::environment() {
        Ok(environment) => environment,
        Err(error) => {
            report.problem(error);
            return None;
        }
    };
    if environment.autoscaling
        && let Err(error) = require_cgexec(environment.path.as_deref())
    {
        report.problem(error);
    }
    check_cgroup(&environment, report);
    Some(environment)
}

/// Looks at the cgroup that the VM monitor of such a compute would watch by default.
fn check_cgroup(environment: &Environment, report: &mut Report) {
    if !environment.autoscaling {
        return;
    }
    let root = environment.cgroup_root.as_deref().unwrap_or(Path::new(CGROUP_ROOT));
    let mut reader = Reader::new(root, CGROUP);
    match reader.read() {
        Ok(bytes) => report.line(format_args!(
            "the memory of the cgroup {} can be read: {} MiB in use",
            root.join(CGROUP).display(),
            bytes >> 20
        )),
        Err(error) => report.warning(format_args!(
            "the VM monitor could not watch the memory of the cgroup {}: {}",
            root.join(CGROUP).display(),
            errors::one_line(&error)
        )),
    }
}

/// Checks the needs of the spec besides storage: an unusable certificate is a problem; a missing
/// collector of audit records is only a remark, since the compute may have another environment than
/// this command.
fn check_surroundings(
    spec: &ParsedSpec,
    tls: Option<&TlsConfig>,
    environment: Option<&Environment>,
    report: &mut Report,
) {
    if let Some(files) = tls::active_config(tls, &spec.spec)
        && let Err(error) = TlsPair::load(files)
    {
        report.problem(error);
    }
    if let Some(environment) = environment {
        let side = Sidecars::new(SidecarParams::new(environment), Timeouts::default().sidecars);
        if let Err(error) = side.check(&spec.spec) {
            report.warning(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    #[tokio::test]
    async fn a_pipe_without_a_writer_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut timeouts = Timeouts::default();
        timeouts.control_plane.start.file = Duration::from_millis(50);
        for flag in ["--config", "--spec"] {
            let line = ["compute_ctl", "check", flag, pipe.to_str().unwrap()];
            let Some(Command::Check(args)) = Cli::try_parse_from(line).unwrap().command else {
                panic!("not the check command")
            };
            let error = check(&args, &timeouts, &mut Report::default()).await.unwrap_err();
            assert!(error.to_string().contains("gave no content within"), "{error:?}");
        }
    }
}
