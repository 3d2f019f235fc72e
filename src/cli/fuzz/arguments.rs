//! `arguments`: what people write behind `ublkit`.

use crate::cli::number::{count, device, show_size, size};
use crate::cli::{BackendName, Cli, Command, Serve, serve, signals};
use clap::Parser;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use ublkit::sim::{Choices, Faults, Profile, Sim};
use ublkit::{Blocking, Error, Null};

/// Words of any bytes, one between zeros: each as a size, a count, a device and as part of a
/// status file, and all together as arguments. What they ask for is served, if it is small enough.
pub(crate) fn arguments(bytes: &[u8]) {
    let words: Vec<&OsStr> = bytes.split(|byte| *byte == 0).map(OsStr::from_bytes).collect();
    for text in words.iter().filter_map(|word| word.to_str()) {
        number(text);
        let _ = signals::ignores(text, 1);
    }
    match Cli::try_parse_from([OsStr::new("ublkit")].into_iter().chain(words)) {
        Ok(Cli { command: Command::Serve(options) }) => serves(&options),
        Ok(_) => {}
        Err(error) => {
            let sentence = error.render().to_string();
            assert!(sentence.len() > 8 && sentence.ends_with('\n'), "{sentence:?}");
            assert_eq!(error.exit_code(), if error.use_stderr() { 2 } else { 0 });
        }
    }
}

/// A number means what a second opinion says, or is refused with a sentence.
fn number(text: &str) {
    let in_words = |why: String| assert!(why.len() > 10 && !why.contains('\n'), "{why:?}");
    match size(text) {
        Ok(bytes) => {
            let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
            let power =
                "KMGTP".find(text[digits.len()..].to_uppercase().chars().next().unwrap_or('?'));
            let unit =
                1024_u128.pow(power.map_or(0, |power| u32::try_from(power).unwrap_or(0) + 1));
            assert_eq!(
                digits.parse::<u128>().map(|count| count * unit),
                Ok(bytes.into()),
                "{text}"
            );
            let shown = show_size(bytes).replace(' ', "");
            let again =
                size(shown.strip_suffix("B").filter(|s| !s.ends_with('i')).unwrap_or(&shown));
            assert_eq!(again, Ok(bytes), "{shown}");
        }
        Err(why) => in_words(why),
    }
    match count(text) {
        Ok(count) => assert_eq!(text.parse(), Ok(count)),
        Err(why) => in_words(why),
    }
    match device(text) {
        Ok(id) => assert!(text.contains(&id.to_string()), "{text}"),
        Err(why) => in_words(why),
    }
}

/// The largest device that is tried: slots of all queues, and bytes of their buffers.
const MOST_SLOTS: u64 = 64;
const MOST_BYTES: u64 = 1 << 26;

/// A device is as the options say, or refused in words.
fn serves(options: &Serve) {
    let said = |failure| assert!(!format!("{failure:?}").is_empty());
    let (builder, geometry) = match (serve::builder(options), serve::geometry(options)) {
        (Ok(builder), Ok(geometry)) => (builder, geometry),
        (Err(failure), _) | (_, Err(failure)) => return said(failure),
    };
    let slots = u64::from(options.depth) * u64::from(options.queues.unwrap_or(4));
    if slots > MOST_SLOTS || slots.saturating_mul(options.max_io) > MOST_BYTES {
        return;
    }
    let BackendName::Null = options.backend else { return };
    let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
    match builder.serve_on(sim.task(), Blocking::new(Null::new(geometry))) {
        Ok(server) => {
            let info = server.info();
            assert_eq!(info.depth, options.depth);
            assert!(options.queues.is_none_or(|queues| info.queues <= queues));
            assert!(u64::from(info.max_io_bytes) <= options.max_io);
            assert!(options.id.is_none_or(|id| id == server.id()));
            server.stop().expect("an idle device");
        }
        Err(Error::Refused(why)) => assert!(why.len() > 10, "{why}"),
        Err(error) => assert_eq!(options.patience.timeout, 0, "{error}"),
    }
    sim.assert_clean();
}

#[cfg(test)]
mod tests {
    use super::arguments;
    use crate::cli::fuzz::corpus;

    #[test]
    fn corpus_of_arguments() {
        let words = |text: &str| text.replace(' ', "\0").into_bytes();
        let small = "serve null --size 1G --depth 4 --queues 2 --max-io";
        let mut seeds: Vec<(&str, Vec<u8>)> = vec![("not-text", vec![b's', 0, 0xff, 0xfe])];
        let texts = [
            ("help", "--help".into()),
            ("serve-help", "help serve".into()),
            ("null", format!("{small} 64K --id 7")),
            ("odd-max", format!("{small} 5000 --block-size 4096 --read-only")),
            ("huge-max", format!("{small} 4G")),
            ("no-time", format!("{small} 4096 --timeout 0")),
            ("memory", "serve memory --size 1T --block-size=2K".into()),
            ("no-size", "serve memory --size 0".into()),
            ("sizes", "512 4k 1M 3GiB 16383P 16384P 99999999999999999999 1.5G iB 1iB".into()),
            ("devices", "delete /dev/ublkb7 --force --timeout=65535".into()),
            ("list", "list --json".into()),
            ("show", "show /dev/ublkc0 --json".into()),
            ("stop", "stop 0 --timeout soon".into()),
            ("conflict", "delete 0 --all".into()),
            ("typo", "sevre memroy".into()),
            ("status", "SigIgn:\t0000000000000001\nSigCgt:\t0".into()),
        ];
        seeds.extend(texts.iter().map(|(name, text): &(&str, String)| (*name, words(text))));
        corpus::check("arguments", arguments, &seeds);
    }
}
