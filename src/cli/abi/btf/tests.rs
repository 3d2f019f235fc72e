use super::types::Enumerator;
use super::{Btf, Error, Kind, Place, exercise};
use proptest::prelude::*;

/// The sections of a file that is written by hand.
#[derive(Clone, Default)]
struct File {
    types: Vec<u32>,
    strings: Vec<u8>,
    kinds: Vec<u8>,
}

impl File {
    fn bytes(&self) -> Vec<u8> {
        let len = |bytes: usize| u32::try_from(bytes).unwrap();
        let types: Vec<u8> = self.types.iter().flat_map(|word| word.to_le_bytes()).collect();
        let header = if self.kinds.is_empty() { 24 } else { 32 };
        let mut words = vec![0x0001_eb9f, header, 0, len(types.len())];
        words.extend([len(types.len()), len(self.strings.len())]);
        if header == 32 {
            words.extend([len(types.len() + self.strings.len()), len(self.kinds.len())]);
        }
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(types);
        bytes.extend(&self.strings);
        bytes.extend(&self.kinds);
        bytes
    }
}

const INT: u32 = 1 << 24;
const ARRAY: u32 = 3 << 24;
const STRUCT: u32 = 4 << 24;
const UNION: u32 = 5 << 24;
const ENUM: u32 = 6 << 24;
const TYPEDEF: u32 = 8 << 24;
const CONST: u32 = 10 << 24;
const FUNC: u32 = 12 << 24;
const ENUM64: u32 = 19 << 24;
const FLAG: u32 = 1 << 31;

/// A kernel: 1 `u32`, 2 `word` = `const u32`, 3 the const, 4 `u32[3]`, 5 `struct pair`.
fn kernel() -> File {
    #[rustfmt::skip]
    let types = vec![
        1, INT, 4, 32,
        5, TYPEDEF, 3,
        0, CONST, 1,
        0, ARRAY, 0, 1, 1, 3,
        10, STRUCT | 2, 16, /**/ 15, 2, 0, /**/ 17, 4, 32,
    ];
    File { types, strings: b"\0u32\0word\0pair\0a\0b\0".to_vec(), kinds: vec![] }
}

fn place(name: &str, offset_bytes: u64, size_bytes: u64) -> Place<'_> {
    Place { name, offset_bytes, size_bytes }
}

#[test]
fn a_struct_is_read() {
    let bytes = kernel().bytes();
    let btf = Btf::parse(&bytes, None).unwrap();
    assert_eq!(btf.ids(), 1..6);
    assert_eq!(
        (btf.name(5), btf.kind(5), btf.size_bytes(5)),
        ("pair", Some(Kind::Struct), Some(16))
    );
    assert_eq!(btf.places(5).unwrap(), [place("a", 0, 4), place("b", 4, 12)]);
    assert_eq!((btf.name(2), btf.kind(2), btf.size_bytes(2)), ("word", Some(Kind::Alias), Some(4)));
    assert_eq!(btf.places(1), None);
    assert!(btf.enumerators(5).is_none());
    // Void, and what there is not.
    for id in [0, 6, u32::MAX] {
        assert_eq!((btf.name(id), btf.kind(id), btf.size_bytes(id)), ("", None, None), "{id}");
    }
}

#[test]
fn a_module_goes_on_where_its_kernel_ends() {
    let base_bytes = kernel().bytes();
    let base = Btf::parse(&base_bytes, None).unwrap();
    // The kernel has 19 bytes of strings and types up to 5. This is 6, made of 5 and of "u32".
    #[rustfmt::skip]
    let types = vec![19, STRUCT | 2, 20, /**/ 15, 5, 0, /**/ 24, 2, 128];
    let bytes = File { types, strings: b"deep\0z\0".to_vec(), kinds: vec![] }.bytes();
    let module = Btf::parse(&bytes, Some(&base)).unwrap();
    assert_eq!(module.ids(), 6..7);
    assert_eq!((module.name(6), module.size_bytes(6)), ("deep", Some(20)));
    assert_eq!(module.places(6).unwrap(), [place("a", 0, 16), place("z", 16, 4)]);
    assert_eq!((module.name(5), module.size_bytes(5)), ("pair", Some(16)), "the kernel's own");
    assert_eq!(base.kind(6), None, "the kernel does not know its module");
    assert_eq!(Btf::parse(&bytes, None).unwrap_err(), Error::OfModule);
}

#[test]
fn nameless_members_are_opened_and_bit_fields_are_rounded() {
    #[rustfmt::skip]
    let types = vec![
        1, INT, 4, 32,
        0, STRUCT | 2, 8, /**/ 7, 1, 0, /**/ 9, 1, 32,
        0, UNION | 2, 8, /**/ 5, 1, 0, /**/ 0, 2, 0,
        11, STRUCT | FLAG | 4, 20,
            /**/ 0, 3, 32, /**/ 13, 1, 96 | 3 << 24, /**/ 15, 1, 99 | 7 << 24,
            /**/ 17, 1, 128,
    ];
    let strings = b"\0u32\0x\0y\0z\0S\0f\0g\0h\0".to_vec();
    let bytes = File { types, strings, kinds: vec![] }.bytes();
    let btf = Btf::parse(&bytes, None).unwrap();
    let expected = [
        place("", 4, 8),
        place("x", 4, 4),
        place("", 4, 8),
        place("y", 4, 4),
        place("z", 8, 4),
        place("f", 12, 1),
        place("g", 12, 2),
        place("h", 16, 4),
    ];
    assert_eq!(btf.places(4).unwrap(), expected);
}

#[test]
fn enums_keep_their_bits() {
    #[rustfmt::skip]
    let types = vec![
        1, ENUM | FLAG | 2, 4, /**/ 3, 0x8000_0000, /**/ 5, 7,
        0, ENUM64 | 1, 8, /**/ 3, 1, 2,
    ];
    let bytes = File { types, strings: b"\0e\0A\0B\0".to_vec(), kinds: vec![] }.bytes();
    let btf = Btf::parse(&bytes, None).unwrap();
    let values = |id| btf.enumerators(id).unwrap().collect::<Vec<_>>();
    let value = |name, value| Enumerator { name, value };
    assert_eq!(values(1), [value("A", 0x8000_0000), value("B", 7)]);
    assert_eq!(values(2), [value("A", 0x2_0000_0001)]);
    assert_eq!(btf.size_bytes(2), Some(8));
}

#[test]
fn more_than_65535_members_can_be() {
    let count = 0x1_0001;
    let mut types = vec![0, ENUM | count, 4];
    types.extend([0, 3].repeat(count as usize));
    types.extend([1, INT, 4, 32]);
    let bytes = File { types, strings: b"\0i\0".to_vec(), kinds: vec![] }.bytes();
    let btf = Btf::parse(&bytes, None).unwrap();
    assert_eq!((btf.enumerators(1).unwrap().count(), btf.name(2)), (count as usize, "i"));
}

#[test]
fn the_file_may_explain_kinds_of_the_future() {
    // Kind 21 with two members: 8 bytes, and 4 for each.
    #[rustfmt::skip]
    let types = vec![0, 21 << 24 | 2, 0, /**/ 9, 9, /**/ 9, 9, /**/ 1, INT, 4, 32];
    let mut file = File { types, strings: b"\0i\0".to_vec(), kinds: vec![0; 21 * 4] };
    let unknown = Err(Error::UnknownKind { id: 1, kind: 21 });
    assert_eq!(Btf::parse(&file.bytes(), None).map(drop), unknown);
    file.kinds.extend([8, 4, 0, 0]);
    let bytes = file.bytes();
    let btf = Btf::parse(&bytes, None).unwrap();
    assert_eq!((btf.kind(1), btf.size_bytes(1), btf.name(2)), (Some(Kind::Other), None, "i"));
    // Kind 0 is nobody's, whatever a file says of it.
    file.types[1] = 2;
    file.kinds[0] = 8;
    assert_eq!(Btf::parse(&file.bytes(), None).unwrap_err(), Error::UnknownKind { id: 1, kind: 0 });
}

#[test]
fn circles_have_no_size() {
    #[rustfmt::skip]
    let types = vec![
        0, TYPEDEF, 2, /**/ 0, CONST, 1,
        0, ARRAY, 0, 3, 3, 1,
        0, STRUCT | 1, 4, /**/ 0, 4, 0,
        0, ARRAY, 0, 4, 4, u32::MAX,
        0, ARRAY, 0, 5, 4, u32::MAX,
        0, FUNC | 1, 1,
    ];
    let bytes = File { types, ..File::default() }.bytes();
    let btf = Btf::parse(&bytes, None).unwrap();
    for id in [1, 2, 3, 7] {
        assert_eq!(btf.size_bytes(id), None, "{id}");
    }
    assert_eq!(btf.places(4), None);
    assert_eq!(btf.size_bytes(5), Some(4 * u64::from(u32::MAX)));
    assert_eq!(btf.size_bytes(6), None, "larger than a number");
}

#[test]
fn what_is_not_btf_is_refused() {
    let good = kernel().bytes();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Btf::parse(&bytes, None).map(drop)
    };
    assert_eq!(Btf::parse(&[], None).unwrap_err(), Error::NoBtf);
    assert_eq!(Btf::parse(b"\x7fELF\x02\x01\x01", None).unwrap_err(), Error::NoBtf);
    let mut other = good.clone();
    other[..2].reverse();
    assert_eq!(Btf::parse(&other, None).unwrap_err(), Error::BigEndian);
    assert_eq!(changed(2, 2), Err(Error::Version(2)));
    assert_eq!(changed(4, 23), Err(Error::Short("its header")));
    assert_eq!(changed(15, 0xff), Err(Error::Short("its types")));
    assert_eq!(changed(23, 0xff), Err(Error::Short("its strings")));
    assert_eq!(changed(good.len() - 1, b'x'), Err(Error::Unterminated));
    assert_eq!(changed(24 + 4, 9), Ok(()), "an integer's unused count");
    let struct_at = 24 + 4 * (4 + 3 + 3 + 6);
    assert_eq!(changed(struct_at + 4, 3), Err(Error::Cut(5)), "one member too many");
    // An end anywhere.
    for len in 0..good.len() {
        assert!(Btf::parse(&good[..len], None).is_err(), "{len} of {} bytes", good.len());
    }
    assert_eq!(changed(0, 0x9f), Ok(()), "the control: nothing was changed");
}

/// Small numbers, kinds with a few members, anything.
fn likely_word() -> impl Strategy<Value = u32> {
    let kind = (0..20_u32, 0..4_u32).prop_map(|(kind, count)| kind << 24 | count);
    prop_oneof![0..16_u32, kind, any::<u32>()]
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        exercise(&bytes);
    }

    /// Words that look like types get further than bytes that do not.
    #[test]
    fn no_types_panic(
        types in proptest::collection::vec(likely_word(), 0..64),
        strings in "[a-z\\x00]{0,20}",
    ) {
        let strings = [b"\0", strings.as_bytes(), b"\0"].concat();
        exercise(&File { types, strings, kinds: vec![] }.bytes());
    }

    #[test]
    fn no_damage_panics(at in 0..200_usize, byte: u8, again in 0..200_usize, other: u8) {
        let mut bytes = kernel().bytes();
        for (at, byte) in [(at, byte), (again, other)] {
            let len = bytes.len();
            bytes[at % len] = byte;
        }
        exercise(&bytes);
    }
}

#[test]
fn all_is_asked_for() {
    // Itself, and once more as its own module.
    assert_eq!(exercise(&kernel().bytes()), 10);
}
