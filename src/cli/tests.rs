use std::any::TypeId;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Arg, CommandFactory};

use super::values::gateway_url;
use super::*;
use crate::env::PREFIX;
use crate::secret::Secret;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("compute_ctl").chain(line.split_whitespace()))
}

const BASE: &str = "-D /d -C postgresql://cloud_admin@localhost/postgres -i c1";

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn short_and_long_forms_are_the_same() {
    let short = "-D /d -C u -c /c -i c1 -b /pg/postgres -r http://gw";
    let long = "--pgdata=/d --connstr u --config=/c --compute-id c1 --pgbin /pg/postgres \
                --remote-ext-base-url=http://gw";
    for line in [short, long, "-D/d -Cu -c/c -ic1 -b/pg/postgres -rhttp://gw"] {
        let run = parse(line).unwrap().run;
        assert_eq!(run.pgdata.unwrap(), PathBuf::from("/d"));
        assert_eq!(run.connstr.unwrap().expose(), "u");
        assert_eq!(run.config.unwrap(), PathBuf::from("/c"));
        assert_eq!(run.compute_id.unwrap(), "c1");
        assert_eq!(run.pgbin, PathBuf::from("/pg/postgres"));
        assert_eq!(run.remote_ext_base_url.unwrap().as_str(), "http://gw/");
    }
}

#[test]
fn documented_defaults() {
    let run = parse(&format!("{BASE} -c /c")).unwrap().run;
    assert_eq!(run.http_ports(), (3080, 3081));
    assert_eq!(run.privileged_role_name, "neon_superuser");
    assert_eq!(run.cgroup, "neon-postgres");
    assert_eq!(run.vm_monitor_addr.to_string(), "0.0.0.0:10301");
    assert_eq!(run.installed_extensions_collection_interval, 3600);
    assert_eq!(run.stop_timeout, Duration::from_secs(7));
    assert_eq!(run.signal_exit_code, 1);
    assert!(!run.dev && !run.lakebase_mode && !run.force_wipe);
}

#[test]
fn the_older_form_needs_no_compute_id() {
    let line = "-D /var/db/postgres/compute -C postgresql://cloud_admin@localhost/postgres \
                -S /var/db/postgres/specs/current.json -b /usr/local/bin/postgres";
    let run = parse(line).unwrap().run;
    assert_eq!(run.spec.unwrap(), PathBuf::from("/var/db/postgres/specs/current.json"));
}

#[test]
fn the_connection_can_be_in_a_file() {
    let run = parse("-D /d --connstr-file /f -c /c -i c1").unwrap().run;
    assert_eq!((run.connstr_file, run.connstr), (Some(PathBuf::from("/f")), None));
}

#[test]
fn usage_errors() {
    let cases = [
        (String::new(), ErrorKind::MissingRequiredArgument),
        (BASE.to_owned(), ErrorKind::MissingRequiredArgument),
        ("-D /d -C u -c /c".to_owned(), ErrorKind::MissingRequiredArgument),
        ("-D /d -i c1 -c /c".to_owned(), ErrorKind::MissingRequiredArgument),
        (format!("{BASE} -c /c --connstr-file /f"), ErrorKind::ArgumentConflict),
        (format!("{BASE} -c /c -p http://cp"), ErrorKind::ArgumentConflict),
        (format!("{BASE} -c /c -S /s"), ErrorKind::ArgumentConflict),
        (format!("{BASE} -S /s -p http://cp"), ErrorKind::ArgumentConflict),
        (format!("{BASE} -c /c --http-port 1 --external-http-port 2"), ErrorKind::ArgumentConflict),
        (format!("{BASE} -c /c --http-port 1 --internal-http-port 2"), ErrorKind::ArgumentConflict),
        (format!("{BASE} -c /c --privileged-role-name Abc"), ErrorKind::ValueValidation),
        (format!("{BASE} -c /c --privileged-role-name a1"), ErrorKind::ValueValidation),
        (format!("{BASE} -c /c --privileged-role-name="), ErrorKind::ValueValidation),
        (format!("{BASE} -c /c --privileged-role-name public"), ErrorKind::ValueValidation),
        (format!("{BASE} -c /c --privileged-role-name none"), ErrorKind::ValueValidation),
        (format!("{BASE} -c /c --privileged-role-name pg_boss"), ErrorKind::ValueValidation),
        (
            format!("{BASE} -c /c --privileged-role-name {}", "a".repeat(64)),
            ErrorKind::ValueValidation,
        ),
        (format!("{BASE} -c /c --external-http-port 65536"), ErrorKind::ValueValidation),
        (format!("{BASE} -c /c --lakebase-mode"), ErrorKind::InvalidValue),
        (format!("{BASE} -c /c --lakebase-mode yes"), ErrorKind::InvalidValue),
        (format!("{BASE} -c /c -r http://gw?a=b"), ErrorKind::ValueValidation),
        (format!("{BASE} -c /c --stop-timeout 0"), ErrorKind::ValueValidation),
        (format!("{BASE} -c /c --stop-timeout inf"), ErrorKind::ValueValidation),
        (format!("{BASE} -c /c --nonsense"), ErrorKind::UnknownArgument),
        (format!("{BASE} -c /c extra"), ErrorKind::ArgumentConflict),
    ];
    for (line, kind) in cases {
        let error = parse(&line).unwrap_err();
        assert_eq!(error.kind(), kind, "{line}: {error}");
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn addresses_and_files_of_the_external_server() {
    let addresses = |line: &str| {
        let run = parse(&format!("{BASE} -c /c {line}")).unwrap().run;
        run.external_http_bind.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(addresses(""), Vec::<String>::new());
    let both = ["127.0.0.1", "::1"];
    assert_eq!(addresses("--external-http-bind 127.0.0.1 --external-http-bind ::1"), both);
    assert_eq!(addresses("--external-http-bind 127.0.0.1,::1"), both);
    let (cert, key) = ("--external-http-tls-cert /crt", "--external-http-tls-key /key");
    let ca = "--external-http-tls-client-ca /ca";
    for (line, fits) in [
        (format!("{cert} {key}"), true),
        (format!("{cert} {key} {ca}"), true),
        (cert.to_owned(), false),
        (key.to_owned(), false),
        (ca.to_owned(), false),
        ("--external-http-bind localhost".to_owned(), false),
    ] {
        assert_eq!(parse(&format!("{BASE} -c /c {line}")).is_ok(), fits, "{line}");
    }
}

#[test]
fn names_of_the_internal_server() {
    let names = |value: &str| {
        let run = parse(&format!("{BASE} -c /c --internal-http-host {value}"))?.run;
        Ok::<_, clap::Error>(run.internal_http_host)
    };
    let both = ["compute-1", "compute-1.default.svc"];
    assert_eq!(names("Compute-1,compute-1.default.svc.").unwrap(), both);
    assert_eq!(names("compute-1 --internal-http-host compute-1.default.svc").unwrap(), both);
    for wrong in ["a:3081", "http://a", "*", "*.svc", ".svc", "a..b", "a,", "\u{fc}"] {
        assert_eq!(names(wrong).unwrap_err().kind(), ErrorKind::ValueValidation, "{wrong}");
    }
    assert!(names(&format!("{}.b", "a".repeat(64))).is_err());
}

#[test]
fn a_default_port_does_not_conflict() {
    let run = parse(&format!("{BASE} -c /c --http-port 7000")).unwrap().run;
    assert_eq!(run.http_ports(), (3080, 3081), "ignored outside Lakebase mode");
    let run = parse(&format!("{BASE} -c /c --http-port 7000 --lakebase-mode true")).unwrap().run;
    assert_eq!(run.http_ports(), (7000, 7001));
}

#[test]
fn gateway_urls_end_in_one_slash() {
    for (given, kept) in [
        ("https://e.test/sub", "https://e.test/sub/"),
        ("https://e.test//", "https://e.test/"),
        ("https://e.test/a/b///", "https://e.test/a/b/"),
    ] {
        assert_eq!(gateway_url(given).unwrap().as_str(), kept);
    }
}

#[test]
fn help_and_version_exit_with_0() {
    for (line, kind) in [
        ("--help", ErrorKind::DisplayHelp),
        ("-h", ErrorKind::DisplayHelp),
        ("--version", ErrorKind::DisplayVersion),
        ("dev --help", ErrorKind::DisplayHelp),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (kind, 0));
    }
}

#[test]
fn check_needs_one_document() {
    for (line, fits) in [
        ("check -c /c", true),
        ("check -S /s --show-conf -C postgresql://h --probe", true),
        ("check", false),
        ("check -c /c -S /s", false),
        ("check -c /c -C postgresql://h", true),
        ("check -c /c -b /p --strict --json", true),
        ("check --sample", true),
        ("check --sample -c /c", false),
        ("check -c /c --json --show-conf", false),
        ("check -c /c --plan", false),
        ("check -c /c --plan --connstr-file /f", true),
        ("check -c /c -C postgresql://h --connstr-file /f", false),
        ("check -c /c -D /d", false),
    ] {
        let command = parse(line).map(|cli| cli.command);
        assert_eq!(matches!(command, Ok(Some(Command::Check(_)))), fits, "{line}");
        assert!(fits || command.is_err_and(|error| error.exit_code() == 2), "{line}");
    }
}

#[test]
fn dev_needs_none_of_the_flags_of_a_compute() {
    let Some(Command::Dev(dev)) = parse("dev --safekeepers 3").unwrap().command else {
        panic!("not the dev command")
    };
    assert_eq!(dev.safekeepers, 3);
    assert!(parse("dev --safekeepers 2").is_err());
    let storage = "dev --storage-only --write-config /c --pageserver-port 0 --safekeeper-port 0";
    assert!(parse(storage).is_ok());
    for wrong in ["dev --write-config /c", "dev --storage-only --external-http-port 1"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

/// Other users see arguments, and a container's description shows variables.
#[test]
fn each_secret_flag_has_a_file_beside_it() {
    let is_secret = |arg: &Arg| {
        let file = arg.get_long().is_some_and(|flag| flag.ends_with("-file"));
        let values = arg.get_value_parser().type_id();
        // The name of a new flag says it, too, if its type does not.
        let name = arg.get_id().as_str();
        let named = ["connstr", "token", "password", "secret"].iter().any(|it| name.contains(it));
        let hidden = values == TypeId::of::<Secret<String>>();
        assert!(hidden || !named || file || values == TypeId::of::<PathBuf>(), "{name} is shown");
        hidden
    };
    let mut secrets = Vec::new();
    walk(&command(), &mut |command, arg| {
        if !is_secret(arg) {
            return;
        }
        let flag = arg.get_long().unwrap();
        let of_file = command
            .get_arguments()
            .find(|it| it.get_long() == Some(&format!("{flag}-file")))
            .unwrap_or_else(|| panic!("{} --{flag} has no file", command.get_name()));
        let variable = format!("{}_FILE", arg.get_env().unwrap().to_str().unwrap());
        assert_eq!(of_file.get_env().unwrap().to_str(), Some(variable.as_str()));
        assert_eq!(of_file.get_value_parser().type_id(), TypeId::of::<PathBuf>(), "{of_file}");
        secrets.push(format!("{} --{flag}", command.get_name()));
    });
    let expected = ["compute_ctl --connstr", "compute_ctl --filecache-connstr"];
    assert_eq!(secrets, [&expected[..], &["check --connstr", "plan --connstr"]].concat());
    // Two sources of one secret, on one line or in one environment.
    for (line, both) in [
        ("-D /d -i c1 -c /c", "--connstr u --connstr-file /f"),
        (&format!("{BASE} -c /c"), "--filecache-connstr u --filecache-connstr-file /f"),
        ("check -c /c", "--connstr u --connstr-file /f"),
        ("plan -c /c", "--connstr u --connstr-file /f"),
    ] {
        let error = parse(&format!("{line} {both}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{line} {both}");
    }
    let shown = format!("{:?}", parse(&format!("{BASE} -c /c")).unwrap().run);
    assert!(!shown.contains("localhost"), "{shown}");
}

/// Completions and messages list the values then.
#[test]
fn a_flag_with_a_few_values_names_them() {
    let mut names = Vec::new();
    walk(&command(), &mut |_, arg| {
        let shown = arg.get_value_names().unwrap_or_default().concat();
        let possible = arg.get_possible_values();
        if shown.contains('|') {
            let values: Vec<_> =
                possible.iter().map(clap::builder::PossibleValue::get_name).collect();
            assert_eq!(values.join("|"), shown, "{arg}");
            names.push(arg.get_long().unwrap().to_owned());
        }
    });
    for flag in ["log-format", "lakebase-mode", "safekeepers", "mode", "algorithm"] {
        assert!(names.iter().any(|it| it == flag), "{flag}: {names:?}");
    }
}

fn walk(command: &clap::Command, each: &mut impl FnMut(&clap::Command, &Arg)) {
    command.get_arguments().for_each(|arg| each(command, arg));
    command.get_subcommands().for_each(|inner| walk(inner, each));
}

/// Names that the program reads for something else.
fn taken() -> Vec<&'static str> {
    let source = include_str!("../env.rs");
    let rows = source.lines().filter_map(|line| line.strip_prefix("//! | `"));
    rows.flat_map(|row| row.split('|').next().unwrap().split('`')).collect()
}

#[test]
fn each_flag_of_each_command_has_a_variable_of_one_meaning() {
    let taken = taken();
    assert!(taken.contains(&"COMPUTE_CTL_PG_PATH"), "{taken:?}");
    let mut flags = 0;
    let mut meanings: BTreeMap<String, Arg> = BTreeMap::new();
    walk(&command(), &mut |command, arg| {
        let Some(flag) = arg.get_long() else { return };
        let whose = format!("{} --{flag}", command.get_name());
        flags += 1;
        let name = arg.get_env().unwrap_or_else(|| panic!("{whose} has no variable"));
        let name = name.to_str().unwrap();
        assert!(!taken.contains(&name), "{whose}: {name} is something else");
        assert!(name.starts_with(PREFIX) || name == "POSTGRES_PATH", "{whose}: {name}");
        // Other defaults are possible, another form is not.
        let other = meanings.entry(name.to_owned()).or_insert_with(|| arg.clone());
        assert_eq!(other.get_long(), arg.get_long(), "{whose}: {name}");
        assert_eq!(
            format!("{:?}", other.get_value_parser()),
            format!("{:?}", arg.get_value_parser()),
            "{whose}: {name} has another form elsewhere"
        );
    });
    assert!(flags > 60, "{flags}");
    // One place decides about names: clap would read a variable of its own also if it is empty.
    walk(&Cli::command(), &mut |command, arg| {
        assert_eq!(arg.get_env(), None, "{} {arg}: leave out `env`", command.get_name());
    });
}
