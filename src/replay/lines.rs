//! The fields of one line, with errors that name them.

use serde_json::{Map, Value};

/// One line: a JSON object.
pub(super) struct Line(Map<String, Value>);

type Field<T> = Result<T, String>;

impl Line {
    pub(super) fn parse(bytes: &[u8]) -> Field<Self> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err("it is no JSON object".into()),
            Err(error) => Err(format!("it is no JSON object: {error}")),
        }
    }

    /// A text.
    pub(super) fn word(&self, name: &str) -> Field<&str> {
        let word = self.0.get(name).and_then(Value::as_str);
        word.ok_or_else(|| format!("'{name}' is missing or no text"))
    }

    /// A text that need not be there.
    pub(super) fn word_if_any(&self, name: &str) -> Field<Option<&str>> {
        if self.0.contains_key(name) { self.word(name).map(Some) } else { Ok(None) }
    }

    /// A whole number from 0 on.
    pub(super) fn number<T: TryFrom<u64>>(&self, name: &str) -> Field<T> {
        let number = self.0.get(name).and_then(Value::as_u64);
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("'{name}' is missing, no whole number, or too large"))
    }

    /// The same; 0 when it is not there.
    pub(super) fn number_or_0<T: TryFrom<u64> + Default>(&self, name: &str) -> Field<T> {
        if self.0.contains_key(name) { self.number(name) } else { Ok(T::default()) }
    }

    /// A result: a count, or a negated errno.
    pub(super) fn result(&self) -> Field<i32> {
        let number = self.0.get("result").and_then(Value::as_i64);
        let number = number.and_then(|number| i32::try_from(number).ok());
        number.ok_or_else(|| "'result' is missing or no number that a kernel sends".into())
    }

    /// A number of a table of the kernel's, by its name or as it is.
    pub(super) fn named(
        &self,
        name: &str,
        table: &[ublkit_sys::abi::Constant],
        prefix: &str,
    ) -> Field<u64> {
        let Some(word) = self.0.get(name).and_then(Value::as_str) else {
            return self.number(name);
        };
        let is_it = |constant: &&ublkit_sys::abi::Constant| {
            constant.name.strip_prefix(prefix) == Some(word)
        };
        let found = table.iter().find(is_it).map(|constant| constant.value);
        // The file may hold what a terminal would obey.
        let shown = word.escape_debug();
        found.ok_or_else(|| format!("'{name}' is '{shown}', which nobody knows"))
    }
}
