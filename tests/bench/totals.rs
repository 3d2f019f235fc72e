//! Instructions of a request, user and kernel, against those of an earlier run on the same kernel.

use crate::sample::{Run, Spread, once};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// How much more than any earlier round a request may cost in every round.
const GROWTH: f64 = 1.03;

/// What a request costs a server, by server and cell.
pub type Costs = BTreeMap<String, Spread>;

/// The servers' costs, of those whose names are wanted.
pub fn of(run: &Run, wanted: impl Fn(&str) -> bool) -> Costs {
    let mut costs = Costs::new();
    for group in run.groups() {
        for cell in run.names(group, 1) {
            for name in once(run.names(group, 2).into_iter().filter(|name| wanted(name))) {
                let all = run.of([group, cell, name]).filter_map(|sample| sample.cpu_ns_per_io);
                let key = format!("{name}: {group}, {cell}");
                costs.extend(Spread::of(all).map(|spread| (key, spread)));
            }
        }
    }
    costs
}

/// As they are kept: the least, the median and the most.
pub fn to_json(costs: &Costs) -> Value {
    let kept = |spread: &Spread| json!([spread.least, spread.median, spread.most].map(f64::round));
    costs.iter().map(|(name, spread)| (name.clone(), kept(spread))).collect::<Map<_, _>>().into()
}

/// What was kept. An older file has the median alone.
pub fn from_json(value: &Value) -> Costs {
    let one = |value: &Value| {
        let number = |index: usize| value[index].as_f64().or(value.as_f64());
        Some(Spread { least: number(0)?, median: number(1)?, most: number(2)? })
    };
    let all = value.as_object().into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.clone(), one(value)?))).collect()
}

/// What came of a comparison.
#[derive(Debug, Default)]
pub struct Verdict {
    /// A line for each.
    pub lines: Vec<String>,
    /// Those that cost too much.
    pub broken: Vec<String>,
}

/// Compares costs with earlier ones. What differs from round to round is judged by that: each round
/// must be dearer than every earlier one was, by more than is allowed.
pub fn judge(now: &Costs, before: &Costs) -> Verdict {
    let mut verdict = Verdict::default();
    for (name, cost) in now {
        let Some(kept) = before.get(name) else {
            verdict.broken.push(format!("{name} was never recorded"));
            continue;
        };
        let change = (cost.median / kept.median - 1.0) * 100.0;
        let (is, was) = (cost.median, kept.median);
        let line = format!("{name}: {is:.0} instructions, {change:+.1} % of {was:.0}");
        if cost.least > kept.most * GROWTH {
            verdict.broken.push(line.clone());
        }
        let is_less = cost.most * GROWTH < kept.least;
        verdict.lines.push(line + if is_less { ": record it (--bless)" } else { "" });
    }
    verdict
}

/// The names of the control's two servers, of which the second does something for nothing.
pub const CONTROL: [&str; 2] = ["honest", "planted"];

/// Whether work that was planted in this run was noticed.
pub fn control(run: &Run) -> Result<String, String> {
    let [honest, planted] = CONTROL.map(|control| {
        let costs = of(run, |name| name == control).into_iter();
        costs.map(|(name, cost)| (name[control.len()..].to_owned(), cost)).collect::<Costs>()
    });
    if honest.is_empty() || !honest.keys().eq(planted.keys()) {
        return Err("the control was not measured".into());
    }
    let (false_alarms, found) = (judge(&honest, &honest).broken, judge(&planted, &honest).broken);
    if !false_alarms.is_empty() || found.len() != honest.len() {
        return Err(format!("planted work is not told from honest work: {honest:?}, {planted:?}"));
    }
    Ok(format!("planted work was noticed{}", found.join(" and")))
}
