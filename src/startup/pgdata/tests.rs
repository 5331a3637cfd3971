use super::*;
use crate::postgres::conf::CONF_HEADING;
use crate::postgres::files::TEMP_PREFIX;

/// A directory with PGDATA in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let pgdata = dir.path().join("data");
    fs::create_dir(&pgdata).unwrap();
    (dir, pgdata)
}

fn put(path: PathBuf, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_lock_makes_pgdata_and_refuses_a_second_holder() {
    let dir = tempfile::tempdir().unwrap();
    let pgdata = dir.path().join("data");
    let lock = PgDataLock::acquire(&pgdata).unwrap();
    assert_eq!(fs::metadata(&pgdata).unwrap().mode() & 0o777, 0o700);
    let error = PgDataLock::acquire(&pgdata).unwrap_err();
    assert!(matches!(error, PgDataError::Locked(_)));
    assert!(error.to_string().contains("another compute_ctl"), "{error}");
    drop(lock);
    PgDataLock::acquire(&pgdata).unwrap();
}

#[test]
fn a_missing_parent_and_a_file_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let error = PgDataLock::acquire(&dir.path().join("a/b")).unwrap_err();
    assert!(matches!(error, PgDataError::NoParent(_)), "{error}");
    put(dir.path().join("file"), "");
    let error = PgDataLock::acquire(&dir.path().join("file")).unwrap_err();
    assert!(matches!(error, PgDataError::NotADirectory(_)), "{error}");
}

#[test]
fn directories_are_classified_by_their_files() {
    let (_dir, pgdata) = place();
    let content = || classify(&pgdata).unwrap();
    assert_eq!(content(), Content::Empty);
    fs::create_dir(pgdata.join("lost+found")).unwrap();
    put(pgdata.join(format!("{INNER_TRASH}1-2/PG_VERSION")), "");
    put(pgdata.join(format!("{TEMP_PREFIX}x1")), "half");
    assert_eq!(content(), Content::Empty);
    put(pgdata.join("notes"), "");
    put(pgdata.join(CONF), "# foreign\n");
    assert_eq!(content(), Content::Foreign { example: "notes".into() });
    put(pgdata.join(CONF), &format!("{CONF_HEADING}\nport=1\n"));
    put(pgdata.join("pg_wal/1"), "");
    assert_eq!(content(), Content::HalfMade);
    put(pgdata.join(PG_VERSION), "15\n");
    assert_eq!(content(), Content::DataDirectory);
}

#[test]
fn a_foreign_directory_is_left_alone_unless_forced() {
    let (dir, pgdata) = place();
    put(pgdata.join("thesis.tex"), "");
    fs::set_permissions(&pgdata, Permissions::from_mode(0o755)).unwrap();
    let error = wipe(&pgdata, false).unwrap_err().to_string();
    assert!(error.contains("--force-wipe") && error.contains("thesis.tex"), "{error}");
    assert_eq!(names(&pgdata), ["thesis.tex"]);
    assert_eq!(fs::metadata(&pgdata).unwrap().mode() & 0o777, 0o755);
    wipe(&pgdata, true).unwrap().empty_trash();
    assert!(names(&pgdata).is_empty());
    assert_eq!(names(dir.path()), ["data"]);
}

#[test]
fn a_wipe_keeps_the_directory_and_picks_up_old_trash() {
    let (dir, pgdata) = place();
    let inode = fs::metadata(&pgdata).unwrap().ino();
    put(pgdata.join(PG_VERSION), "15\n");
    put(pgdata.join("base/1/1259"), "x");
    fs::create_dir(pgdata.join("lost+found")).unwrap();
    // The name for this process is taken, as at each start of a PID 1.
    let taken = dir.path().join(format!(".data.trash-{}", std::process::id()));
    put(taken.join("PG_VERSION"), "");
    put(pgdata.join(format!("{INNER_TRASH}77/x")), "");
    put(dir.path().join(".data.trash-mine/x"), "");
    let wiped = wipe(&pgdata, false).unwrap();
    assert_eq!(names(&pgdata), [format!("{INNER_TRASH}77").as_str(), "lost+found"]);
    assert_eq!(wiped.trash.len(), 3);
    wiped.empty_trash();
    assert_eq!(names(&pgdata), ["lost+found"]);
    assert_eq!(names(dir.path()), [".data.trash-mine", "data"]);
    let meta = fs::metadata(&pgdata).unwrap();
    assert_eq!((meta.ino(), meta.mode() & 0o777), (inode, 0o700));
}

#[test]
fn a_link_is_wiped_where_it_leads() {
    let (dir, pgdata) = place();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&pgdata, &link).unwrap();
    put(pgdata.join(PG_VERSION), "15\n");
    wipe(&link, false).unwrap().empty_trash();
    assert_eq!(names(dir.path()), ["data", "link"]);
    assert!(names(&pgdata).is_empty());
}

#[test]
fn trash_that_cannot_be_moved_out_stays_inside() {
    if nix::unistd::geteuid().is_root() {
        return; // Root may write everywhere.
    }
    let (dir, pgdata) = place();
    put(pgdata.join(PG_VERSION), "15\n");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o500)).unwrap();
    let wiped = wipe(&pgdata, false).unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    assert_eq!(classify(&pgdata).unwrap(), Content::Empty);
    wiped.empty_trash();
    assert!(names(&pgdata).is_empty());
}

/// By this program, by the original, or by any other that unpacks a basebackup.
#[test]
fn what_a_killed_start_leaves_is_half_made() {
    for left in [
        &["postgresql.conf"][..],
        &["postmaster.pid"],
        &["postmaster.pid", "postmaster.opts", "standby.signal"],
        &["recovery.signal"],
        &["zenith.signal"],
        &["neon.signal", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"],
        &["compute_ctl_temp_override.conf"],
        &["base/1/1259", "global/pg_control", "global/1262_fsm", "pg_wal/0", "pg_xact/0000"],
        &["base/pgsql_tmp/x", "lost+found/x"],
        &["pg_dynshmem/x", "log/x", "server.key", "core.17", ".s.PGSQL.5432.lock"],
        &[".server.tls.tmp-x1", "pg_stat_tmp/x"],
    ] {
        let (_dir, pgdata) = place();
        for name in left {
            put(pgdata.join(name), "x");
        }
        assert_eq!(classify(&pgdata).unwrap(), Content::HalfMade, "{left:?}");
        wipe(&pgdata, false).unwrap().empty_trash();
        assert!(names(&pgdata).iter().all(|name| name == "lost+found"));
    }
    let (_dir, pgdata) = place();
    fs::create_dir(pgdata.join("base")).unwrap();
    assert_eq!(classify(&pgdata).unwrap(), Content::HalfMade);
}

#[test]
fn names_that_others_use_too_are_no_evidence() {
    for (left, example) in [
        (&["server.key", "server.crt"][..], "server.crt"),
        (&["log/app.log"], "log"),
        (&["base/index.html"], "base"),
        (&["global/settings.json", "postgresql.conf"], "global"),
        (&["pg_backup.sql", "postgresql.conf"], "pg_backup.sql"),
        (&["pg_dumps/all.gz"], "pg_dumps"),
        (&["postmaster.pid", "thesis.tex"], "thesis.tex"),
        (&[".bashrc", "postgresql.conf"], ".bashrc"),
        (&["core"], "core"),
    ] {
        let (_dir, pgdata) = place();
        for name in left {
            put(pgdata.join(name), "x");
        }
        let foreign = Content::Foreign { example: example.into() };
        assert_eq!(classify(&pgdata).unwrap(), foreign, "{left:?}");
        assert!(wipe(&pgdata, false).is_err());
    }
}

/// Nothing but the check is reached, so nothing can be lost.
#[test]
fn the_system_is_never_wiped_and_force_wipe_not_offered() {
    let (dir, _) = place();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("/etc", &link).unwrap();
    for path in [Path::new("/"), Path::new("/usr"), Path::new("/var/../etc"), &link] {
        let error = wipe(path, false).unwrap_err();
        assert!(matches!(error, PgDataError::Precious { .. }), "{error}");
        let error = error.to_string();
        assert!(!error.contains("--force-wipe") && error.contains("--pgdata"), "{error}");
    }
}

/// As overlayfs answers for a directory of an image.
#[test]
fn what_cannot_be_moved_to_the_trash_is_deleted() {
    let (dir, pgdata) = place();
    put(pgdata.join("base/1/1259"), "x");
    put(pgdata.join("file"), "x");
    std::os::unix::fs::symlink(dir.path(), pgdata.join("link")).unwrap();
    for name in ["base", "file", "link"] {
        let elsewhere = |_: &Path, _: &Path| Err(io::ErrorKind::CrossesDevices.into());
        move_aside(&pgdata.join(name), Path::new("/nowhere"), elsewhere).unwrap();
    }
    assert!(names(&pgdata).is_empty());
    assert_eq!(names(dir.path()), ["data"]);
}

/// What each released version leaves behind (docs/how-to/upgrade.md). A version that changes one of
/// its names gets a sample of its own; those of earlier versions stay.
#[test]
fn remains_of_released_versions_are_taken_away() {
    let samples = [include_str!("testdata/remains-0.1.0.json")];
    for sample in samples {
        let sample: serde_json::Value = serde_json::from_str(sample).unwrap();
        for (case, tree) in sample["cases"].as_object().unwrap() {
            let (dir, pgdata) = place();
            for (path, content) in tree.as_object().unwrap() {
                match path.strip_suffix('/') {
                    Some(path) => fs::create_dir_all(dir.path().join(path)).unwrap(),
                    None => put(dir.path().join(path), content.as_str().unwrap()),
                }
            }
            let wiped = wipe(&pgdata, false).unwrap_or_else(|error| panic!("{case}: {error}"));
            let left = names(&pgdata);
            assert!(left.iter().all(|name| is_inner_trash(name.as_ref())), "{case}: {left:?}");
            wiped.empty_trash();
            assert_eq!(
                (names(dir.path()), names(&pgdata)),
                (vec!["data".into()], vec![]),
                "{case}"
            );
        }
    }
    let last: serde_json::Value = serde_json::from_str(samples[samples.len() - 1]).unwrap();
    let now = serde_json::json!({
        "heading of postgresql.conf": CONF_HEADING,
        "override of postgresql.conf": crate::postgres::conf::TEMP_OVERRIDE_FILE,
        "trash in PGDATA": INNER_TRASH,
        "half-written postgresql.conf": TEMP_PREFIX,
        "half-written certificate": crate::tls::install::TEMP_PREFIX,
        "half-written other file": crate::os::replace_file::TEMP_PREFIX,
    });
    assert_eq!(last["names"], now, "the program leaves other names: add a sample of its version");
}
