//! `doctor`: what a machine says of itself, in files of any bytes.

use crate::cli::doctor;

/// The first byte is what the machine's kernel answers, and the rest its files, with a zero between
/// two of them. What is found is told in words, or the machine is taken for good.
pub(crate) fn doctor(bytes: &[u8]) {
    let [answer, files @ ..] = bytes else { return };
    let texts: Vec<&[u8]> = files.split(|byte| *byte == 0).collect();
    doctor::exercise(*answer, &texts);
}

#[cfg(test)]
mod tests {
    use crate::cli::doctor::GOOD;
    use crate::cli::fuzz::corpus;

    #[test]
    fn corpus_of_doctor() {
        let made = |answer: u8, other: &[(&str, &str)]| {
            let text = |(file, good): &(&str, &'static str)| {
                let other = other.iter().find(|(name, _)| file.ends_with(name));
                other.map_or(*good, |(_, text)| text).as_bytes().to_vec()
            };
            [&[answer], &GOOD.iter().map(text).collect::<Vec<_>>().join(&0)[..]].concat()
        };
        let container = [
            ("status", "Uid:\t0\t0\t0\t0\nCapEff:\tffffffffffffffff\n"),
            ("uid_map", "0 100000 65536\n"),
            ("mounts", "none /dev tmpfs rw 0 0\n"),
            ("rules", "# ublkc\n"),
        ];
        let old = [
            ("osrelease", "6.1.0-31-amd64\n"),
            ("tainted", "640"),
            ("io_uring_disabled", "2"),
            ("limits", "Max open files 16 16 files\nMax locked memory unlimited\n"),
            ("ublks_max", "0"),
        ];
        let odd = [
            ("osrelease", "99999999999.6-\u{1b}[2J\n7.3.4"),
            ("tainted", "-1"),
            ("status", "CapEff:\tx\nUid"),
            ("limits", "Max open files"),
            ("ublks_max", "18446744073709551616"),
        ];
        let seeds = [
            ("good", made(0, &[])),
            ("container", made(1, &container)),
            ("old", made(1, &old)),
            ("odd", made(200, &odd)),
            ("no-files", vec![38]),
        ];
        corpus::check("doctor", super::doctor, &seeds);
    }
}
