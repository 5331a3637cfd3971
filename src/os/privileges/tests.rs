use std::fs;
use std::os::unix::fs::{MetadataExt, lchown, symlink};

use super::*;

fn me() -> Target {
    User::from_uid(Uid::effective()).unwrap().unwrap().into()
}

fn flag(user: &str) -> Option<Wanted<'_>> {
    Wanted::from(Some(user), false)
}

#[test]
fn an_ordinary_user_stays_itself_and_cannot_become_another() {
    if Uid::effective().is_root() {
        return;
    }
    let here = Some(Path::new("/"));
    assert_eq!(step_down(None, here).unwrap(), Outcome::NotRoot);
    assert_eq!(step_down(flag(&me().name), here).unwrap(), Outcome::NotRoot);
    let error = step_down(flag("root"), here).unwrap_err().to_string();
    assert!(error.contains("--run-as root needs root"), "{error}");
}

#[test]
fn root_and_unknown_users_are_refused_with_the_flags_name() {
    let refused = choose(flag("root")).unwrap_err();
    assert!(matches!(refused, StepDownError::RootWanted(..)), "{refused}");
    let unknown = choose(flag("no-such-user-here")).unwrap_err().to_string();
    assert!(unknown.contains("--run-as"), "{unknown}");
    assert!(StepDownError::NoUser.to_string().contains("--run-as"));
}

/// Every user may hand over to itself, so this also runs without root.
#[test]
fn prepare_makes_only_the_directory_itself() {
    let dir = tempfile::tempdir().unwrap();
    let pgdata = dir.path().join("data");
    prepare(&pgdata, &me()).unwrap();
    assert_eq!(fs::metadata(&pgdata).unwrap().mode() & 0o777, 0o700);
    prepare(&pgdata, &me()).unwrap();
    prepare(&dir.path().join("a/b"), &me()).unwrap();
    assert!(!dir.path().join("a").exists());
    fs::write(dir.path().join("file"), "").unwrap();
    prepare(&dir.path().join("file"), &me()).unwrap();
}

#[test]
fn a_directory_with_content_keeps_its_owner() {
    if !Uid::effective().is_root() {
        return;
    }
    let other = Target { uid: Uid::from_raw(12345), gid: 12345.into(), ..me() };
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    prepare(dir.path(), &other).unwrap();
    assert_eq!(fs::metadata(dir.path()).unwrap().uid(), 0);
    fs::remove_file(dir.path().join("file")).unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    prepare(dir.path(), &other).unwrap();
    assert_eq!(fs::metadata(dir.path()).unwrap().uid(), 12345);
    assert_eq!(fs::metadata(dir.path().join("lost+found")).unwrap().uid(), 0);
}

/// The user owns the folder and puts links there.
#[test]
fn only_links_of_roots_are_followed() {
    if !Uid::effective().is_root() {
        return;
    }
    const USER: u32 = 12345;
    let user = Target { uid: Uid::from_raw(USER), gid: USER.into(), ..me() };
    let dir = tempfile::tempdir().unwrap();
    let (roots, home) = (dir.path().join("roots"), dir.path().join("home"));
    for folder in [&roots, &roots.join("empty"), &home] {
        fs::create_dir(folder).unwrap();
    }
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    let link = |target: &Path, name: &str, owner: u32| {
        let link = home.join(name);
        symlink(target, &link).unwrap();
        lchown(&link, Some(owner), Some(owner)).unwrap();
        link
    };
    let empty = roots.join("empty");
    // Directly, through a link owned by root, and in the middle of the path.
    let direct = link(&empty, "direct", USER);
    let second = link(&direct, "second", 0);
    let folder = link(&roots, "folder", USER);
    for pgdata in [&direct, &second, &folder.join("empty"), &folder.join("new")] {
        prepare(pgdata, &user).unwrap();
    }
    assert_eq!(owner(&empty), 0);
    assert!(!roots.join("new").exists());
    // A dangling link of any owner is left alone, and so is a loop.
    prepare(&link(&roots.join("new"), "dangling", 0), &user).unwrap();
    assert!(!roots.join("new").exists());
    prepare(&link(&home.join("loop"), "loop", 0), &user).unwrap();

    let volume = link(Path::new("../roots"), "volume", 0);
    prepare(&volume.join("new"), &user).unwrap();
    assert_eq!(owner(&roots.join("new")), USER);
    prepare(&link(Path::new("volume/empty"), "relative", 0), &user).unwrap();
    assert_eq!(owner(&empty), USER);
    assert_eq!((owner(&roots), owner(&home)), (0, 0));
}

#[test]
fn users_and_groups_by_number() {
    let find = |text| lookup(flag(text).unwrap());
    let named = find("root").unwrap();
    assert_eq!((named.uid.as_raw(), named.member.as_deref()), (0, Some("root")));
    assert_eq!(find("0").unwrap(), named, "the number of an entry is the entry");
    let bare = find("4711123").unwrap();
    let ids = (bare.uid.as_raw(), bare.gid.as_raw());
    assert_eq!(
        (ids, bare.member.as_deref(), &*bare.name),
        ((4_711_123, 4_711_123), None, "4711123")
    );
    for (text, gid) in [("4711123:17", 17), ("4711123:0", 0), ("root:17", 17), ("4711123:root", 0)]
    {
        let user = find(text).unwrap();
        assert_eq!((user.gid.as_raw(), user.member), (gid, None), "{text}");
    }
    for text in ["", ":", ":1", "-1", "1.5", "4294967295", "4294967296", "+1"] {
        assert!(matches!(find(text), Err(StepDownError::UnknownUser(..))), "{text}");
    }
    for text in ["4711123:", "root:no-such-group-here", "4711123:4294967295"] {
        assert!(matches!(find(text), Err(StepDownError::UnknownGroup(..))), "{text}");
    }
    assert!(matches!(choose(flag("0:5")), Err(StepDownError::RootWanted(..))));
}

#[test]
fn an_error_names_the_variable_if_it_was_that() {
    let error = |by_variable| {
        choose(Wanted::from(Some("no-such-user-here"), by_variable)).unwrap_err().to_string()
    };
    assert!(error(true).contains("COMPUTE_CTL_RUN_AS"), "{}", error(true));
    assert!(!error(false).contains("COMPUTE_CTL_RUN_AS"), "{}", error(false));
}
