//! Writes BTF, as far as these tests need it: structs of plain members, and enums.

use ublkit::sys::abi::{Constant, Field, Layout};

const ARRAY: u32 = 3 << 24;
const STRUCT: u32 = 4 << 24;
const ENUM: u32 = 6 << 24;
/// The byte that every member is an array of: type 1.
const BYTE: [u32; 4] = [0, 1 << 24, 1, 8];

/// A struct or an enum that is to be written.
#[derive(Clone, Debug)]
pub(super) enum Type {
    Struct { name: String, size_bytes: u32, members: Vec<Member> },
    Enum { values: Vec<(String, u32)> },
}

/// A member, made of so many bytes.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) offset_bytes: u32,
    pub(super) size_bytes: u32,
}

impl Type {
    pub(super) fn of_layout(layout: &Layout) -> Self {
        let number = |it: usize| u32::try_from(it).expect("a struct is small");
        let member = |field: &Field| Member {
            // Words of Rust have an underscore behind them in `sys`.
            name: field.name.trim_end_matches('_').into(),
            offset_bytes: number(field.offset_bytes),
            size_bytes: number(field.size_bytes),
        };
        Self::Struct {
            name: layout.name.into(),
            size_bytes: number(layout.size_bytes),
            members: layout.fields.iter().map(member).collect(),
        }
    }

    pub(super) fn of_constants(group: &[Constant]) -> Self {
        let low = |value: u64| u32::try_from(value & u64::from(u32::MAX)).expect("32 bits");
        let value = |one: &Constant| (one.name.to_string(), low(one.value));
        Self::Enum { values: group.iter().map(value).collect() }
    }
}

/// A file, perhaps on top of another.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// The next type's number, and the next string's offset.
    pub(super) next: (u32, u32),
    types: Vec<u32>,
    strings: Vec<u8>,
    first_string: u32,
}

impl File {
    /// A kernel's, with the byte.
    pub(super) fn kernel() -> Self {
        Self { next: (2, 1), types: BYTE.into(), strings: vec![0], first_string: 0 }
    }

    /// A module's, which goes on where its kernel's ends.
    pub(super) fn module(kernel: &Self) -> Self {
        let next = kernel.next;
        Self { next, types: vec![], strings: vec![], first_string: next.1 }
    }

    pub(super) fn add(&mut self, types: &[Type]) {
        for one in types {
            match one {
                Type::Struct { name, size_bytes, members } => {
                    self.add_struct(name, *size_bytes, members);
                }
                Type::Enum { values } => {
                    let values: Vec<u32> = values
                        .iter()
                        .flat_map(|(name, value)| [self.string(name), *value])
                        .collect();
                    let count = u32::try_from(values.len() / 2).expect("few");
                    self.put(&[0, ENUM | count, 4]);
                    self.types.extend(values);
                }
            }
        }
    }

    fn add_struct(&mut self, name: &str, size_bytes: u32, members: &[Member]) {
        let mut words = Vec::new();
        for member in members {
            let array = self.put(&[0, ARRAY, 0, 1, 1, member.size_bytes]);
            words.extend([self.string(&member.name), array, member.offset_bytes * 8]);
        }
        let count = u32::try_from(members.len()).expect("few");
        let name = self.string(name);
        self.put(&[name, STRUCT | count, size_bytes]);
        self.types.extend(words);
    }

    fn put(&mut self, words: &[u32]) -> u32 {
        self.types.extend(words);
        self.next.0 += 1;
        self.next.0 - 1
    }

    fn string(&mut self, text: &str) -> u32 {
        let at = self.next.1;
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        self.next.1 = self.first_string + u32::try_from(self.strings.len()).expect("short");
        at
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let types = u32::try_from(self.types.len() * 4).expect("short");
        let strings = u32::try_from(self.strings.len()).expect("short");
        let header = [0x0001_eb9f, 24, 0, types, types, strings];
        let words = header.iter().chain(&self.types).flat_map(|word| word.to_le_bytes());
        words.chain(self.strings.iter().copied()).collect()
    }
}
