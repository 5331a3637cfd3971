//! `compute_ctl dev`: a compute with stand-in storage in this process.
//!
//! Finds a Postgres, makes a base from it, serves the base with a stand-in pageserver and stand-in
//! safekeepers, writes a configuration, and then runs an ordinary compute: with the ordinary
//! command line and the real protocol in every step. After a clean end the data directory replaces
//! a kept base. With `--storage-only` no compute is run: see [`storage_only`].

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, bail};
use clap::Parser;
use tokio_util::sync::CancellationToken;

use super::progress::{self, say};
use super::servers::{self, Server};
use super::storage::{self, Storage};
use super::storage_only;
use super::store::{self, Store};
use super::template::Template;
use crate::cli::{Cli, DevArgs, RunArgs};
use crate::driver::Stop;
use crate::env::Environment;
use crate::life::{Compute, OnHangup, Process};
use crate::os::denied::explained;
use crate::os::privileges::{self, Wanted};
use crate::os::secret_files;
use crate::os::signals::{self, Inherited};
use crate::postgres::limits::PostgresLimits;
use crate::server::LOOPBACK;
use crate::startup::stale;
use crate::state::{ComputeStatus, TerminateMode};
use crate::telemetry::form::{Form, LogFormat};
use crate::telemetry::logging;
use crate::telemetry::sink::{FLUSH_LIMIT, LogSink};
use crate::telemetry::traces;

/// Id of the compute.
const COMPUTE_ID: &str = "dev";

const OK: u8 = 0;
const FAILURE: u8 = 1;

/// Runs the command to its end. Returns the exit code of the process.
pub fn run(args: DevArgs, inherited: Inherited) -> anyhow::Result<u8> {
    signals::hold_back(true).context("could not block signals")?;
    let on_hangup = if inherited.hangup_ignored { OnHangup::Ignore } else { OnHangup::End };
    // As root: root may read files with secrets that the user may not.
    let mut environment = secret_files::environment()?;
    // Must run with a single thread, because the user of a process applies to all threads.
    let wanted = Wanted::from(args.run_as.as_deref(), args.run_as_by_variable);
    privileges::step_down(wanted, args.data.as_deref())?;
    environment.otel = environment.otel.only_if_named();
    // Must run before the reaper starts, because it runs programs as plain child processes.
    let server = servers::choose(args.pgbin.as_deref())?;
    let store = Store::open(args.data.as_deref())?;
    let format = args.log_format;
    let log = if args.verbose {
        let journal = environment.journal_stream.as_deref();
        LogSink::formed(std::io::stderr(), Form::for_stderr(format, Some(COMPUTE_ID), journal))?
    } else {
        let path = store.path(store::LOG);
        let file = File::create(&path)
            .map_err(|error| explained(error, &path))
            .with_context(|| format!("could not write the log {}", path.display()))?;
        LogSink::formed(file, Form::plain(format, Some(COMPUTE_ID)))?
    };
    logging::init(environment.log_filter.as_deref(), log.clone(), None);

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        let process = Process::start(&environment, log.clone(), Stop::default(), on_hangup)?;
        process.children.end_with_us();
        // The first line appears once Ctrl-C is handled.
        say(format_args!("PostgreSQL {} from {}", server.version, server.bin_dir.display()));
        let (stopped, at_once) = (process.stop.requested.clone(), process.stop.at_once.clone());
        if args.storage_only {
            let ended = tokio::select! {
                ended = storage_only::run(&args, &server, &store, &process) => ended,
                () = stopped.cancelled() => Ok(()),
            };
            return ended.map(|()| OK);
        }
        let session = tokio::select! {
            session = Session::set_up(&args, &environment, server, &store, &process) => session?,
            () = stopped.cancelled() => return Ok(OK),
        };
        let as_record = args.verbose && args.log_format == LogFormat::Json;
        let code = session.run(&store, &at_once, as_record).await;
        process.traces.end(traces::END_LIMIT).await;
        code
    });
    runtime.shutdown_background();
    log.flush(FLUSH_LIMIT);
    code
}

/// The stand-ins and the compute that uses them.
struct Session {
    compute: Compute,
    server: Server,
    base: Template,
    port: u16,
    /// Where the external server can be asked.
    api_address: IpAddr,
    // It serves until it is dropped.
    _storage: Storage,
}

impl Session {
    async fn set_up(
        args: &DevArgs,
        environment: &Environment,
        server: Server,
        store: &Store,
        process: &Process,
    ) -> anyhow::Result<Self> {
        let pgdata = store.pgdata();
        if pgdata.exists() {
            // The Postgres of a killed run may still be running.
            stale::stop_stale(&pgdata, &PostgresLimits::default()).await?;
        }
        if let Some(lost) = store.lost() {
            say(format_args!("{lost}"));
        }
        let port = storage::free_port(args.port)?;
        let base = store.base_with_wal(&server, &process.children).await?;
        let storage = Storage::on_free_ports(&base, args.safekeepers).await?;
        storage::write_config(&storage.spec(args, store, port), &store.path(store::CONFIG))?;

        let run = arguments(args, &server, store, port)?;
        let compute = Compute::prepare(&run, environment, None, Vec::new(), process).await?;
        let named = args.external_http_bind.iter().copied();
        let api_address = named.filter(|it| !it.is_unspecified()).min();
        let api_address = api_address.unwrap_or(Ipv4Addr::LOCALHOST.into());
        Ok(Self { compute, server, base, port, api_address, _storage: storage })
    }

    /// `as_record`: an error is a record of the log on stderr.
    async fn run(
        self,
        store: &Store,
        at_once: &CancellationToken,
        as_record: bool,
    ) -> anyhow::Result<u8> {
        let Self { compute, server, base, port, api_address, .. } = self;
        let node = std::sync::Arc::clone(&compute.node);
        let (api_port, _) = compute.http_ports();
        let archive_bytes = std::fs::metadata(&base.archive).map_or(0, |meta| meta.len());

        say("starting the compute");
        let compute = tokio::spawn(compute.run());
        let failed = match progress::show(&node, archive_bytes).await {
            ComputeStatus::Running => {
                if let Err(error) = store.begin_changes() {
                    say(format_args!("{error:#}"));
                }
                let total = node.startup_metrics().total_startup_ms;
                say(format_args!(
                    "running after {total} ms\n\n  \
                     psql {}\n  \
                     curl http://{}/status\n\n\
                     stop with Ctrl-C{}",
                    connection_string(port),
                    SocketAddr::new(api_address, api_port),
                    if store.is_kept() {
                        ""
                    } else {
                        "; everything is temporary, --data DIR keeps it"
                    }
                ));
                false
            }
            ComputeStatus::Failed => {
                let error = node.status_document().error.unwrap_or_default();
                let line = if as_record {
                    node.log.form().failure(&error)
                } else {
                    let advice = "(the log of everything is shown with --verbose)";
                    format!("Error: {error}\n{advice}\n").into_bytes()
                };
                // Only the user at the terminal reads it.
                let _ = std::io::stderr().write_all(&line);
                // Only the user at the terminal reads the error.
                let _ = node.terminate(TerminateMode::Immediate).await;
                true
            }
            _ => false,
        };
        let code = compute.await.context("the compute ended by a panic")?;
        if failed {
            return Ok(FAILURE);
        }
        if code != OK {
            bail!("the compute ended by itself with code {code}; --verbose shows its log");
        }
        // An interrupted start leaves an incomplete data directory.
        let ran = node.startup_metrics().total_startup_ms > 0;
        if store.is_kept() && ran {
            if at_once.is_cancelled() {
                bail!(
                    "this run was ended at once, so what it changed is lost; the next run starts \
                     from the end of the last good one"
                );
            }
            say("keeping the data for the next run");
            store.take_back().await.context(
                "the data directory could not be taken back; the base of the last good run is kept",
            )?;
            say(format_args!("kept, for PostgreSQL {}", server.major));
        }
        Ok(OK)
    }
}

fn connection_string(port: u16) -> String {
    format!("postgresql://cloud_admin@127.0.0.1:{port}/postgres")
}

/// The ordinary command line of a compute.
fn arguments(args: &DevArgs, server: &Server, store: &Store, port: u16) -> anyhow::Result<RunArgs> {
    let addresses = match args.external_http_bind.as_slice() {
        [] => LOOPBACK.to_vec(),
        named => named.to_vec(),
    };
    let line: [(&str, OsString); 9] = [
        ("--pgbin", server.postgres.clone().into()),
        ("--pgdata", store.pgdata().into()),
        ("--connstr", connection_string(port).into()),
        ("--config", store.path(store::CONFIG).into()),
        ("--compute-id", COMPUTE_ID.into()),
        ("--external-http-port", args.external_http_port.to_string().into()),
        ("--internal-http-port", args.internal_http_port.to_string().into()),
        // Ctrl-C is the normal way to end the command.
        ("--signal-exit-code", OK.to_string().into()),
        ("--stop-timeout", "30".into()),
    ];
    let addresses =
        addresses.iter().map(|it| ("--external-http-bind", OsString::from(it.to_string())));
    let flags = line.into_iter().chain(addresses).flat_map(|(flag, value)| [flag.into(), value]);
    let line = std::iter::once("compute_ctl".into()).chain(flags).chain(["--dev".into()]);
    Ok(Cli::try_parse_from(line)?.run)
}
