//! Rooms of the program and their imports: imports run down, never in a circle, and the table of
//! rooms in `ARCHITECTURE.md` matches the source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::imports::Imports;
use super::{Source, sources};

/// From the top down: a room imports only from those below it. Add a new room at its place here.
const ROOMS: [&str; 36] = [
    "main",
    "commands",
    "dev",
    "check",
    "token",
    "life",
    "driver",
    "startup",
    "configure",
    "http",
    "page",
    "node",
    "timeouts",
    "vm_monitor",
    "services",
    "sidecars",
    "catalog",
    "sql",
    "storage",
    "postgres",
    "tls",
    "server",
    "cli",
    "client",
    "spec",
    "telemetry",
    "state",
    "failpoints",
    "os",
    "background",
    "http_client",
    "env",
    "secret",
    "limited",
    "duration",
    "errors",
];

const FILE: &str = "ARCHITECTURE.md";
const BEGIN: &str = "<!-- rooms: written by `UPDATE_ARCHITECTURE=1 cargo test --lib rooms` -->\n";
const END: &str = "<!-- end of rooms -->\n";

fn room(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

#[test]
fn no_two_files_need_each_other() {
    let imports = Imports::of(&sources());
    assert!(imports.edges.values().map(BTreeSet::len).sum::<usize>() > 500, "the search is broken");
    let circles = imports.circles();
    let text = |circle: &Vec<&str>| {
        let inside = |file: &&str| {
            let of = imports.edges[*file].iter().filter(|it| circle.contains(&it.as_str()));
            format!("  {file} takes from {}", of.cloned().collect::<Vec<_>>().join(", "))
        };
        circle.iter().map(inside).collect::<Vec<_>>().join("\n")
    };
    let circles: Vec<_> = circles.iter().map(text).collect();
    assert!(circles.is_empty(), "circles of imports:\n{}", circles.join("\n\n"));
}

#[test]
fn imports_run_down() {
    let rank = |file: &str| {
        let room = room(file);
        let rank = ROOMS.iter().position(|it| *it == room);
        rank.unwrap_or_else(|| panic!("{room} is a new room: put it into ROOMS, see above"))
    };
    let imports = Imports::of(&sources());
    let all = imports.edges.iter().flat_map(|(file, of)| of.iter().map(move |of| (file, of)));
    let up: Vec<_> = all
        .filter(|(file, of)| rank(of) < rank(file))
        .map(|(file, of)| format!("{file} takes from {of}"))
        .collect();
    assert!(up.is_empty(), "imports that run up:\n{}", up.join("\n"));
}

/// The table of rooms: the first sentence of each, and the rooms that it imports from.
fn table(sources: &[Source]) -> String {
    let mut below: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let imports = Imports::of(sources);
    for (file, of) in &imports.edges {
        let from = below.entry(room(file)).or_default();
        from.extend(of.iter().map(|it| room(it)).filter(|it| *it != room(file)));
    }
    let mut table = "| Room | What it is | Takes from |\n|---|---|---|\n".to_owned();
    for name in ROOMS {
        let Some(source) = sources
            .iter()
            .find(|it| it.name == format!("{name}.rs") || it.name == format!("{name}/mod.rs"))
        else {
            continue;
        };
        let head = source.text.lines().map_while(|line| line.strip_prefix("//!"));
        let head = head.take_while(|line| !line.is_empty()).collect::<String>();
        let sentence = head.split(". ").next().unwrap().trim().trim_end_matches(['.', ':']);
        // Only rustdoc understands links.
        let sentence = sentence.replace("[`", "`").replace("`]", "`");
        let takes = ROOMS.iter().filter(|it| below[name].contains(**it));
        let takes = takes.map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ");
        table.push_str(&format!("| `{name}` | {sentence} | {takes} |\n"));
    }
    table
}

#[test]
fn the_table_of_rooms_matches_the_source() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the begin of the table");
    let (written, after) = rest.split_once(END).expect("the end of the table");
    let table = table(&sources());
    if std::env::var_os("UPDATE_ARCHITECTURE").is_some() {
        fs::write(&path, [before, BEGIN, &table, END, after].concat()).unwrap();
        return;
    }
    assert!(written == table, "{FILE} is out of date: run it with UPDATE_ARCHITECTURE=1");
}
