//! `control`: a control device that answers anything: results, replies, completions of nothing.

use super::input::Input;
use super::machine::{Machine, Part};
use super::scripted::Scripted;
use crate::control::{Control, DeviceInfo};
use crate::errno::Errno;
use crate::error::Error;
use crate::features::Features;
use crate::kernel::Kernel;
use crate::ring::RingError;
use crate::shared::SharedBuffer;
use crate::sim::user::{self, Pages};
use crate::trace::{Detail, Log, Traced};
use core::time::Duration;
use std::sync::Arc;
use ublkit_sys::abi::{Abi, as_bytes, from_bytes};
use ublkit_sys::io_uring::{IORING_OP_URING_CMD, io_uring_sqe128};
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::{ublk_params, ublksrv_ctrl_cmd, ublksrv_ctrl_dev_info};

/// Every command answers what the kernel replied to it, or says why it did not; memory that the
/// kernel may use stays.
pub fn control(bytes: &[u8]) {
    run(bytes);
}

/// How many commands were answered, refused and neither.
fn run(bytes: &[u8]) -> [u32; 3] {
    let mut input = Input::new(bytes);
    let first = input.byte();
    let (calls, is_traced) = (usize::from(first % 128 % 40), first >= 128);
    let calls = Input::new(&input.take(calls * 3));
    let kernel = Scripted::new(Driver::default(), input);
    if is_traced {
        let traced = Traced::new(kernel.clone(), Detail::ALL, Log::of_last(10));
        run_on(traced, &kernel, calls)
    } else {
        run_on(kernel.clone(), &kernel, calls)
    }
}

/// Sends commands to `kernel`, which is `truth`, perhaps listened to.
fn run_on<K: Kernel>(kernel: K, truth: &Scripted<Driver>, mut calls: Input) -> [u32; 3] {
    let mut tally = [0; 3];
    let Ok(mut control) = Control::open(kernel) else { return tally };
    while !calls.is_empty() {
        let (which, number, seconds) = (calls.byte(), calls.byte(), calls.byte());
        let asked = truth.lock().part.asked;
        let result = call(&mut control, which, number, Duration::from_secs(seconds.into()));
        assert_eq!(control.is_broken(), matches!(result, Err(Error::Ring(_))), "{result:?}");
        let machine = truth.lock();
        let kind = match &result {
            Ok(_) => 0,
            Err(error) => {
                let (sentence, kind) = (error.to_string(), error.kind());
                assert!(!sentence.is_empty(), "{kind:?}");
                if matches!(error, Error::Command { .. }) { 1 } else { 2 }
            }
        };
        tally[kind] += 1;
        if !machine.lied {
            judge(result, machine.part.reply_since(asked), &machine);
        }
    }
    control.end_all();
    tally
}

/// Whether a call answered what the kernel replied to its command, if it did.
fn judge(result: Result<Seen, Error>, reply: Option<&Reply>, machine: &Machine<Driver>) {
    match result {
        Ok(seen) => {
            let reply = reply.expect("an answer out of nothing");
            assert!(seen.fits(reply), "{seen:?} is not {reply:?}");
        }
        // It asks first whether there is a disk, and the reply may be to that.
        Err(
            Error::Command { command: "UPDATE_SIZE", .. }
            | Error::Timeout { what: "UPDATE_SIZE", .. },
        ) => {}
        Err(Error::Command { errno, .. }) => {
            let reply = reply.expect("a refusal out of nothing");
            assert_eq!(Errno::from_result(reply.result), Err(errno));
        }
        Err(Error::Timeout { .. }) => assert!(reply.is_none(), "{reply:?} was not seen"),
        Err(Error::Ring(RingError::Starved(_))) => assert!(machine.no_progress >= 100),
        Err(Error::Ring(error)) => {
            let fits = machine.part.stray || machine.fatal.is_some();
            assert!(fits, "{error:?} out of nothing");
        }
        Err(Error::Impossible(_)) => assert!(reply.is_some_and(|reply| reply.result > 0xffff)),
        Err(Error::Refused(_)) => {}
        Err(other) => panic!("{other:?}"),
    }
}

/// What a call answered.
#[derive(Debug)]
enum Seen {
    Nothing,
    Features(Option<Features>),
    Info(DeviceInfo),
    Params(Box<ublk_params>),
    Cpus(Vec<u32>),
    Index(u16),
}

impl Seen {
    /// Whether it is what was replied.
    fn fits(&self, reply: &Reply) -> bool {
        let data = &reply.data;
        if let Self::Features(None) = self {
            return [-libc::ENODEV, -libc::EOPNOTSUPP].contains(&reply.result);
        }
        let right = match self {
            Self::Nothing => true,
            Self::Features(features) => {
                features.is_some_and(|bits| bits.bits().to_le_bytes() == **data)
            }
            Self::Info(info) => from_bytes(data).is_some_and(|raw| is_told(info, &raw)),
            Self::Params(params) => as_bytes(&**params) == &**data,
            Self::Cpus(cpus) => {
                let ones: u32 = data.iter().map(|byte| byte.count_ones()).sum();
                let set = |cpu: &u32| data[*cpu as usize / 8] >> (cpu % 8) & 1 == 1;
                cpus.len() == ones as usize && cpus.is_sorted() && cpus.iter().all(set)
            }
            Self::Index(index) => reply.result == i32::from(*index),
        };
        right && reply.result >= 0
    }
}

/// Whether a device is what the driver's words say.
fn is_told(info: &DeviceInfo, raw: &ublksrv_ctrl_dev_info) -> bool {
    let sized = raw.flags & sys::UBLK_F_IO_DESC_SIZE != 0;
    let descriptor_bytes = if sized { raw.io_desc_size } else { 24 };
    info.id == Some(raw.dev_id)
        && (info.queues, info.depth) == (raw.nr_hw_queues, raw.queue_depth)
        && (info.max_io_bytes, info.features.bits()) == (raw.max_io_buf_bytes, raw.flags)
        && (info.server_word, info.descriptor_bytes) == (raw.ublksrv_flags, descriptor_bytes)
        && info.server_pid.is_none_or(|pid| i64::from(pid) == i64::from(raw.ublksrv_pid))
        && !info.state.to_string().is_empty()
}

/// What a server relies on once it has called a grant one.
fn check_grant(info: &DeviceInfo, wish: &DeviceInfo) {
    if !info.is_grant_of(wish) {
        return;
    }
    assert!(info.queues > 0 && info.queues <= wish.queues && info.depth == wish.depth);
    assert!(info.max_io_bytes > 0 && info.max_io_bytes <= wish.max_io_bytes);
    assert!(info.id.is_some() && (wish.id.is_none() || wish.id == info.id));
    let page = crate::memory::page_bytes();
    let stride = info.descriptor_bytes;
    let len = sys::descriptors_len_bytes(info.depth, stride, page);
    let (first, second) = (0, 1);
    let apart = sys::descriptors_offset_bytes(second, stride, page)
        - sys::descriptors_offset_bytes(first, stride, page);
    assert!(stride >= 24 && len as u64 <= apart, "queues' descriptors overlap");
}

fn call<K: Kernel>(
    control: &mut Control<K>,
    which: u8,
    number: u8,
    timeout: Duration,
) -> Result<Seen, Error> {
    let nothing = |()| Seen::Nothing;
    if which % 20 == 1 {
        let id = number.is_multiple_of(2).then(|| number.into());
        let wish = DeviceInfo { id, ..DeviceInfo::wish(1 + u16::from(number % 4), 64, 1 << 16) };
        let info = control.add(&wish, timeout)?;
        check_grant(&info, &wish);
        return Ok(Seen::Info(info));
    }
    if which.is_multiple_of(20) {
        return control.features().map(Seen::Features);
    }
    let device = control.device(number.into()).within(timeout);
    let device = if which >= 128 { device.by_path(c"/dev/ublkc0".into()) } else { device };
    match which % 20 {
        2 => device.info().map(Seen::Info),
        3 => device.info_by_path().map(Seen::Info),
        4 => device.queue_cpus(number.into()).map(Seen::Cpus),
        5 => device.set_params(&ublk_params::default()).map(nothing),
        6 => device.params().map(|params| Seen::Params(Box::new(params))),
        7 => device.start(number.into()).map(nothing),
        8 => device.stop().map(nothing),
        9 => device.try_stop().map(nothing),
        10 => device.delete().map(nothing),
        11 => device.delete_async().map(nothing),
        12 => device.start_recovery().map(nothing),
        13 => device.end_recovery(number.into()).map(nothing),
        14 => device.update_size(u64::from(number) * 512).map(nothing),
        15 => device.quiesce(timeout).map(nothing),
        16 => {
            let buffer = SharedBuffer::new(4096).expect("a page");
            device.register_buffer(&buffer, number.is_multiple_of(2)).map(Seen::Index)
        }
        _ => device.unregister_buffer(number.into()).map(nothing),
    }
}

/// What the kernel answered to a command.
#[derive(Debug)]
struct Reply {
    user_data: u64,
    result: i32,
    data: Vec<u8>,
}

/// The driver's side of the control device.
#[derive(Debug, Default)]
struct Driver {
    /// Commands taken.
    asked: u64,
    /// The newest command's user_data.
    newest: u64,
    replies: Vec<Reply>,
    /// Whether something was completed that was not under way.
    stray: bool,
}

fn command(sqe: &io_uring_sqe128) -> ublksrv_ctrl_cmd {
    let words = [sqe.head.cmd[0], sqe.head.cmd[1], sqe.tail[0], sqe.tail[1]];
    let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
    from_bytes(&bytes).expect("32 bytes")
}

/// How long a command's data is.
fn data_bytes(op: u32) -> Option<usize> {
    Some(match op {
        sys::UBLK_U_CMD_GET_FEATURES => 8,
        sys::UBLK_U_CMD_ADD_DEV | sys::UBLK_U_CMD_GET_DEV_INFO | sys::UBLK_U_CMD_GET_DEV_INFO2 => {
            ublksrv_ctrl_dev_info::LAYOUT.size_bytes
        }
        sys::UBLK_U_CMD_GET_QUEUE_AFFINITY => 1024,
        sys::UBLK_U_CMD_SET_PARAMS | sys::UBLK_U_CMD_GET_PARAMS => ublk_params::LAYOUT.size_bytes,
        sys::UBLK_U_CMD_REG_BUF => sys::ublk_shmem_buf_reg::LAYOUT.size_bytes,
        op if sys::CONTROL_OPCODES.iter().any(|known| known.value == u64::from(op)) => 0,
        _ => return None,
    })
}

impl Driver {
    /// The reply to the command that was taken since there were `asked`.
    fn reply_since(&self, asked: u64) -> Option<&Reply> {
        let newest = (self.asked > asked).then_some(self.newest)?;
        self.replies.iter().find(|reply| reply.user_data == newest)
    }
}

impl Part for Driver {
    fn taken(&mut self, sqe: &io_uring_sqe128, trusts: bool) {
        self.asked += 1;
        self.newest = sqe.head.user_data;
        if !trusts {
            return;
        }
        assert_eq!((sqe.head.opcode, sqe.head.off >> 32), (IORING_OP_URING_CMD, 0));
        let op = u32::try_from(sqe.head.off).expect("just looked");
        let cmd = command(sqe);
        let expected = data_bytes(op).unwrap_or_else(|| panic!("{op:#x} is no control command"));
        assert_eq!(usize::from(cmd.len - cmd.dev_path_len), expected, "{cmd:?}");
        let mut data = vec![0; cmd.len.into()];
        user::read(cmd.addr, &mut data).expect("memory of the command");
        let path = &data[..cmd.dev_path_len.into()];
        assert!(path.is_empty() || path.ends_with(b"\0"), "a path without an end");
    }

    fn completes(&mut self, sqe: &io_uring_sqe128, result: i32, script: &mut Input, trusts: bool) {
        if !trusts {
            return;
        }
        let cmd = command(sqe);
        let start = cmd.addr.wrapping_add(cmd.dev_path_len.into());
        let mut data = vec![0; usize::from(cmd.len.saturating_sub(cmd.dev_path_len))];
        user::read(start, &mut data).expect("memory of the command");
        for _ in 0..script.below(4) {
            let at = usize::from(script.u16()).checked_rem(data.len()).unwrap_or(0);
            let len = script.below(9);
            for (byte, new) in data[at..].iter_mut().zip(script.take(len)) {
                *byte = new;
            }
        }
        user::write(start, &data).expect("it was just read");
        self.replies.push(Reply { user_data: sqe.head.user_data, result, data });
    }

    fn posted(&mut self, _: u64, _: i32, command: Option<&io_uring_sqe128>) {
        self.stray |= command.is_none();
    }

    fn last_result(&self, _: &io_uring_sqe128) -> Option<i32> {
        Some(0)
    }

    fn char_device(&self) -> Option<Arc<Pages>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::corpus;

    /// Calls of `which` method with a number and a timeout, and what the kernel does.
    fn seed(calls: &[[u8; 3]], script: &[&[u8]]) -> Vec<u8> {
        let count = u8::try_from(calls.len()).expect("few");
        let ring: &[u8] = &[0, 0xff, 0xff, 0xff, 0xff, 1];
        [&[count], &*calls.concat(), ring, &script.concat()].concat()
    }

    /// The same, listened to.
    fn traced(calls: &[[u8; 3]], script: &[&[u8]]) -> Vec<u8> {
        let mut seed = seed(calls, script);
        seed[0] |= 0x80;
        seed
    }

    /// All is taken, and the first command under way completes with 0.
    const ANSWERS: [u8; 4] = [6, 1, 0, 0];

    /// The same with a result.
    fn answers(result: i32) -> Vec<u8> {
        [&[6, 1, 5, 0][..], &result.to_le_bytes()].concat()
    }

    /// So many patches of the data follow: each a place and bytes.
    fn patch(at: u8, bytes: &[u8]) -> Vec<u8> {
        let len = u8::try_from(bytes.len()).expect("short");
        [&[1, at, 0, len], bytes].concat()
    }

    #[test]
    fn corpus_of_control() {
        let call = |which| [which, 0, 5];
        let untouched: &[u8] = &[0];
        let every: Vec<_> = (0..20).map(call).collect();
        let seeds: &[(&str, Vec<u8>, [u32; 3])] = &[
            ("all", seed(&every, &[]), [19, 1, 0]),
            ("by-path", seed(&[call(130), call(132), call(136)], &[]), [3, 0, 0]),
            ("features", seed(&[call(0)], &[&ANSWERS, &patch(0, &[0x40, 1])]), [1, 0, 0]),
            ("old-driver", seed(&[call(0)], &[&answers(-19), untouched]), [1, 0, 0]),
            ("granted", seed(&[call(1)], &[&ANSWERS, &patch(16, &[3, 0, 0, 0])]), [1, 0, 0]),
            ("huge-grant", seed(&[call(1)], &[&ANSWERS, &patch(0, &[255; 8])]), [1, 0, 0]),
            ("sized", seed(&[call(2)], &[&ANSWERS, &patch(32, &[0; 8])]), [1, 0, 0]),
            ("cpus", seed(&[call(4)], &[&ANSWERS, &patch(1, &[0x81; 8])]), [1, 0, 0]),
            ("params", seed(&[call(6)], &[&ANSWERS, &patch(8, &[0xee; 8])]), [1, 0, 0]),
            ("refused", seed(&[call(5)], &[&answers(-22), untouched]), [0, 1, 0]),
            ("no-errno", seed(&[call(7)], &[&answers(i32::MIN), untouched]), [0, 1, 0]),
            ("index", seed(&[call(16)], &[&answers(0x1_0000), untouched]), [0, 0, 1]),
            ("late", seed(&[call(8), call(10)], &[&[4, 0], &[6, 2, 0, 0, 0, 0]]), [1, 0, 1]),
            // A fuzzer found it: it is sent before it is given up, not with the next one.
            ("not-sent", seed(&[[8, 0, 0]; 2], &[&[4, 0], &[1, 0, 1, 0, 0, 0]]), [1, 0, 1]),
            ("given-up", seed(&[call(8); 18], &[&[4, 0].repeat(17)]), [0, 0, 18]),
            ("stray", seed(&[call(8), call(8)], &[&[6, 1, 7, 0], &[9; 12]]), [0, 0, 2]),
            ("early", seed(&[call(8), call(8)], &[&[1, 0, 1, 7, 0], &[0; 12]]), [0, 0, 2]),
            ("traced", traced(&every, &[]), [19, 1, 0]),
            ("traced-late", traced(&[call(2), call(4)], &[&[4, 0], &[6, 2, 0, 0, 0]]), [1, 0, 1]),
            ("fatal", seed(&[call(8), call(8)], &[&[0, 8, 0]]), [0, 0, 2]),
            ("signal", seed(&[call(8)], &[&[0, 0, 0], &ANSWERS]), [1, 0, 0]),
        ];
        for (name, bytes, tally) in seeds {
            assert_eq!(run(bytes), *tally, "{name}");
        }
        let named: Vec<_> = seeds.iter().map(|(name, bytes, _)| (*name, bytes.clone())).collect();
        corpus::check("control", control, &named);
    }
}
