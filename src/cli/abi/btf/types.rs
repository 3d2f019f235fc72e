//! What a type says, decoded when asked for.

use super::{Btf, word};

/// How far types may refer to each other, or be within each other, before they are taken for a
/// circle. Real ones stay below ten.
const MAX_STEPS: usize = 16;
/// How many members a struct may have, with those of nameless structs within it.
const MAX_PLACES: usize = 1024;

/// What sort of type it is, as far as layouts are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An integer or a floating point number.
    Number,
    /// An address.
    Pointer,
    /// Many of one type.
    Array,
    /// Members behind each other.
    Struct,
    /// Members over each other.
    Union,
    /// An integer with names; with 64 bits for each value or without.
    Enum { wide: bool },
    /// Another name for a type, or `const` and its like.
    Alias,
    /// A type's name without its contents.
    Forward,
    /// Functions, variables, tags.
    Other,
}

pub(super) const fn kind_of(bits: u32) -> u8 {
    (bits >> 24 & 0x7f) as u8
}

pub(super) const fn count_of(bits: u32) -> usize {
    (bits & 0xff_ffff) as usize
}

/// A type, as it is written down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type<'a> {
    kind: Kind,
    /// Offset of the name.
    name: u32,
    /// Whether members may be bit fields, or values have a sign.
    flag: bool,
    /// Bytes, or the number of another type.
    size_or_type: u32,
    tail: &'a [u8],
}

impl<'a> Type<'a> {
    pub(super) fn decode(name: u32, bits: u32, size_or_type: u32, tail: &'a [u8]) -> Self {
        let kind = match kind_of(bits) {
            1 | 16 => Kind::Number,
            2 => Kind::Pointer,
            3 => Kind::Array,
            4 => Kind::Struct,
            5 => Kind::Union,
            6 => Kind::Enum { wide: false },
            7 => Kind::Forward,
            8..=11 | 18 => Kind::Alias,
            19 => Kind::Enum { wide: true },
            _ => Kind::Other,
        };
        Self { kind, name, flag: bits >> 31 != 0, size_or_type, tail }
    }
}

/// Bytes of a struct that have a name, or that a nameless union or struct within it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    /// The member's name; empty for a nameless one.
    pub(crate) name: &'a str,
    /// Where it begins, in bytes of the outermost struct.
    pub(crate) offset_bytes: u64,
    /// How long it is; 0 for an array at the end that has no length.
    pub(crate) size_bytes: u64,
}

/// One value of an enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Enumerator<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Its bits; of an enum of 32 bits the upper half is zero.
    pub(crate) value: u64,
}

impl<'a> Btf<'a> {
    /// A type's name; empty when it has none, or there is no such type.
    pub(crate) fn name(&self, id: u32) -> &'a str {
        self.get(id).map_or("", |found| self.string(found.name))
    }

    /// What sort of type it is.
    pub(crate) fn kind(&self, id: u32) -> Option<Kind> {
        self.get(id).map(|found| found.kind)
    }

    /// The type behind other names for it, with its number.
    fn behind(&self, mut id: u32) -> Option<(u32, Type<'a>)> {
        for _ in 0..MAX_STEPS {
            let found = self.get(id)?;
            if found.kind != Kind::Alias {
                return Some((id, found));
            }
            id = found.size_or_type;
        }
        None
    }

    /// `sizeof`. None for what has no size, or is written down in a circle.
    pub(crate) fn size_bytes(&self, mut id: u32) -> Option<u64> {
        let mut times = 1_u64;
        for _ in 0..MAX_STEPS {
            let found = self.behind(id)?.1;
            match found.kind {
                Kind::Array => {
                    times = times.checked_mul(word(found.tail, 8)?.into())?;
                    id = word(found.tail, 0)?;
                }
                Kind::Pointer => return times.checked_mul(8),
                Kind::Alias | Kind::Forward | Kind::Other => return None,
                _ => return times.checked_mul(found.size_or_type.into()),
            }
        }
        None
    }

    /// All bytes of a struct or union that have a name, in the order of the declaration, with the
    /// members of nameless unions and structs as if they were its own. None if the type is no
    /// struct or union, or is written down in a circle.
    pub(crate) fn places(&self, id: u32) -> Option<Vec<Place<'a>>> {
        let mut places = Vec::new();
        self.collect(id, 0, 0, &mut places)?;
        Some(places)
    }

    fn collect(
        &self,
        id: u32,
        begin_bits: u64,
        depth: usize,
        places: &mut Vec<Place<'a>>,
    ) -> Option<()> {
        let found = self.behind(id)?.1;
        if !matches!(found.kind, Kind::Struct | Kind::Union) || depth > MAX_STEPS {
            return None;
        }
        for member in found.tail.chunks_exact(12) {
            if places.len() >= MAX_PLACES {
                return None;
            }
            let [name, of, offset] = [word(member, 0)?, word(member, 4)?, word(member, 8)?];
            let (bits, offset) =
                if found.flag { (offset >> 24, offset & 0xff_ffff) } else { (0, offset) };
            let begin = begin_bits.checked_add(offset.into())?;
            let size_bytes = match bits {
                0 => self.size_bytes(of).unwrap_or(0),
                bits => (begin % 8 + u64::from(bits)).div_ceil(8),
            };
            let name = self.string(name);
            places.push(Place { name, offset_bytes: begin / 8, size_bytes });
            if name.is_empty() && bits == 0 {
                // A nameless member that is no struct has nothing to add.
                let inner = self.behind(of).map(|(_, inner)| inner.kind);
                if matches!(inner, Some(Kind::Struct | Kind::Union)) {
                    self.collect(of, begin, depth + 1, places)?;
                }
            }
        }
        Some(())
    }

    /// The values of an enum. None if the type is none.
    pub(crate) fn enumerators(&self, id: u32) -> Option<impl Iterator<Item = Enumerator<'a>>> {
        let found = self.get(id)?;
        let Kind::Enum { wide } = found.kind else { return None };
        let values = found.tail.chunks_exact(if wide { 12 } else { 8 });
        Some(values.filter_map(move |value| {
            let high = if wide { word(value, 8)? } else { 0 };
            let name = self.string(word(value, 0)?);
            Some(Enumerator { name, value: u64::from(high) << 32 | u64::from(word(value, 4)?) })
        }))
    }
}
