//! What callgrind wrote: instructions by function, source file and line.

use std::collections::BTreeMap;

/// Where an instruction is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The function, which others may have been inlined into.
    pub function: String,
    /// The source file, which may be that of an inlined one.
    pub file: String,
    /// The line in it.
    pub line: u32,
}

/// Instructions by place, those of callees not included.
pub fn read(text: &str) -> BTreeMap<Place, u64> {
    let (mut files, mut functions) = (BTreeMap::new(), BTreeMap::new());
    let (mut file, mut function) = (String::new(), String::new());
    let mut line = 0_u32;
    let mut of_callees = false;
    let mut costs = BTreeMap::new();
    for record in text.lines() {
        if let Some((key, value)) = record.split_once('=') {
            match key {
                "fl" | "fi" | "fe" => file = name(&mut files, value),
                "fn" => function = name(&mut functions, value),
                // Of callees, which may be the first that is said of them.
                "cfi" | "cfl" => _ = name(&mut files, value),
                "cfn" => _ = name(&mut functions, value),
                "calls" => of_callees = true,
                _ => {}
            }
            continue;
        }
        let Some((at, cost)) = record.split_once(' ') else { continue };
        // A line is a number, or the distance from the last one.
        let number = |digits: &str| digits.parse::<u32>().ok();
        let moved = match at.as_bytes().first() {
            // It goes round where a place has no line, which is 0.
            Some(b'+') => number(&at[1..]).map(|by| line.wrapping_add(by)),
            Some(b'-') => number(&at[1..]).map(|by| line.wrapping_sub(by)),
            Some(b'*') => Some(line),
            _ => number(at),
        };
        let (Some(at), Ok(cost)) = (moved, cost.parse::<u64>()) else { continue };
        line = at;
        if !std::mem::take(&mut of_callees) {
            let place = Place { function: function.clone(), file: file.clone(), line };
            *costs.entry(place).or_default() += cost;
        }
    }
    costs
}

/// A name, or the number of one that was said before: `(7) src/slots.rs`, later `(7)`.
fn name(names: &mut BTreeMap<String, String>, value: &str) -> String {
    let (number, rest) = value.split_once(' ').unwrap_or((value, ""));
    if !rest.is_empty() {
        names.insert(number.into(), rest.into());
    }
    names.get(number).cloned().unwrap_or_else(|| value.into())
}
