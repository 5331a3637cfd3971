//! The manual pages in `deploy/man`, which come from the command line as the tables do.

use std::collections::BTreeMap;
use std::fs;

use clap::Command;
use clap_mangen::Man;
use compute_ctl::cli;

use crate::generated::path;

#[test]
fn manual_pages() {
    let mut command = cli::command();
    command.build();
    let mut pages = BTreeMap::new();
    render("compute_ctl", command, &mut pages);
    let folder = path("deploy/man");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        for (name, text) in &pages {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        found.insert(name, fs::read_to_string(entry.path()).unwrap());
    }
    assert!(
        found == pages,
        "deploy/man is not up to date: UPDATE_DOCS=1 cargo test --locked --test docs writes it"
    );
}

/// A page for the command and for each of those in it.
fn render(name: &str, command: Command, pages: &mut BTreeMap<String, String>) {
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        render(&format!("{name}-{}", inner.get_name()), inner.clone(), pages);
    }
    // The long form has the commit, and both have the build tag.
    let command = command.version(env!("CARGO_PKG_VERSION")).long_version(None::<&'static str>);
    let mut text = Vec::new();
    let source = concat!("compute_ctl ", env!("CARGO_PKG_VERSION"));
    Man::new(command).title(name).source(source).render(&mut text).unwrap();
    pages.insert(format!("{name}.1"), String::from_utf8(text).unwrap());
}
