//! `docs/protocol.md` prints the table of what differs between kernels, as the simulation has it.

use std::path::Path;
use ublkit::sim::Rule;

/// Before and after the table.
const MARKS: [&str; 2] =
    ["<!-- rules: written by UBLKIT_BLESS=1 cargo test --test witness -->\n", "<!-- end -->"];

fn table() -> String {
    let mut text =
        String::from("| since | the newer way, and what was before | in |\n|---|---|---|\n");
    for rule in Rule::ALL {
        let words: Vec<&str> = rule.sentence().split_whitespace().collect();
        text += &format!("| {} | {} | `{}` |\n", rule.series(), words.join(" "), rule.source());
    }
    text
}

/// Compares the document's table with the rules; with `UBLKIT_BLESS`, writes it.
pub fn check() -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md");
    let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let [begin, end] = MARKS;
    let (before, rest) = text.split_once(begin).ok_or("docs/protocol.md has no table of rules")?;
    let (printed, after) = rest.split_once(end).ok_or("the table of rules has no end")?;
    if printed == table() {
        return Ok(());
    }
    if std::env::var_os("UBLKIT_BLESS").is_some() {
        let text = format!("{before}{begin}{}{end}{after}", table());
        return std::fs::write(&path, text).map_err(|error| error.to_string());
    }
    Err("docs/protocol.md does not print the rules as they are: UBLKIT_BLESS=1 rewrites it".into())
}
