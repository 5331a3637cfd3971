//! Has the Postgres that a start would use read the settings, as an ordinary user, in a folder of its
//! own.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::report::Report;
use crate::cli::CheckArgs;
use crate::env::{OfProcess, Variables, server_folders};
use crate::node::AcceptedSpec;
use crate::os::children::Children;
use crate::os::privileges;
use crate::postgres::conf::split_libraries;
use crate::postgres::install::PgInstall;
use crate::postgres::staged::{AskError, StagedConf};

const PRELOAD: &str = "shared_preload_libraries";
/// Why Postgres' part of the check is missing.
const NOT_ASKED: &str = "whether PostgreSQL takes the settings was not checked";

/// Adds what Postgres says about the settings. Without a Postgres the report says so.
pub(super) async fn ask(
    args: &CheckArgs,
    accepted: &AcceptedSpec,
    limit: Duration,
    report: &mut Report,
) {
    let Some(program) = args.pgbin.clone().or_else(found) else {
        report.warning(format_args!(
            "{NOT_ASKED}: there is no program `postgres` in PATH; give its path with --pgbin"
        ));
        return;
    };
    let children = Children::new();
    let path = OfProcess.get("PATH");
    let install = match PgInstall::discover(&program, path.as_deref(), &children, limit).await {
        Ok(install) => install,
        Err(error) if args.pgbin.is_some() => return report.problem(error),
        Err(error) => return report.warning(format_args!("{NOT_ASKED}: {error}")),
    };
    let said = read_by(&install, args, accepted, &children, limit).await;
    let shown = install.postgres.display();
    match said {
        Ok(()) => report.line(format_args!(
            "PostgreSQL {} ({shown}) takes the settings",
            install.version.major()
        )),
        Err(error) => match error.downcast::<AskError>() {
            Ok(AskError::Refused(refused)) => report.problem(format_args!("{shown}: {refused}")),
            Ok(AskError::NoAnswer(error)) if args.pgbin.is_some() => report.problem(error),
            Ok(AskError::NoAnswer(error)) => report.warning(format_args!("{NOT_ASKED}: {error}")),
            Err(error) => report.warning(format_args!("{NOT_ASKED}: {error:#}")),
        },
    }
    for library in missing_libraries(&install, accepted) {
        let folder = install.pkglibdir.as_deref().unwrap_or(Path::new("")).display();
        let path = format!("spec.cluster.settings[{PRELOAD}]");
        report.problem_at(
            &path,
            format_args!(
                "{PRELOAD} names `{library}`, but {folder} has no such library, so {shown} would not \
                 start: use a Postgres that has it (--pgbin), or take `{library}` out of the setting"
            ),
        );
    }
}

/// The one that a start would use, or else one of `COMPUTE_CTL_PG_PATH`.
fn found() -> Option<PathBuf> {
    let path = OfProcess.get("PATH");
    let in_path = path.iter().flat_map(std::env::split_paths).collect::<Vec<_>>();
    let mut folders = in_path.into_iter().chain(server_folders(&OfProcess));
    folders.find_map(|folder| Some(folder.join("postgres")).filter(|it| it.is_file()))
}

async fn read_by(
    install: &PgInstall,
    args: &CheckArgs,
    accepted: &AcceptedSpec,
    children: &Children,
    limit: Duration,
) -> anyhow::Result<()> {
    let user = privileges::user_for_postgres(args.wanted_user())?;
    let folder = tempfile::tempdir().context("could not make a temporary folder")?;
    if let Some((uid, gid)) = user {
        chown(folder.path(), Some(uid), Some(gid))
            .with_context(|| format!("could not hand over {}", folder.path().display()))?;
    }
    let staged = StagedConf::new(folder.path(), accepted.conf())?;
    Ok(staged.ask(install, user, children, limit).await?)
}

/// Libraries that the file preloads, the installation lacks and no remote extension provides.
fn missing_libraries(install: &PgInstall, accepted: &AcceptedSpec) -> Vec<String> {
    let conf = accepted.conf();
    // With this setting Postgres searches other folders than this check.
    if conf.value_in_force("dynamic_library_path").is_some() {
        return Vec::new();
    }
    let remote = accepted.spec().spec.remote_extensions.as_ref();
    let is_remote = |library: &str| remote.is_some_and(|it| it.library_index.contains_key(library));
    let value = conf.value_in_force(PRELOAD);
    let libraries = value.map(|value| split_libraries(value.expose())).unwrap_or_default();
    let by_name = libraries.into_iter().map(|library| {
        let name = library.strip_prefix("$libdir/").unwrap_or(&library);
        name.strip_suffix(".so").unwrap_or(name).to_owned()
    });
    let here = by_name.filter(|library| !library.contains('/') && !is_remote(library));
    here.filter(|library| install.has_library(library) == Some(false)).collect()
}
