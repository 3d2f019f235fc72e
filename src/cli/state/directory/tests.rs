use super::*;
use crate::cli::state::Process;
use crate::cli::state::names::Names;
use std::os::unix::fs::{PermissionsExt, symlink};

/// A folder of the test's own, empty.
fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("ublkit-state-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir(&path).unwrap();
    path
}

fn record(tag: u64) -> Record {
    let arguments = ["null", "--size", "1G"].map(String::from).into();
    let server = Process::own();
    Record {
        tag,
        name: None,
        server,
        arguments,
        folder: "/".into(),
        file: None,
        granted: None,
        path_reason: None,
    }
}

#[track_caller]
fn why<T>(result: Result<T, Failure>) -> String {
    match result {
        Err(Failure::Said(_, sentence)) => sentence,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was believed"),
    }
}

#[test]
fn records_are_kept_replaced_and_forgotten() {
    let place = folder("kept").join("ublkit");
    assert!(Directory::found_at(place.clone()).unwrap().is_none(), "looking makes nothing");
    let directory = Directory::open_at(place.clone()).unwrap();
    let mode = std::fs::metadata(&place).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(directory.read(7).unwrap(), None);
    let mut kept = record(7);
    directory.write(&kept).unwrap();
    kept.name = Some("scratch".into());
    directory.write(&kept).unwrap();
    directory.write(&record(u64::MAX)).unwrap();
    assert_eq!(directory.read(7).unwrap(), Some(kept));
    assert_eq!(directory.tags(), [7, u64::MAX]);
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 2, "no drafts are left");
    directory.remove(7);
    directory.remove(7);
    assert_eq!(directory.tags(), [u64::MAX]);
    std::fs::remove_dir_all(place.parent().unwrap()).unwrap();
}

#[test]
fn a_directory_of_others_is_not_believed() {
    let home = folder("others");
    let open = home.join("open");
    std::fs::create_dir(&open).unwrap();
    for mode in [0o755, 0o710, 0o701] {
        std::fs::set_permissions(&open, PermissionsExt::from_mode(mode)).unwrap();
        assert!(why(Directory::open_at(open.clone())).contains("others may use it"), "{mode:o}");
    }
    let elsewhere = home.join("elsewhere");
    symlink(&open, &elsewhere).unwrap();
    assert!(why(Directory::open_at(elsewhere)).contains("no symbolic link"));
    assert!(why(Directory::open_at(home.join("a/b"))).contains("must be there"));
    let file = home.join("file");
    std::fs::write(&file, "").unwrap();
    assert!(why(Directory::open_at(file)).contains("ENOTDIR"));
    if rustix::process::geteuid().is_root() {
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&open, Some(65534), None).unwrap();
        assert!(why(Directory::open_at(open)).contains("belongs to uid 65534"));
    }
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn a_record_of_others_is_not_believed() {
    let home = folder("records");
    let directory = Directory::open_at(home.join("ublkit")).unwrap();
    let place = |tag| directory.path().join(file_name(tag));
    directory.write(&record(1)).unwrap();
    symlink(place(1), place(2)).unwrap();
    assert!(why(directory.read(2)).contains("no symbolic link"));
    std::fs::create_dir(place(3)).unwrap();
    assert!(why(directory.read(3)).contains("it is no file"));
    std::fs::copy(place(1), place(4)).unwrap();
    assert!(why(directory.read(4)).contains("another device's"));
    std::fs::set_permissions(place(1), PermissionsExt::from_mode(0o620)).unwrap();
    assert!(why(directory.read(1)).contains("others may use it"));
    std::fs::write(place(5), vec![b' '; 2 << 20]).unwrap();
    assert!(why(directory.read(5)).contains("is no use"), "endless ones end");
    // What is written replaces a link, and does not follow it.
    directory.write(&record(2)).unwrap();
    assert_eq!(directory.read(2).unwrap(), Some(record(2)));
    assert!(why(directory.read(1)).contains("others may use it"), "it is as it was");
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn sockets_without_a_listener_are_forgotten() {
    let place = folder("sockets").join("ublkit");
    let directory = Directory::open_at(place.clone()).unwrap();
    let _listens = std::os::unix::net::UnixListener::bind(directory.socket(1)).unwrap();
    for tag in [2, 3] {
        drop(std::os::unix::net::UnixListener::bind(directory.socket(tag)).unwrap());
    }
    directory.write(&record(3)).unwrap();
    directory.remove_dead_sockets();
    assert_eq!(directory.tags_of(SOCKET_END), [1, 3], "a record's may be about to listen");
    assert_eq!(directory.tags(), [3]);
    std::fs::remove_dir_all(place.parent().unwrap()).unwrap();
}

/// Of two commands that change a device the second waits for the first, but not for ever.
#[test]
fn one_at_a_time_has_the_lock() {
    let place = folder("locked").join("ublkit");
    let [first, second] = [(); 2].map(|()| Directory::open_at(place.clone()).unwrap());
    let held = first.lock(Duration::ZERO).unwrap();
    assert!(why(second.lock(Duration::from_millis(20))).starts_with("cannot lock "));
    let waiting = std::thread::spawn(move || second.lock(Duration::from_secs(60)).is_ok());
    drop(held);
    assert!(waiting.join().unwrap());
    std::fs::remove_dir_all(place.parent().unwrap()).unwrap();
}

/// What keeps records from being kept or believed is told, and nothing is made for it.
#[test]
fn troubles_are_told() {
    let place = folder("troubles").join("ublkit");
    let troubles = || Directory::troubles_at(&place);
    assert_eq!(troubles(), Vec::<String>::new());
    assert!(!place.exists(), "looking makes nothing");
    let directory = Directory::open_at(place.clone()).unwrap();
    directory.write(&record(7)).unwrap();
    assert_eq!(troubles(), Vec::<String>::new());
    std::fs::write(place.join("0000000000000008.json"), "no record").unwrap();
    let told = troubles();
    assert!(told.len() == 1 && told[0].contains("0000000000000008.json is no use"), "{told:?}");
    std::fs::set_permissions(&place, PermissionsExt::from_mode(0o777)).unwrap();
    let told = troubles();
    assert!(told.len() == 1 && told[0].contains("others may use it (mode 0777)"), "{told:?}");
    std::fs::remove_dir_all(place.parent().unwrap()).unwrap();
}

/// What is said of directories and records that are no use, in `tests/golden/state.txt`.
///
/// `UBLKIT_BLESS=1 cargo test --bin ublkit directory` writes the file anew; then read what changed.
#[test]
fn sentences_are_as_committed() {
    let home = folder("said");
    let own = rustix::process::geteuid().as_raw();
    let place = home.join("ublkit");
    let directory = Directory::open_at(place.clone()).unwrap();
    directory.write(&record(1)).unwrap();
    let text = std::fs::read_to_string(place.join(file_name(1))).unwrap();
    let mut said = Vec::new();
    let mut tag = 1;
    let mut spoilt = |text: String| {
        tag += 1;
        std::fs::write(place.join(file_name(tag)), text).unwrap();
        said.push(why(directory.read(tag)).replace(&file_name(tag), "TAG.json"));
    };
    for (right, wrong) in [
        ("\"version\": 1", "\"version\": 2"),
        ("\"version\": 1", "\"version\": \"new\""),
        ("\"tag\": \"0000000000000001\"", "\"tag\": \"soon\""),
        ("\"arguments\"", "\"words\""),
        ("\"folder\"", "\"place\""),
        ("\"pid\"", "\"who\""),
        ("\"granted\": null", "\"granted\": {}"),
        ("\"file\": null", "\"file\": 7"),
    ] {
        assert!(text.contains(right), "{right} in {text}");
        spoilt(text.replace(right, wrong));
    }
    spoilt(text.clone());
    spoilt("no record".into());
    // Cut before the first number that has more digits or fewer in another process.
    let cut = text.find("\"pid\"").unwrap() + 3;
    spoilt(text[..cut].into());
    std::fs::set_permissions(place.join(file_name(1)), PermissionsExt::from_mode(0o620)).unwrap();
    said.push(why(directory.read(1)).replace(&file_name(1), "TAG.json"));
    let held = directory.lock(Duration::ZERO).unwrap();
    said.push(why(Directory::open_at(place.clone()).unwrap().lock(Duration::ZERO)));
    drop(held);
    let names = Names::open(&directory).unwrap();
    std::fs::create_dir(place.join("by-name/scratch")).unwrap();
    said.push(why(names.point("scratch", "/dev/ublkb7")));
    // Of others, as far as one can say without being root.
    let mut stat = rustix::fs::stat(&place).unwrap();
    stat.st_uid = own + 1;
    let kind = FileType::Directory;
    said.push(unbelieved(&place, &trusted(&stat, kind, Mode::empty()).unwrap_err()));
    said.extend([Errno::ACCESS, Errno::ROFS].map(|error| match failed("make", &place, error) {
        Failure::Said(_, sentence) => sentence,
        other => panic!("{other:?}"),
    }));
    let found: String = said.iter().map(|sentence| format!("{sentence}\n")).collect();
    let found = found.replace(&home.display().to_string(), "/run");
    let found = found.replace(&format!("uid {}, not {own}", own + 1), "uid 7, not 0");
    std::fs::remove_dir_all(home).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/state.txt");
    if std::env::var_os("UBLKIT_BLESS").is_some() {
        return std::fs::write(path, found).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    assert!(golden == found, "state.txt differs; the program says:\n{found}");
}
