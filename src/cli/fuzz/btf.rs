//! `btf`: what a kernel says of its own types, in files of any bytes.

use crate::cli::abi;

/// A kernel's file, and a module's behind it, are read, asked for all that there is, and compared
/// with ours; or refused with a sentence. The first two bytes say how long the kernel's is.
pub(crate) fn btf(bytes: &[u8]) {
    let [low, high, files @ ..] = bytes else { return };
    let len = usize::from(u16::from_le_bytes([*low, *high]));
    let (kernel, module) = files.split_at(len.min(files.len()));
    let (types, outcome) = abi::exercise(kernel, (!module.is_empty()).then_some(module));
    assert!(types <= 2 * kernel.len() / 12, "{types} types of 12 bytes in {}", kernel.len());
    if let Err(failure) = outcome {
        let words = format!("{failure:?}");
        assert!(words.contains("cannot read the BTF of "), "{words}");
    }
}

/// Writes BTF.
#[cfg(test)]
#[path = "../../../tests/abi/btf.rs"]
mod file;

#[cfg(test)]
mod tests {
    use super::btf;
    use crate::cli::fuzz::btf::file::{File, Type};
    use crate::cli::fuzz::corpus;
    use ublkit::sys::{io_uring, ublk};

    fn both(kernel: &[u8], module: &[u8]) -> Vec<u8> {
        let len = u16::try_from(kernel.len()).expect("short");
        [&len.to_le_bytes(), kernel, module].concat()
    }

    #[test]
    fn corpus_of_btf() {
        let shown = |layouts: &[ublkit::sys::abi::Layout], names: &[&str]| -> Vec<Type> {
            let named = layouts.iter().filter(|layout| names.contains(&layout.name));
            named.map(Type::of_layout).collect()
        };
        let mut kernel = File::kernel();
        kernel.add(&shown(io_uring::LAYOUTS, &["io_uring_cqe", "io_cqring_offsets"]));
        kernel.add(&[Type::of_constants(&io_uring::OPCODES[..5])]);
        let mut module = File::module(&kernel);
        module.add(&shown(ublk::LAYOUTS, &["ublksrv_io_cmd", "ublk_param_basic"]));
        let mut other = shown(ublk::LAYOUTS, &["ublksrv_io_cmd"]);
        if let Some(Type::Struct { size_bytes, members, .. }) = other.first_mut() {
            *size_bytes += 8;
            members[1].name = "another".into();
            members[2].offset_bytes += 4;
        }
        let mut differs = File::module(&kernel);
        differs.add(&other);
        let (kernel, module, differs) = (kernel.bytes(), module.bytes(), differs.bytes());
        let big_endian = [&[0xeb, 0x9f], &kernel[2..]].concat();
        let seeds = [
            ("kernel", both(&kernel, &[])),
            ("module", both(&kernel, &module)),
            ("differs", both(&kernel, &differs)),
            ("module-alone", both(&module, &[])),
            ("cut", both(&kernel[..kernel.len() - 30], &[])),
            ("big-endian", both(&big_endian, &[])),
            ("nothing", both(&[], b"no BTF")),
        ];
        corpus::check("btf", btf, &seeds);
    }
}
