//! The graph of imports between files, and its circles.

use std::collections::{BTreeMap, BTreeSet};

use super::Source;
use super::paths::{Kind, Written, written};

/// A module's path below the crate.
type Module = Vec<String>;

/// Files, and the files that each imports from. A re-export (`pub use child::X`) is a signpost: a
/// file that takes `X` there takes it from the child, and the signpost itself takes nothing.
pub(super) struct Imports {
    /// From the importing file to the files that it imports from.
    pub edges: BTreeMap<String, BTreeSet<String>>,
}

struct Tree<'a> {
    files: BTreeMap<Module, &'a str>,
    /// Names that a module re-exports, and their origins.
    signposts: BTreeMap<Module, BTreeMap<String, Vec<String>>>,
}

fn module_of(file: &str) -> Module {
    let path = file.strip_suffix(".rs").unwrap();
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if ["lib", "main"].contains(&path) {
        return Vec::new();
    }
    path.split('/').map(str::to_owned).collect()
}

impl Imports {
    pub(super) fn of(sources: &[Source]) -> Self {
        let mut files: BTreeMap<_, _> =
            sources.iter().map(|source| (module_of(&source.name), source.name.as_str())).collect();
        files.insert(Vec::new(), "lib.rs");
        let mut tree = Tree { files, signposts: BTreeMap::new() };
        let all: Vec<(&Source, Vec<Written>)> =
            sources.iter().map(|source| (source, written(&source.text))).collect();
        for (source, paths) in &all {
            let module = module_of(&source.name);
            let passed_on = paths.iter().filter_map(|path| match &path.kind {
                Kind::Reexport(name) => Some((name.clone(), tree.absolute(&module, path)?)),
                _ => None,
            });
            let passed_on = passed_on.collect();
            tree.signposts.insert(module, passed_on);
        }
        let mut edges = BTreeMap::new();
        for (source, paths) in &all {
            let targets = tree.targets(&module_of(&source.name), paths);
            let targets = targets.into_iter().filter(|target| *target != source.name).collect();
            edges.insert(source.name.clone(), targets);
        }
        Self { edges }
    }

    /// Groups of files that import from each other.
    pub(super) fn circles(&self) -> Vec<Vec<&str>> {
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            self.edges.keys().map(|file| (file.as_str(), self.reached(file))).collect();
        let mut circles: BTreeSet<Vec<&str>> = BTreeSet::new();
        for (file, from_here) in &reached {
            let both = from_here.iter().filter(|other| reached[*other].contains(file));
            let circle: Vec<&str> = both.copied().collect();
            if !circle.is_empty() {
                circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }

    fn reached(&self, file: &str) -> BTreeSet<&str> {
        let mut reached: BTreeSet<&str> = self.edges[file].iter().map(String::as_str).collect();
        let mut next: Vec<&str> = reached.iter().copied().collect();
        while let Some(file) = next.pop() {
            let targets = self.edges[file].iter().map(String::as_str);
            next.extend(targets.filter(|target| reached.insert(target)));
        }
        reached
    }
}

impl Tree<'_> {
    /// The path below the crate; `None` for a path into another crate.
    fn absolute(&self, module: &Module, path: &Written) -> Option<Vec<String>> {
        let (first, rest) = path.segments.split_first()?;
        match first.as_str() {
            "crate" | "compute_ctl" => Some(rest.to_vec()),
            "self" => Some([module, rest].concat()),
            "super" => {
                let ups = path.segments.iter().take_while(|it| *it == "super").count();
                let base = &module[..module.len().checked_sub(ups)?];
                Some([base, &path.segments[ups..]].concat())
            }
            _ => {
                let child = [module.as_slice(), std::slice::from_ref(first)].concat();
                self.files.contains_key(&child).then(|| [&child, rest].concat())
            }
        }
    }

    /// The module that a path leads to, through all signposts.
    fn module(&self, path: &[String]) -> Module {
        let depth = (0..=path.len()).rev().find(|depth| self.files.contains_key(&path[..*depth]));
        let (module, rest) = path.split_at(depth.unwrap_or_default());
        let signposts = self.signposts.get(module);
        match rest.first().and_then(|name| signposts?.get(name)) {
            Some(further) => self.module(&[further, &rest[1..]].concat()),
            None => module.to_vec(),
        }
    }

    fn targets(&self, module: &Module, paths: &[Written]) -> BTreeSet<String> {
        // Modules that are in scope under a name, for paths that begin with that name.
        let mut in_scope: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut targets = BTreeSet::new();
        for path in paths {
            let (Kind::Use(name), Some(absolute)) = (&path.kind, self.absolute(module, path))
            else {
                continue;
            };
            if self.files.contains_key(&absolute) {
                in_scope.insert(name, absolute);
            } else {
                targets.insert(self.files[&self.module(&absolute)].to_owned());
            }
        }
        for path in paths.iter().filter(|path| path.kind == Kind::Inline) {
            let (first, rest) = path.segments.split_first().unwrap();
            let by_name = in_scope.get(first.as_str()).map(|module| [module, rest].concat());
            if let Some(absolute) = by_name.or_else(|| self.absolute(module, path)) {
                targets.insert(self.files[&self.module(&absolute)].to_owned());
            }
        }
        // `crate::CONSTANT` does not name a room.
        targets.remove("lib.rs");
        targets
    }
}
