//! What a line says of an event: its title and named values, once for text and for JSON.

use super::event::{Command, Outcome, Payload, Place, Slot, What};
use super::sums::Sums;
use crate::request::{Operation, Request};
use core::time::Duration;
use ublkit_sys::abi::Constant;
use ublkit_sys::blkdev::URING_COMMANDS;
use ublkit_sys::io_uring::{OPCODES, SETUP_FLAGS};
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::{SECTOR_BYTES, ublk_params, ublksrv_ctrl_dev_info};

/// A value of a line.
pub(super) enum Value<'a> {
    Number(u64),
    Hex(u64),
    /// Bytes or a count, or a negated errno.
    Result(i64),
    Word(&'a str),
    Sums(&'a Sums),
    Yes(bool),
    /// One of a table of the kernel's names, which begin with a prefix.
    Named(u64, &'static [Constant], &'static str),
    /// A set of bits of such a table.
    Bits(u64, &'static [Constant], &'static str),
    Time(Duration),
    Numbers(&'a [u32]),
    /// Chosen by the kernel, or about nothing.
    Any,
}

/// Who says it to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    ToKernel,
    FromKernel,
    Within,
}

/// How a table names a value, without the prefix that all its names have.
pub(super) fn name(value: u64, table: &'static [Constant], prefix: &str) -> Option<&'static str> {
    let of_it = table.iter().filter(|constant| constant.value == value);
    of_it.filter_map(|constant| constant.name.strip_prefix(prefix)).next()
}

type Put<'a> = dyn FnMut(&'static str, Value<'_>) + 'a;

impl What {
    /// What it is in JSON, who says it, and what is at the head of the text: a word, or a value
    /// that has a name in JSON.
    pub(super) fn head(&self) -> (&'static str, Direction, Head) {
        use Direction::{FromKernel, ToKernel, Within};
        let command = |command: &Command| {
            let opcode = command.opcode.into();
            Head::Value("command", Value::Named(opcode, sys::CONTROL_OPCODES, "UBLK_U_CMD_"))
        };
        let ring_op =
            |opcode: u8| Head::Value("op", Value::Named(opcode.into(), OPCODES, "IORING_OP_"));
        match self {
            Self::Ring { .. } => ("ring", ToKernel, Head::Word("SETUP")),
            Self::Command { command: it, .. } => ("command", ToKernel, command(it)),
            Self::Answer { command: it, .. } => ("answer", FromKernel, command(it)),
            Self::Fetch { .. } => ("fetch", ToKernel, Head::Word("FETCH")),
            Self::NeedsData { .. } => ("needs_data", FromKernel, Head::Word("NEED_GET_DATA")),
            Self::GetData { .. } => ("get_data", ToKernel, Head::Word("GET_DATA")),
            Self::Pages { enter: true, .. } => ("pages", ToKernel, Head::Word("REGISTER_IO_BUF")),
            Self::Pages { enter: false, .. } => {
                ("pages", ToKernel, Head::Word("UNREGISTER_IO_BUF"))
            }
            Self::Request { descriptor, .. } => {
                let op = sys::op(descriptor.op_flags).into();
                let value = Value::Named(op, sys::IO_OPS, "UBLK_IO_OP_");
                ("request", FromKernel, Head::Value("op", value))
            }
            Self::Operation { request, .. } => {
                ("operation", Within, Head::Value("op", Value::Word(operation(request))))
            }
            Self::Commit { .. } => ("commit", ToKernel, Head::Word("COMMIT_AND_FETCH")),
            Self::Ended { result: sys::UBLK_IO_RES_ABORT, .. } => {
                ("abort", FromKernel, Head::Word("ABORT"))
            }
            Self::Ended { .. } => ("refusal", FromKernel, Head::Word("REFUSED")),
            Self::Sent { opcode, .. } => ("sent", ToKernel, ring_op(*opcode)),
            Self::Done { opcode: Some(opcode), .. } => ("done", FromKernel, ring_op(*opcode)),
            Self::Done { opcode: None, .. } => ("done", FromKernel, Head::Word("UNEXPECTED")),
            Self::Copied { reads: true, .. } => ("copied", ToKernel, Head::Word("PREAD")),
            Self::Copied { reads: false, .. } => ("copied", ToKernel, Head::Word("PWRITE")),
            Self::Failed { .. } => ("failed", FromKernel, Head::Word("FAILED")),
            Self::Short { .. } => ("short", FromKernel, Head::Word("SHORT")),
            Self::Missed { .. } => ("missed", Within, Head::Word("MISSED")),
            Self::End { .. } => ("end", Within, Head::Word("END")),
        }
    }

    /// Everything else, in order.
    pub(super) fn fields(&self, put: &mut Put<'_>) {
        let number = |number: u32| Value::Number(number.into());
        match self {
            Self::Ring { submissions, completions, flags } => {
                put("submissions", number(*submissions));
                put("completions", number(*completions));
                put("flags", Value::Bits((*flags).into(), SETUP_FLAGS, "IORING_SETUP_"));
            }
            Self::Command { command, payload } => {
                command_fields(command, put);
                payload_fields(payload.as_ref(), put);
            }
            Self::Answer { command, result, latency, payload } => {
                put("device", command.device.map_or(Value::Any, number));
                put("result", Value::Result((*result).into()));
                put("latency", Value::Time(*latency));
                payload_fields(payload.as_ref(), put);
            }
            Self::NeedsData { slot } => slot_fields(*slot, put),
            Self::Fetch { slot, place } | Self::GetData { slot, place } => {
                slot_fields(*slot, put);
                place_field(*place, put);
            }
            Self::Pages { slot, index, .. } => {
                slot_fields(*slot, put);
                put("table_index", Value::Number(*index));
            }
            Self::Request { slot, descriptor, sums } => {
                slot_fields(*slot, put);
                let op = sys::op(descriptor.op_flags);
                if op != sys::UBLK_IO_OP_FLUSH {
                    let offset = descriptor.start_sector.checked_mul(SECTOR_BYTES);
                    put("offset", offset.map_or(Value::Any, Value::Number));
                    let len_bytes = u64::from(descriptor.nr_sectors) * SECTOR_BYTES;
                    put("len_bytes", Value::Number(len_bytes));
                }
                let flags = sys::flags(descriptor.op_flags);
                if flags != 0 {
                    put("flags", Value::Bits(flags.into(), sys::IO_FLAGS, "UBLK_IO_F_"));
                }
                sums_field(sums.as_ref(), put);
            }
            Self::Operation { queue, tag, request, outcome, took } => {
                put("queue", number((*queue).into()));
                put("tag", number((*tag).into()));
                operation_fields(request, put);
                match outcome {
                    Outcome::Done(Ok(())) => put("result", Value::Word("ok")),
                    Outcome::Done(Err(errno)) => match errno.name() {
                        Some(name) => put("result", Value::Word(name)),
                        None => put("result", Value::Result((-errno.number()).into())),
                    },
                    Outcome::Pending => put("result", Value::Word("pending")),
                    Outcome::Panicked => put("result", Value::Word("panicked")),
                }
                put("took", Value::Time(*took));
            }
            Self::Commit { slot, result, place, latency, sums } => {
                slot_fields(*slot, put);
                put("result", Value::Result((*result).into()));
                if let Some(latency) = latency {
                    put("latency", Value::Time(*latency));
                }
                place_field(*place, put);
                sums_field(sums.as_ref(), put);
            }
            Self::Ended { slot, result } => {
                slot_fields(*slot, put);
                put("result", Value::Result((*result).into()));
            }
            Self::Sent { command, user_data, .. } => {
                if let Some(command) = *command {
                    let name = Value::Named(command.into(), URING_COMMANDS, "BLOCK_URING_CMD_");
                    put("command", name);
                }
                put("user_data", Value::Hex(*user_data));
            }
            Self::Done { user_data, result, .. } => {
                put("user_data", Value::Hex(*user_data));
                put("result", Value::Result((*result).into()));
            }
            Self::Copied { place, len_bytes, result, .. } => {
                put("place", Value::Hex(*place));
                put("len_bytes", Value::Number(*len_bytes));
                put("result", Value::Result(*result));
            }
            Self::Failed { call, errno } => {
                put("call", Value::Word(call));
                put("result", Value::Result((-errno.number()).into()));
            }
            Self::Short { taken, offered } => {
                put("taken", number(*taken));
                put("offered", number(*offered));
            }
            Self::Missed { completions } => put("completions", number(*completions)),
            Self::End { lost } => put("lost", Value::Number(*lost)),
        }
    }
}

/// What a line begins with.
pub(super) enum Head {
    Word(&'static str),
    Value(&'static str, Value<'static>),
}

fn operation(request: &Request) -> &'static str {
    match request.operation {
        Operation::Read => "READ",
        Operation::Write { .. } => "WRITE",
        Operation::Flush => "FLUSH",
        Operation::Discard => "DISCARD",
        Operation::WriteZeroes { .. } => "WRITE_ZEROES",
    }
}

fn operation_fields(request: &Request, put: &mut Put<'_>) {
    if request.operation != Operation::Flush {
        put("offset", Value::Number(request.offset));
        put("len_bytes", Value::Number(request.len_bytes));
    }
    match request.operation {
        Operation::Write { fua: true } => put("fua", Value::Yes(true)),
        Operation::WriteZeroes { may_unmap } => put("may_unmap", Value::Yes(may_unmap)),
        _ => {}
    }
}

fn slot_fields(slot: Slot, put: &mut Put<'_>) {
    put("device", Value::Number(slot.device.into()));
    put("queue", Value::Number(slot.queue.into()));
    put("tag", Value::Number(slot.tag.into()));
}

fn place_field(place: Place, put: &mut Put<'_>) {
    match place {
        Place::Nowhere => {}
        Place::Buffer(address) => put("buffer", Value::Hex(address)),
        Place::Table(index) => put("table_index", Value::Number(index.into())),
    }
}

fn sums_field(sums: Option<&Sums>, put: &mut Put<'_>) {
    if let Some(sums) = sums {
        put("sums", Value::Sums(sums));
    }
}

fn command_fields(command: &Command, put: &mut Put<'_>) {
    let about_none = command.opcode == sys::UBLK_U_CMD_GET_FEATURES;
    if !about_none {
        let device = command.device.map_or(Value::Any, |device| Value::Number(device.into()));
        put("device", device);
    }
    if let Some(path) = &command.path {
        put("path", Value::Word(path));
    }
    let number = command.number;
    let said = match command.opcode {
        sys::UBLK_U_CMD_START_DEV | sys::UBLK_U_CMD_END_USER_RECOVERY => Some(("pid", number)),
        sys::UBLK_U_CMD_GET_QUEUE_AFFINITY => Some(("queue", number)),
        sys::UBLK_U_CMD_UPDATE_SIZE => Some(("size_bytes", number.saturating_mul(SECTOR_BYTES))),
        sys::UBLK_U_CMD_QUIESCE_DEV => Some(("patience_ms", number)),
        sys::UBLK_U_CMD_UNREG_BUF => Some(("index", number)),
        _ => (number != 0).then_some(("number", number)),
    };
    if let Some((name, number)) = said {
        put(name, Value::Number(number));
    }
}

fn payload_fields(payload: Option<&Payload>, put: &mut Put<'_>) {
    match payload {
        None => {}
        Some(Payload::Device(info)) => device_fields(info, put),
        Some(Payload::Params(params)) => params_fields(params, put),
        Some(Payload::Features(bits)) => {
            put("features", Value::Bits(*bits, sys::FEATURES, "UBLK_F_"));
        }
        Some(Payload::Cpus(cpus)) => put("cpus", Value::Numbers(cpus)),
        Some(Payload::Buffer(buffer)) => {
            put("address", Value::Hex(buffer.addr));
            put("len_bytes", Value::Number(buffer.len));
            let read_only = buffer.flags & sys::UBLK_SHMEM_BUF_READ_ONLY != 0;
            put("read_only", Value::Yes(read_only));
        }
    }
}

fn device_fields(info: &ublksrv_ctrl_dev_info, put: &mut Put<'_>) {
    put("queues", Value::Number(info.nr_hw_queues.into()));
    put("depth", Value::Number(info.queue_depth.into()));
    put("max_io_bytes", Value::Number(info.max_io_buf_bytes.into()));
    put("state", Value::Named(info.state.into(), sys::DEVICE_STATES, "UBLK_S_DEV_"));
    if let Ok(pid) = u64::try_from(info.ublksrv_pid) {
        put("pid", Value::Number(pid));
    }
    put("features", Value::Bits(info.flags, sys::FEATURES, "UBLK_F_"));
    put("server_word", Value::Hex(info.ublksrv_flags));
}

fn params_fields(params: &ublk_params, put: &mut Put<'_>) {
    let power = |shift: u8| Value::Number(1_u64.checked_shl(shift.into()).unwrap_or(0));
    let bytes = |sectors: u64| Value::Number(sectors.saturating_mul(SECTOR_BYTES));
    put("types", Value::Bits(params.types.into(), sys::PARAM_TYPES, "UBLK_PARAM_TYPE_"));
    let basic = &params.basic;
    put("size_bytes", bytes(basic.dev_sectors));
    put("logical_block_bytes", power(basic.logical_bs_shift));
    put("physical_block_bytes", power(basic.physical_bs_shift));
    put("io_min_bytes", power(basic.io_min_shift));
    put("io_opt_bytes", power(basic.io_opt_shift));
    put("max_io_bytes", bytes(basic.max_sectors.into()));
    if basic.chunk_sectors != 0 {
        put("chunk_bytes", bytes(basic.chunk_sectors.into()));
    }
    put("attrs", Value::Bits(basic.attrs.into(), sys::ATTRIBUTES, "UBLK_ATTR_"));
    if params.types & sys::UBLK_PARAM_TYPE_DISCARD != 0 {
        let discard = &params.discard;
        put("discard_unit_bytes", Value::Number(discard.discard_granularity.into()));
        put("max_discard_bytes", bytes(discard.max_discard_sectors.into()));
        put("max_write_zeroes_bytes", bytes(discard.max_write_zeroes_sectors.into()));
    }
    if params.types & sys::UBLK_PARAM_TYPE_DEVT != 0 {
        put("char_major", Value::Number(params.devt.char_major.into()));
        put("char_minor", Value::Number(params.devt.char_minor.into()));
        put("disk_major", Value::Number(params.devt.disk_major.into()));
        put("disk_minor", Value::Number(params.devt.disk_minor.into()));
    }
}
