//! Numbers and sizes, as people write them and as they read them.

/// Reads a count.
pub(super) fn count(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "give a whole number up to 65535, such as 4 or 128".into())
}

/// Reads a yes or a no.
pub(super) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("say yes or no".into()),
    }
}

/// Reads a device's number, or its path.
pub(super) fn device(text: &str) -> Result<u32, String> {
    let number = ["/dev/ublkb", "/dev/ublkc"].iter().find_map(|node| text.strip_prefix(node));
    let number = number.unwrap_or(text).parse();
    number.map_err(|_| "give the number N of /dev/ublkbN, or that path".into())
}

/// Reads a size: digits, then perhaps `K`, `M`, `G`, `T` or `P` (powers of 1024, either case, with
/// or without `iB`).
pub(super) fn size(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let unit = suffix.strip_suffix("iB").unwrap_or(suffix);
    let shift = match unit {
        "" if suffix.is_empty() => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        "P" | "p" => 50,
        _ => return Err("give bytes, or a number with K, M, G, T or P, such as 512M".into()),
    };
    let number: u64 = match digits.parse() {
        Ok(number) => number,
        Err(_) if digits.is_empty() => {
            return Err("give a number of bytes, such as 1073741824 or 1G".into());
        }
        Err(_) => return Err("the number is too large".into()),
    };
    number.checked_mul(1 << shift).ok_or_else(|| "the number is too large".into())
}

/// A size for people: exact, in the largest unit that divides it.
pub(super) fn show_size(bytes: u64) -> String {
    for (shift, unit) in [(50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::{count, device, show_size, size};
    use proptest::prelude::*;

    #[test]
    fn sizes_of_people() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("4k", 4096),
            ("1M", 1 << 20),
            ("3GiB", 3 << 30),
            ("1T", 1 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "1X", "-1", "1.5G", "1 G", "1GB", "iB", "1iB", "99999999999999999999"]
        {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(size("16384P").unwrap_err().contains("too large"));
    }

    #[test]
    fn devices_of_people() {
        for text in ["7", "/dev/ublkb7", "/dev/ublkc7"] {
            assert_eq!(device(text), Ok(7), "{text}");
        }
        for text in ["", "-1", "/dev/ublkb", "/dev/sda1", "4294967296"] {
            assert!(device(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC*") {
            let _ = (size(&text), count(&text), device(&text));
        }

        #[test]
        fn what_is_shown_is_exact(bytes: u64) {
            let shown = show_size(bytes).replace([' ', 'B', 'i'], "");
            prop_assert_eq!(size(&shown), Ok(bytes));
        }
    }
}
