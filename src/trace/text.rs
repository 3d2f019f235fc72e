//! An event as a line: of text, for people, or of JSON, for programs.

use super::event::Event;
use super::fields::{Direction, Head, Value, name};
use crate::errno::Errno;
use core::fmt::{self, Display, Formatter, Write};
use core::time::Duration;
use ublkit_sys::abi::Constant;

impl Display for Event {
    /// A line of text, without its end: seconds, thread, who speaks, what, and `name=value` for the
    /// rest.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (_, direction, head) = self.what.head();
        let arrow = match direction {
            Direction::ToKernel => "->",
            Direction::FromKernel => "<-",
            Direction::Within => "--",
        };
        let (seconds, micros) = (self.at.as_secs(), self.at.subsec_micros());
        write!(f, "{seconds:>4}.{micros:06} {:<9} {arrow} ", self.task)?;
        match head {
            Head::Word(word) => f.write_str(word)?,
            Head::Value(_, value) => text(&value, f)?,
        }
        let mut result = Ok(());
        self.what.fields(&mut |name, value| {
            // The sums are for a comparison by program.
            if result.is_ok() && !matches!(value, Value::Sums(_)) {
                result = write!(f, " {name}=").and_then(|()| text(&value, f));
            }
        });
        result
    }
}

fn text(value: &Value<'_>, f: &mut Formatter<'_>) -> fmt::Result {
    match value {
        Value::Number(number) => write!(f, "{number}"),
        Value::Hex(number) => write!(f, "{number:#x}"),
        Value::Result(result) => match errno(*result) {
            Some(name) => write!(f, "-{name}"),
            None => write!(f, "{result}"),
        },
        Value::Word(word) => f.write_str(word),
        Value::Sums(sums) => write!(f, "{sums}"),
        Value::Yes(yes) => f.write_str(if *yes { "yes" } else { "no" }),
        Value::Named(number, table, prefix) => match name(*number, table, prefix) {
            Some(name) => f.write_str(name),
            None => write!(f, "{number:#x}"),
        },
        Value::Bits(bits, table, prefix) => set(*bits, table, prefix, f),
        Value::Time(time) => tenths_of_us(*time, f),
        Value::Numbers(numbers) => {
            for (index, number) in numbers.iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                write!(f, "{comma}{number}")?;
            }
            Ok(())
        }
        Value::Any => f.write_str("any"),
    }
}

fn errno(result: i64) -> Option<&'static str> {
    let number = i32::try_from(result.checked_neg()?).ok()?;
    Errno::new(number)?.name()
}

fn tenths_of_us(time: Duration, f: &mut Formatter<'_>) -> fmt::Result {
    let tenths = time.as_nanos() / 100;
    write!(f, "{}.{}us", tenths / 10, tenths % 10)
}

/// The names of the bits that are set, and a number for those without.
fn set(bits: u64, table: &'static [Constant], prefix: &str, f: &mut Formatter<'_>) -> fmt::Result {
    let mut left = bits;
    let mut bar = "";
    while left != 0 {
        let bit = left & left.wrapping_neg();
        let Some(name) = name(bit, table, prefix) else { break };
        write!(f, "{bar}{name}")?;
        bar = "|";
        left &= !bit;
    }
    match (bits, left) {
        (0, _) => f.write_str("none"),
        (_, 0) => Ok(()),
        (_, left) => write!(f, "{bar}{left:#x}"),
    }
}

impl Event {
    /// A line of JSON, without its end: an object whose `what` says which other fields it has.
    /// Times are in nanoseconds, sets of flags are numbers.
    pub fn json(&self) -> impl Display {
        Json(self)
    }
}

struct Json<'a>(&'a Event);

impl Display for Json<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Event { at, task, what } = self.0;
        let (kind, _, head) = what.head();
        write!(f, "{{\"at_ns\":{},\"task\":", at.as_nanos())?;
        string(task, f)?;
        write!(f, ",\"what\":\"{kind}\"")?;
        if let Head::Value(name, value) = head {
            write!(f, ",\"{name}\":")?;
            json(&value, f)?;
        }
        let mut result = Ok(());
        what.fields(&mut |name, value| {
            if result.is_ok() {
                let unit = if matches!(value, Value::Time(_)) { "_ns" } else { "" };
                result = write!(f, ",\"{name}{unit}\":").and_then(|()| json(&value, f));
            }
        });
        result?;
        f.write_char('}')
    }
}

fn json(value: &Value<'_>, f: &mut Formatter<'_>) -> fmt::Result {
    match value {
        Value::Number(number) | Value::Hex(number) | Value::Bits(number, ..) => {
            write!(f, "{number}")
        }
        Value::Result(result) => write!(f, "{result}"),
        Value::Word(word) => string(word, f),
        Value::Sums(sums) => write!(f, "\"{sums}\""),
        Value::Yes(yes) => write!(f, "{yes}"),
        Value::Named(number, table, prefix) => match name(*number, table, prefix) {
            Some(name) => string(name, f),
            None => write!(f, "{number}"),
        },
        Value::Time(time) => write!(f, "{}", time.as_nanos()),
        Value::Numbers(numbers) => write!(f, "{numbers:?}"),
        Value::Any => f.write_str("null"),
    }
}

fn string(text: &str, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(f, "\\{character}")?,
            control if control < ' ' => write!(f, "\\u{:04x}", u32::from(control))?,
            other => f.write_char(other)?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use crate::errno::Errno;
    use crate::trace::{Command, Event, Slot, What};
    use core::time::Duration;
    use ublkit_sys::blkdev::BLOCK_URING_CMD_DISCARD;
    use ublkit_sys::io_uring::IORING_OP_URING_CMD;
    use ublkit_sys::ublk as sys;
    use ublkit_sys::ublk::ublksrv_io_desc;

    fn event(task: &str, what: What) -> Event {
        Event { at: Duration::from_nanos(1_000_002_300), task: task.into(), what }
    }

    #[test]
    fn names_flags_and_what_has_no_name() {
        let slot = Slot { device: 1, queue: 2, tag: 3 };
        let op_flags = u32::from(sys::UBLK_IO_OP_WRITE) | sys::UBLK_IO_F_FUA | 1 << 30;
        let descriptor = ublksrv_io_desc { op_flags, start_sector: 8, nr_sectors: 1, addr: 0 };
        let event = event("q", What::Request { slot, descriptor, sums: None });
        assert_eq!(
            event.to_string(),
            "   1.000002 q         <- WRITE device=1 queue=2 tag=3 offset=4096 len_bytes=512 \
             flags=FUA|0x40000000"
        );
        assert_eq!(
            event.json().to_string(),
            "{\"at_ns\":1000002300,\"task\":\"q\",\"what\":\"request\",\"op\":\"WRITE\",\
             \"device\":1,\"queue\":2,\"tag\":3,\"offset\":4096,\"len_bytes\":512,\
             \"flags\":1073750016}"
        );
    }

    #[test]
    fn unknown_commands_and_results() {
        let command = Command { opcode: 7, device: None, number: 9, path: Some("a\"\n".into()) };
        let sent = event("\u{1}", What::Command { command: command.clone(), payload: None });
        assert!(sent.to_string().ends_with("-> 0x7 device=any path=a\"\n number=9"));
        assert!(sent.json().to_string().contains(
            "\"task\":\"\\u0001\",\"what\":\"command\",\"command\":7,\"device\":null,\
             \"path\":\"a\\\"\\u000a\",\"number\":9}"
        ));
        for (result, shown) in [(-5, "-EIO"), (-4000, "-4000"), (i32::MIN, "-2147483648"), (7, "7")]
        {
            let latency = Duration::from_nanos(1250);
            let what = What::Answer { command: command.clone(), result, latency, payload: None };
            let line = event("q", what).to_string();
            assert!(line.ends_with(&format!("result={shown} latency=1.2us")), "{line}");
        }
        for (command, shown) in [
            (None, ""),
            (Some(BLOCK_URING_CMD_DISCARD), " command=DISCARD"),
            (Some(7), " command=0x7"),
        ] {
            let opcode = IORING_OP_URING_CMD;
            let line = event("q", What::Sent { opcode, command, user_data: 5 }).to_string();
            assert!(line.ends_with(&format!("-> URING_CMD{shown} user_data=0x5")), "{line}");
        }
        let failed = event("q", What::Failed { call: "open", errno: Errno::EACCES });
        assert!(failed.to_string().ends_with("<- FAILED call=open result=-EACCES"));
    }
}
