//! BTF, in which a kernel describes its own types: read from bytes that nobody vouches for.
//!
//! [`Btf::parse`] is the one way in. It finds where every type begins and nothing more; the rest is
//! decoded when asked for ([`types`]). No bytes make it panic, and it keeps a slice for each type.
//!
//! The BTF of a module is "split": it goes on where its base, that of vmlinux, ends, both in the
//! numbers of types and in the offsets of strings. The format is described in the kernel's
//! `Documentation/bpf/btf.rst` and in `linux/btf.h`; what is new in 7.3 (longer lists of members,
//! a section that tells the size of unknown kinds) is understood.
//!
//! These two files use nothing of the rest of the program, so that a fuzzer can take them as they
//! are.

mod types;

#[cfg(test)]
mod tests;

pub(crate) use types::{Kind, Place};

use core::fmt;
use core::ops::Range;
use types::Type;

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
/// A header without the part that 7.3 added.
const HEADER_BYTES: u32 = 24;
/// A header that also says where the sizes of kinds are.
const HEADER_WITH_KINDS_BYTES: u32 = 32;
/// What every type begins with: a name, a word of bits, a size or a type.
const TYPE_BYTES: usize = 12;

/// What follows the first [`TYPE_BYTES`] of a type of each kind: bytes once, and bytes for each
/// member, value or parameter.
const KINDS: [(u8, u8); 20] = [
    (0, 0),  // void, which is never written down
    (4, 0),  // an integer
    (0, 0),  // a pointer
    (12, 0), // an array
    (0, 12), // a struct
    (0, 12), // a union
    (0, 8),  // an enum
    (0, 0),  // a declaration without definition
    (0, 0),  // a typedef
    (0, 0),  // volatile
    (0, 0),  // const
    (0, 0),  // restrict
    (0, 0),  // a function
    (0, 8),  // a function's signature
    (4, 0),  // a variable
    (0, 12), // a section of data
    (0, 0),  // a floating point number
    (4, 0),  // a tag on a declaration
    (0, 0),  // a tag on a type
    (0, 12), // an enum of 64 bits
];

/// The types of a kernel or of a module.
pub(crate) struct Btf<'a> {
    base: Option<&'a Self>,
    /// The number of the first type of its own.
    first: u32,
    /// Its own types, each with what follows it.
    types: Vec<&'a [u8]>,
    /// The offset of the first string of its own.
    first_string: usize,
    strings: &'a [u8],
}

impl<'a> Btf<'a> {
    /// Finds the types in `bytes`: those of a kernel, or with a `base` those of a module.
    pub(crate) fn parse(bytes: &'a [u8], base: Option<&'a Self>) -> Result<Self, Error> {
        let header = Header::read(bytes)?;
        let strings = header.section(bytes, header.strings).ok_or(Error::Short("its strings"))?;
        if strings.last().is_some_and(|end| *end != 0) {
            return Err(Error::Unterminated);
        }
        // A kernel's strings begin with the empty one; a module's are never the first.
        if base.is_none() && strings.first().is_some_and(|first| *first != 0) {
            return Err(Error::OfModule);
        }
        let kinds = header.section(bytes, header.kinds).ok_or(Error::Short("its kinds"))?;
        let section = header.section(bytes, header.types).ok_or(Error::Short("its types"))?;
        let first = base.map_or(1, |base| base.ids().end);
        let mut types = Vec::with_capacity(section.len() / 32); // what a type takes about
        let mut rest = section;
        while !rest.is_empty() {
            let id = u64::from(first) + types.len() as u64;
            let taken = record_bytes(rest, kinds, id)?;
            let (record, after) = rest.split_at_checked(taken).ok_or(Error::Cut(id))?;
            types.push(record);
            rest = after;
        }
        // The numbers of a base and of what lies on it are numbers of 32 bits together.
        let total = u32::try_from(types.len()).ok().and_then(|own| first.checked_add(own));
        total.ok_or(Error::TooMany)?;
        let first_string = base.map_or(0, |base| base.first_string + base.strings.len());
        Ok(Self { base, first, types, first_string, strings })
    }

    /// The numbers of its own types, without those of its base.
    pub(crate) fn ids(&self) -> Range<u32> {
        // parse made sure that they fit.
        let own = u32::try_from(self.types.len()).unwrap_or(0);
        self.first..self.first.saturating_add(own)
    }

    /// The type with a number; none for void and for what there is not.
    fn get(&self, id: u32) -> Option<Type<'a>> {
        if id < self.first {
            return self.base.and_then(|base| base.get(id));
        }
        let record = *self.types.get(usize::try_from(id - self.first).ok()?)?;
        let (head, tail) = record.split_at_checked(TYPE_BYTES)?;
        Some(Type::decode(word(head, 0)?, word(head, 4)?, word(head, 8)?, tail))
    }

    /// The string at an offset; empty when there is none, or it is not text.
    fn string(&self, offset: u32) -> &'a str {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let Some(own) = offset.checked_sub(self.first_string) else {
            return self.base.map_or("", |base| base.string(u32::try_from(offset).unwrap_or(0)));
        };
        let text = self.strings.get(own..).unwrap_or_default();
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(0);
        core::str::from_utf8(&text[..end]).unwrap_or("")
    }
}

impl fmt::Debug for Btf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Btf").field("ids", &self.ids()).finish_non_exhaustive()
    }
}

/// For fuzzers: reads arbitrary bytes, as a kernel's and as a module's on top of them, and asks for
/// all that there is. Returns how many types were found.
#[cfg_attr(not(test), allow(dead_code, reason = "the fuzzer's way in"))]
pub(crate) fn exercise(bytes: &[u8]) -> usize {
    let ask = |btf: &Btf<'_>| {
        for id in btf.ids() {
            let _ = (btf.name(id), btf.kind(id), btf.size_bytes(id));
            let _ = (btf.places(id), btf.enumerators(id).map(Iterator::count));
        }
        btf.ids().len()
    };
    let Ok(alone) = Btf::parse(bytes, None) else { return 0 };
    let split = Btf::parse(bytes, Some(&alone)).map_or(0, |split| ask(&split));
    ask(&alone) + split
}

/// Where the sections are, as offsets from the header's end with lengths.
struct Header {
    len: u32,
    types: (u32, u32),
    strings: (u32, u32),
    kinds: (u32, u32),
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, Error> {
        let start = word(bytes, 0).ok_or(Error::NoBtf)?;
        let [low, high, version, _flags] = start.to_le_bytes();
        match [low, high] {
            magic if magic == MAGIC.to_le_bytes() => {}
            magic if magic == MAGIC.to_be_bytes() => return Err(Error::BigEndian),
            _ => return Err(Error::NoBtf),
        }
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let field = |at| word(bytes, at).ok_or(Error::Short("its header"));
        let len = field(4)?;
        if len < HEADER_BYTES {
            return Err(Error::Short("its header"));
        }
        let with_kinds = len >= HEADER_WITH_KINDS_BYTES;
        let kinds = if with_kinds { (field(24)?, field(28)?) } else { (0, 0) };
        Ok(Self { len, types: (field(8)?, field(12)?), strings: (field(16)?, field(20)?), kinds })
    }

    /// The bytes of a section, or none when it is not within `bytes`.
    fn section<'a>(&self, bytes: &'a [u8], (offset, len): (u32, u32)) -> Option<&'a [u8]> {
        let start = u64::from(self.len) + u64::from(offset);
        let end = start + u64::from(len); // three numbers of 32 bits
        bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }
}

/// How many bytes the type at the start of `bytes` takes, with what follows it.
fn record_bytes(bytes: &[u8], kinds: &[u8], id: u64) -> Result<usize, Error> {
    let bits = word(bytes, 4).ok_or(Error::Cut(id))?;
    let (kind, count) = (types::kind_of(bits), types::count_of(bits));
    let known = KINDS.get(usize::from(kind)).copied();
    // Four bytes a kind; the file's own table speaks only for kinds that are newer than this one.
    let told = || kinds.chunks_exact(4).nth(kind.into()).map(|entry| (entry[0], entry[1]));
    let (once, each) = match known {
        Some(_) if kind == 0 => return Err(Error::UnknownKind { id, kind }),
        Some(sizes) => sizes,
        None => told().ok_or(Error::UnknownKind { id, kind })?,
    };
    // At most 2^24 members of 255 bytes: it fits.
    Ok(TYPE_BYTES + usize::from(once) + usize::from(each) * count)
}

/// The little-endian word at an offset.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*word))
}

/// Why bytes are not BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// They begin with something else.
    NoBtf,
    /// They were made for another kind of machine.
    BigEndian,
    /// They are of another version of the format.
    Version(u8),
    /// They end before the named part does.
    Short(&'static str),
    /// The strings do not end.
    Unterminated,
    /// They are of a module, and its kernel's are missing.
    OfModule,
    /// A type goes on where all types end.
    Cut(u64),
    /// There are more types than numbers for them.
    TooMany,
    /// A type is of a kind that neither this program nor the file explains.
    UnknownKind { id: u64, kind: u8 },
}

#[cfg(test)]
impl Error {
    /// One of each kind.
    pub(super) fn all() -> [Self; 9] {
        [
            Self::NoBtf,
            Self::BigEndian,
            Self::Version(2),
            Self::Short("its strings"),
            Self::Unterminated,
            Self::OfModule,
            Self::Cut(4711),
            Self::TooMany,
            Self::UnknownKind { id: 4711, kind: 31 },
        ]
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBtf => f.write_str("it does not begin as BTF does"),
            Self::BigEndian => f.write_str("it is of a big-endian machine"),
            Self::Version(version) => write!(f, "its version is {version}, where 1 is known"),
            Self::Short(what) => write!(f, "it ends before {what}"),
            Self::Unterminated => f.write_str("its last string does not end"),
            Self::OfModule => f.write_str("it is of a module, which needs its kernel's as well"),
            Self::Cut(id) => write!(f, "type {id} is cut off"),
            Self::TooMany => f.write_str("it has more types than there are numbers"),
            Self::UnknownKind { id, kind } => write!(f, "type {id} is of the unknown kind {kind}"),
        }
    }
}
