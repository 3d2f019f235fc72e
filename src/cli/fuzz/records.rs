//! `records`: the texts that the command reads: records of devices, what servers tell, what a
//! process says of how it went, and what the kernel says of processes, disks and mounts.

use crate::cli::{recover, stat, state, supervise};

/// A text is read as each of them. What can be read is written as it was, and what cannot is
/// refused in words.
pub(crate) fn records(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    let in_words = |why: &str| assert!(why.len() > 6 && !why.contains('\n'), "{why:?}");
    match state::exercise(text) {
        Ok(record) => match recover::said(7, &record) {
            Ok(_) => {}
            Err(failure) => assert!(failure.sentence().contains("does not understand")),
        },
        Err(why) => in_words(&why),
    }
    if let Err(why) = stat::exercise(text) {
        in_words(&why);
    }
    supervise::exercise(text);
}

#[cfg(test)]
mod tests {
    use super::records;
    use crate::cli::fuzz::corpus;

    const RECORD: &str = r#"{"version": 1, "tag": "0123456789abcdef", "name": "scratch",
"server": {"pid": 7, "began": 99}, "arguments": ["file", "disk.img", "--recover", "reissue"],
"folder": "/srv", "file": {"device": 3, "inode": 4}, "granted": {"id": 2, "queues": 4,
"depth": 128, "max_io_bytes": 524288, "features": 66}}"#;

    const SNAPSHOT: &str = r#"{"version": 2, "pid": 7, "time_ns": 12345, "queues": [{"reads": 1,
"writes": 2, "others": 3, "read_bytes": 4, "written_bytes": 5, "errors": 6, "panics": 7,
"timeouts": 8, "in_flight": 9, "latencies_ns": [[1000, 2], [18446744073709551615, 3]]}],
"stuck": [{"queue": 0, "tag": 3, "seconds": 4}, {"queue": 1, "tag": null, "seconds": 5}]}"#;

    #[test]
    fn corpus_of_records() {
        let bare = RECORD.replace(r#""scratch""#, "null");
        let strange = RECORD.replace("--recover", "--sing");
        let most = format!("{} ", u64::MAX).repeat(17);
        let texts = [
            ("record", RECORD),
            ("nameless", &bare),
            ("strange-words", &strange),
            ("next-version", "{\"version\": 2}"),
            ("half", &RECORD[..99]),
            ("snapshot", SNAPSHOT),
            ("disk", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17"),
            ("busy-disk", &most),
            ("process", "7 (a) b) c) S 1 7 7 0 -1 4 1 0 0 0 1 1 0 0 20 0 3 0 4711 1 1"),
            ("mounts", "26 25 8:3 / /home/a\\040b\\777 rw shared:5 - xfs /dev/sda3 rw\n27 - - x"),
            ("live", "/dev/ublkb7\n"),
            ("ended", "4\n"),
            (
                "unit",
                "A=B\0SYSTEMD_EXEC_PID=7\x000::/user@1.service/app.slice/a.service/b\n1:c:/\n",
            ),
        ];
        let seeds = texts.iter().map(|(name, text)| (*name, text.as_bytes().to_vec()));
        corpus::check("records", records, &seeds.collect::<Vec<_>>());
    }
}
