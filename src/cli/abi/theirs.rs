//! What a kernel's BTF says of the structs and enums that `sys` defines.

use super::btf::{Btf, Kind, Place};
use std::collections::HashSet;

/// A struct of the kernel. There may be several of one name.
#[derive(Clone, Debug)]
pub(super) struct Struct<'a> {
    pub(super) name: &'a str,
    pub(super) size_bytes: u64,
    pub(super) places: Vec<Place<'a>>,
}

/// An enum of the kernel.
#[derive(Clone, Debug)]
pub(super) struct Enum<'a> {
    /// Often empty.
    pub(super) name: &'a str,
    pub(super) size_bytes: u64,
    /// Names and values. What is negative or has the highest bit looks the same in some kernels.
    pub(super) values: Vec<(&'a str, u64)>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Theirs<'a> {
    pub(super) structs: Vec<Struct<'a>>,
    pub(super) enums: Vec<Enum<'a>>,
}

impl<'a> Theirs<'a> {
    /// Finds all structs with one of the wanted names, and all enums with one of the wanted values.
    pub(super) fn find(
        sources: &[&Btf<'a>],
        structs: &HashSet<&str>,
        constants: &HashSet<&str>,
    ) -> Self {
        let mut theirs = Self::default();
        for source in sources {
            for id in source.ids() {
                theirs.look(source, id, structs, constants);
            }
        }
        theirs
    }

    fn look(
        &mut self,
        source: &Btf<'a>,
        id: u32,
        structs: &HashSet<&str>,
        constants: &HashSet<&str>,
    ) {
        // A struct may also be known by another name only.
        let layout = matches!(source.kind(id), Some(Kind::Struct | Kind::Union | Kind::Alias));
        if layout && structs.contains(source.name(id)) {
            let described = source.size_bytes(id).zip(source.places(id));
            self.structs.extend(described.map(|(size_bytes, places)| Struct {
                name: source.name(id),
                size_bytes,
                places,
            }));
        }
        let Some(enumerators) = source.enumerators(id) else { return };
        let values: Vec<(&str, u64)> = enumerators.map(|one| (one.name, one.value)).collect();
        if values.iter().any(|(name, _)| constants.contains(name)) {
            let size_bytes = source.size_bytes(id).unwrap_or(0);
            self.enums.push(Enum { name: source.name(id), size_bytes, values });
        }
    }
}
