//! Runs the committed corpus through the targets, without a fuzzer: what was found once is found
//! again by the ordinary tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::TARGETS;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Names below a folder, in order.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn properties_hold_for_the_committed_corpus() {
    for (name, target) in TARGETS {
        let corpus = folder().join("corpus").join(name);
        let files = names(&corpus);
        assert!(files.len() > 2, "{name} has few seeds");
        for file in files {
            let data = fs::read(corpus.join(&file)).unwrap();
            // The name of the file is the only trace of a panic in the target.
            println!("fuzz/corpus/{name}/{file}");
            target(&data);
        }
    }
}

/// What cargo-fuzz builds, what has a corpus and what is tested here is the same.
#[test]
fn every_target_is_built_and_has_a_corpus() {
    let expected: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&folder().join("corpus")), expected);
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    let bins = manifest.split("[[bin]]\nname = \"").skip(1);
    let bins: BTreeSet<String> =
        bins.map(|rest| rest.split('"').next().unwrap().to_owned()).collect();
    assert_eq!(bins, expected);
    let sources: BTreeSet<String> = expected.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names(&folder().join("fuzz_targets")), sources);
}

/// The corpus stays small: 50 files and 100 kB for each target.
#[test]
fn the_corpus_is_small() {
    for (name, _) in TARGETS {
        let corpus = folder().join("corpus").join(name);
        let files = names(&corpus);
        let sizes = files.iter().map(|file| fs::metadata(corpus.join(file)).unwrap().len());
        let bytes: u64 = sizes.sum();
        assert!(files.len() <= 60 && bytes <= 100_000, "{name}: {} files, {bytes}", files.len());
    }
}
