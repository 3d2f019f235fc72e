//! Sections of documents that a program writes, each between two comments:
//! ``<!-- NAME: written by `COMMAND` -->`` and `<!-- /NAME -->`.

use std::path::Path;

/// Where a section's text begins and ends.
fn place(text: &str, name: &str) -> Option<(usize, usize)> {
    let comment = text.find(&format!("<!-- {name}: written by"))?;
    let begin = comment + text[comment..].find("-->\n")? + "-->\n".len();
    let end = begin + text[begin..].find(&format!("<!-- /{name} -->"))?;
    Some((begin, end))
}

/// What a section says.
pub fn section(document: &Path, name: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(document)
        .map_err(|error| format!("{}: {error}", document.display()))?;
    let lost = || format!("{} has lost its section '{name}'", document.display());
    let (begin, end) = place(&text, name).ok_or_else(lost)?;
    Ok(text[begin..end].to_owned())
}

/// Says something else in a section.
pub fn rewrite(document: &Path, name: &str, section: &str) -> Result<(), String> {
    let failed = |error| format!("{}: {error}", document.display());
    let text = std::fs::read_to_string(document).map_err(failed)?;
    let lost = || format!("{} has lost its section '{name}'", document.display());
    let (begin, end) = place(&text, name).ok_or_else(lost)?;
    let text = format!("{}{}\n{}", &text[..begin], section.trim_end(), &text[end..]);
    std::fs::write(document, text).map_err(failed)
}
