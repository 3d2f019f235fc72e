//! How a kernel type is written down here: fields in header order, a table of offsets that the
//! compiler checks, and a description of both that a program can print.
//!
//! Three macros and one trait:
//!
//! * [`layout!`](crate::layout) takes a struct's size and every offset, refuses padding, and only
//!   then implements [`Abi`], so that a struct that was not checked cannot reach the kernel;
//! * [`constants!`](crate::constants) defines constants with the header's names and lists them;
//! * [`io`], [`iow`], [`ior`] and [`iowr`] compute opcodes the way `asm-generic/ioctl.h` does.
#![expect(unsafe_code, reason = "views kernel structs as bytes; the macro proves that it may")]

use core::mem::size_of;

#[doc(hidden)]
pub use static_assertions; // for `layout!` in other crates

/// A type that is shared with the kernel byte for byte.
///
/// # Safety
///
/// The implementor is `#[repr(C)]`, has no padding, holds only integers and arrays of integers (so
/// that every bit pattern is valid), and is laid out as the kernel's header says. Implement it with
/// [`layout!`](crate::layout), which checks all but the last; the tests of this crate check that.
pub unsafe trait Abi: Copy + Default + 'static {
    /// What the layout table says, for printing and comparing.
    const LAYOUT: Layout;
}

/// A struct as its layout table says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The C name.
    pub name: &'static str,
    /// `sizeof`, in bytes.
    pub size_bytes: usize,
    /// Every field, in order, without gaps.
    pub fields: &'static [Field],
}

/// One field of a [`Layout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The field's name.
    pub name: &'static str,
    /// `offsetof`, in bytes.
    pub offset_bytes: usize,
    /// `sizeof`, in bytes.
    pub size_bytes: usize,
}

/// One named number of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant {
    /// The C name.
    pub name: &'static str,
    /// Its value; signed header constants are sign-extended and then taken as unsigned.
    pub value: u64,
}

/// The bytes of `value`, as the kernel will read them.
pub const fn as_bytes<T: Abi>(value: &T) -> &[u8] {
    // SAFETY: `T: Abi` promises no padding, so all size_of::<T>() bytes are initialised; the slice
    // borrows `value` and u8 has no alignment.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) }
}

/// The value that the kernel wrote as `bytes`, or `None` when there are too few.
pub fn from_bytes<T: Abi>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: the length was checked above, the read is unaligned, and `T: Abi` promises that every
    // bit pattern is a valid value.
    Some(unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast::<T>()) })
}

const fn encode(direction: u32, kind: u8, number: u8, size_bytes: usize) -> u32 {
    assert!(size_bytes < 1 << 14, "an ioctl payload is at most 16383 bytes");
    #[expect(clippy::cast_possible_truncation, reason = "checked in the line above")]
    let size = size_bytes as u32;
    direction << 30 | size << 16 | (kind as u32) << 8 | number as u32
}

/// `_IO(kind, number)`.
pub const fn io(kind: u8, number: u8) -> u32 {
    encode(0, kind, number, 0)
}

/// `_IOW(kind, number, T)`.
pub const fn iow<T: Abi>(kind: u8, number: u8) -> u32 {
    encode(1, kind, number, size_of::<T>())
}

/// `_IOR(kind, number, T)`.
pub const fn ior<T: Abi>(kind: u8, number: u8) -> u32 {
    encode(2, kind, number, size_of::<T>())
}

/// `_IOWR(kind, number, T)`.
pub const fn iowr<T: Abi>(kind: u8, number: u8) -> u32 {
    encode(3, kind, number, size_of::<T>())
}

/// Checks a `#[repr(C)]` struct against the header and implements [`Abi`] for it.
///
/// ```
/// # use ublkit_sys::layout;
/// #[repr(C)]
/// #[derive(Clone, Copy, Default)]
/// pub struct pair { a: u32, b: u32 }
/// layout!(pair: 8 { 0 a: u32, 4 b: u32 });
/// ```
///
/// What does not match, is padded, or has values that the kernel could break, does not compile:
///
/// ```compile_fail,E0080
/// # use ublkit_sys::layout;
/// #[repr(C)]
/// #[derive(Clone, Copy, Default)]
/// pub struct pair { a: u32, b: u64 } // padding
/// layout!(pair: 16 { 0 a: u32, 8 b: u64 });
/// ```
/// ```compile_fail,E0080
/// # use ublkit_sys::layout;
/// #[repr(C)]
/// #[derive(Clone, Copy, Default)]
/// pub struct pair { a: u64, b: u32 } // padding at the end
/// layout!(pair: 16 { 0 a: u64, 8 b: u32 });
/// ```
/// ```compile_fail,E0080
/// # use ublkit_sys::layout;
/// #[repr(C)]
/// #[derive(Clone, Copy, Default)]
/// pub struct pair { a: u32, b: u32 } // a wrong size
/// layout!(pair: 12 { 0 a: u32, 4 b: u32 });
/// ```
/// ```compile_fail,E0080
/// # use ublkit_sys::layout;
/// #[repr(C)]
/// #[derive(Clone, Copy, Default)]
/// pub struct pair { a: u32, b: u32 } // a wrong offset
/// layout!(pair: 8 { 0 a: u32, 2 b: u32 });
/// ```
/// ```compile_fail,E0080
/// # use ublkit_sys::layout;
/// #[repr(C)]
/// #[derive(Clone, Copy, Default)]
/// pub struct pair { b: u32, a: u32 } // fields in another order
/// layout!(pair: 8 { 0 a: u32, 4 b: u32 });
/// ```
/// ```compile_fail,E0308
/// # use ublkit_sys::layout;
/// #[repr(C)]
/// #[derive(Clone, Copy, Default)]
/// pub struct pair { a: u32, b: i32 } // a wrong type
/// layout!(pair: 8 { 0 a: u32, 4 b: u32 });
/// ```
/// ```compile_fail
/// # use ublkit_sys::layout;
/// #[repr(C)]
/// #[derive(Clone, Copy, Default)]
/// pub struct pair { a: u32, b: [u32; 0] } // a missing field
/// layout!(pair: 4 { 0 a: u32 });
/// ```
/// ```compile_fail,E0277
/// # use ublkit_sys::layout;
/// #[repr(C)]
/// #[derive(Clone, Copy, Default)]
/// pub struct pair { a: u8, b: bool } // a type with forbidden values
/// layout!(pair: 2 { 0 a: u8, 1 b: bool });
/// ```
#[macro_export]
macro_rules! layout {
    ($name:ident: $size:literal { $($offset:literal $field:ident: $ty:ty),+ $(,)? }) => {
        const _: () = {
            $crate::abi::static_assertions::const_assert_eq!(
                ::core::mem::size_of::<$name>(),
                $size
            );
            let mut end = 0;
            $(
                assert!(::core::mem::offset_of!($name, $field) == $offset, "the offset is wrong");
                assert!($offset == end, "padding, or fields out of order");
                end += ::core::mem::size_of::<$ty>();
            )+
            assert!(end == $size, "padding at the end, or a field is missing");
            // Every field is named and has the type that the table says, or this does not compile.
            #[allow(dead_code)]
            fn types(value: $name) {
                let $name { $($field),+ } = value;
                $(let _: $ty = $field;)+
                $(<$ty as $crate::abi::Plain>::plain();)+
            }
        };
        $crate::abi::static_assertions::assert_impl_all!($name: Send, Sync, Unpin);
        // SAFETY: checked above: the fields fill the struct without padding and are all Plain.
        #[expect(unsafe_code, reason = "the checks above are what Abi asks for")]
        unsafe impl $crate::abi::Abi for $name {
            const LAYOUT: $crate::abi::Layout = $crate::abi::Layout {
                name: stringify!($name),
                size_bytes: $size,
                fields: &[$($crate::abi::Field {
                    name: stringify!($field),
                    offset_bytes: $offset,
                    size_bytes: ::core::mem::size_of::<$ty>(),
                }),+],
            };
        }
    };
}

/// What a field may be: an integer, an array of them, or another checked struct.
///
/// Safe code cannot add to these:
///
/// ```compile_fail,E0200
/// #[derive(Clone, Copy)]
/// #[repr(u8)]
/// enum One { A }
/// impl ublkit_sys::abi::Plain for One {}
/// ```
///
/// # Safety
///
/// Every bit pattern is a valid value, and there is no padding.
pub unsafe trait Plain {
    /// Does nothing; calling it is the check.
    fn plain() {}
}

macro_rules! plain { ($($ty:ty),+) => { $(
    // SAFETY: integers have neither invalid values nor padding.
    unsafe impl Plain for $ty {}
)+ }; }
plain!(u8, u16, u32, u64, i8, i16, i32, i64);
// SAFETY: arrays have no padding between their elements.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}
// SAFETY: Abi promises as much.
unsafe impl<T: Abi> Plain for T {}

/// Defines constants with the header's names, and a table of them.
///
/// ```
/// ublkit_sys::constants! {
///     /// The colours.
///     pub COLOURS {
///         /// Red.
///         pub RED: u32 = 1;
///     }
/// }
/// assert_eq!(COLOURS[0].name, "RED");
/// ```
#[macro_export]
macro_rules! constants {
    ($(#[$table_doc:meta])* pub $table:ident {
        $($(#[$doc:meta])* pub $name:ident: $ty:ty = $value:expr;)+
    }) => {
        $($(#[$doc])* pub const $name: $ty = $value;)+
        $(#[$table_doc])*
        #[allow(
            clippy::cast_sign_loss,
            clippy::unnecessary_cast,
            clippy::cast_lossless,
            reason = "the table holds every type as u64, sign-extended"
        )]
        pub const $table: &[$crate::abi::Constant] = &[
            $($crate::abi::Constant { name: stringify!($name), value: $name as u64 }),+
        ];
    };
}
