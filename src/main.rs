//! `compute_ctl`: the life of the process on one page.
//!
//! Arguments, privileges, log, runtime; then [`Process::start`] and [`Compute`], which run the
//! driver. `main` returns the exit code of the process (01 §18.5).

use std::io::Write as _;
use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::Context;
use compute_ctl::cli::{Cli, RunArgs};
use compute_ctl::commands;
use compute_ctl::driver::Stop;
use compute_ctl::env::{self, Environment, OfProcess};
use compute_ctl::errors;
use compute_ctl::life::{self, Compute, OnHangup, Process};
use compute_ctl::os::activation;
use compute_ctl::os::heap_memory;
use compute_ctl::os::limits::{self, CoreLimit};
use compute_ctl::os::privileges::{self, Wanted};
use compute_ctl::os::secret_files;
use compute_ctl::os::signals;
use compute_ctl::spec::document::Parsed;
use compute_ctl::spec::wire::ConfigDocument;
use compute_ctl::telemetry::{
    form::Form,
    log_files, logging,
    sink::{FLUSH_LIMIT, LogSink},
    traces,
};

/// The daemon mostly waits; with two threads the API is served while an archive is unpacked.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    heap_memory::share_heaps();
    let inherited = signals::put_right();
    // Usage errors end here, with exit code 2.
    let cli = match Cli::of_process() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let (format, compute_id) = (cli.log_format(), cli.run.compute_id.clone());
    let result = match cli.command {
        None => run_compute(cli.run),
        Some(command) => commands::run(command, inherited),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let journal = env::journal_stream(&OfProcess);
            let form = Form::for_stderr(format, compute_id.as_deref(), journal.as_deref());
            let line = form.failure(&errors::one_line(error.as_ref()));
            // The exit code says it too.
            let _ = std::io::stderr().write_all(&line);
            ExitCode::FAILURE
        }
    }
}

fn run_compute(mut args: RunArgs) -> anyhow::Result<u8> {
    let listeners = activation::listeners()?;
    signals::hold_back(false).context("could not block signals")?;
    let environment = secret_files::environment()?;
    args.read_secret_files()?;
    let core_limit = limits::raise_core_limit();
    let as_root = privileges::will_step_down();
    let document = if as_root { life::read_configuration(&args, &environment)? } else { None };
    let descriptor_limit = limits::raise_descriptor_limit();
    // While there is only one thread: all threads of a process must have the same user.
    let stepped_down = privileges::step_down(
        Wanted::from(args.run_as.as_deref(), args.run_as_by_variable),
        args.pgdata.as_deref(),
    )?;
    let journal = environment.journal_stream.as_deref();
    let form = Form::for_stderr(args.log_format, args.compute_id.as_deref(), journal);
    let log = LogSink::formed(std::io::stderr(), form)?;
    let directory = environment.log_directory.as_deref().filter(|_| args.lakebase_mode);
    let files = directory.map(log_files::open).transpose()?;
    logging::init(environment.log_filter.as_deref(), log.clone(), files.clone());
    if let privileges::Outcome::Became(user) = &stepped_down {
        tracing::info!("started as root, running as {user} from here on");
    }
    match core_limit {
        CoreLimit::Unlimited => tracing::info!("{core_limit}"),
        _ => tracing::warn!("{core_limit}"),
    }
    tracing::info!("{descriptor_limit}");

    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let stop = Stop::default();
    let (stop_timeout, life) = (
        args.stop_timeout,
        live(args, environment, document, listeners, log.clone(), stop.clone()),
    );
    // On a worker, which also waits for the network: on this thread, each chunk of a basebackup
    // would cost a switch between the two.
    let code = runtime.block_on(async { tokio::spawn(life).await? });
    // Threads that still delete the old data directory are not waited for.
    runtime.shutdown_background();
    for log in files.iter().chain([&log]) {
        log.flush(stop.limit(FLUSH_LIMIT, stop_timeout));
    }
    code
}

async fn live(
    args: RunArgs,
    environment: Environment,
    document: Option<Parsed<ConfigDocument>>,
    listeners: Vec<TcpListener>,
    log: LogSink,
    stop: Stop,
) -> anyhow::Result<u8> {
    let process = Process::start(&environment, log, stop, OnHangup::Refresh)?;
    let code = prepare_and_run(&args, &environment, document, listeners, &process).await;
    let limit = process.stop.limit(traces::END_LIMIT, args.stop_timeout);
    process.traces.end(limit).await;
    code
}

async fn prepare_and_run(
    args: &RunArgs,
    environment: &Environment,
    document: Option<Parsed<ConfigDocument>>,
    listeners: Vec<TcpListener>,
    process: &Process,
) -> anyhow::Result<u8> {
    let compute = tokio::select! {
        compute = Compute::prepare(args, environment, document, listeners, process) => compute?,
        () = process.stop.requested.cancelled() => return Ok(args.signal_exit_code),
    };
    Ok(compute.run().await)
}
