//! What `sys` defines, printed.

use super::HEADERS;
use crate::cli::exit::Failure;
use crate::cli::listing::print_json;
use serde_json::{Value, json};
use std::io::Write;
use ublkit::ErrorKind;
use ublkit::sys::abi::{Constant, Field, Layout};

/// Prints all structs and constants, or those whose name contains one of `names`.
pub(super) fn print(names: &[String], as_json: bool) -> Result<(), Failure> {
    let wanted =
        |name: &str| names.is_empty() || names.iter().any(|part| name.contains(part.as_str()));
    let structs = HEADERS.iter().flat_map(|header| header.structs);
    let constants = HEADERS.iter().flat_map(|header| header.constants);
    let structs: Vec<&Layout> = structs.filter(|layout| wanted(layout.name)).collect();
    let group = |group: &&'static [Constant]| -> Vec<&Constant> {
        group.iter().filter(|constant| wanted(constant.name)).collect()
    };
    let groups: Vec<Vec<&Constant>> =
        constants.map(group).filter(|some| !some.is_empty()).collect();
    if structs.is_empty() && groups.is_empty() {
        let sentence = format!("nothing here has {} in its name", names.join(" or "));
        return Err(Failure::Said(ErrorKind::Usage, sentence));
    }
    if as_json {
        let structs: Vec<Value> = structs.into_iter().map(struct_json).collect();
        let constants: Vec<Value> = groups.into_iter().flatten().map(constant_json).collect();
        return print_json(&json!({ "structs": structs, "constants": constants }));
    }
    let mut out = std::io::stdout().lock();
    let mut between = "";
    for layout in structs {
        writeln!(out, "{between}struct {}: {} bytes", layout.name, layout.size_bytes)?;
        for field in layout.fields {
            writeln!(out, "{:6} {:5}  {}", field.offset_bytes, field.size_bytes, field.name)?;
        }
        between = "\n";
    }
    for group in groups {
        write!(out, "{between}")?;
        let width = group.iter().map(|one| one.name.len()).max().unwrap_or(0);
        for Constant { name, value } in group {
            writeln!(out, "{name:width$}  {}", show(*value))?;
        }
        between = "\n";
    }
    Ok(out.flush()?)
}

fn struct_json(layout: &Layout) -> Value {
    let field = |field: &Field| {
        json!({
            "name": field.name,
            "offset_bytes": field.offset_bytes,
            "size_bytes": field.size_bytes,
        })
    };
    let fields: Vec<Value> = layout.fields.iter().map(field).collect();
    json!({ "name": layout.name, "size_bytes": layout.size_bytes, "fields": fields })
}

fn constant_json(constant: &Constant) -> Value {
    json!({ "name": constant.name, "value": constant.value, "text": show(constant.value) })
}

/// Small numbers and errnos as people count, all else in hexadecimal.
fn show(value: u64) -> String {
    match value.cast_signed() {
        small @ -4095..10 => small.to_string(),
        _ => format!("{value:#x}"),
    }
}
