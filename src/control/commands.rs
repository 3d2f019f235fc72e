//! The control commands, one method each.

use super::{Answer, Command, Control, DEFAULT_TIMEOUT, DeviceInfo, DeviceState, NO_DEVICE, Name};
use crate::errno::Errno;
use crate::error::Error;
use crate::features::Features;
use crate::kernel::Kernel;
use crate::shared::{SharedBuffer, SharedMapping};
use core::time::Duration;
use std::ffi::CString;
use std::sync::Arc;
use ublkit_sys::abi::{Abi, as_bytes, from_bytes};
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::SECTOR_BYTES;
use ublkit_sys::ublk::{ublk_params, ublk_shmem_buf_reg, ublksrv_ctrl_dev_info};

/// Bytes of a CPU mask: 8,192 CPUs, the most that a kernel can be built for.
const CPU_MASK_BYTES: usize = 1024;

impl<K: Kernel> Control<K> {
    /// `GET_FEATURES` (since 6.5): what the driver knows, which is more than it accepts at one
    /// time.
    /// `None` when the driver is older. Needs no privilege.
    pub fn features(&mut self) -> Result<Option<Features>, Error> {
        let command = Command {
            name: ("GET_FEATURES", sys::UBLK_U_CMD_GET_FEATURES),
            device: NO_DEVICE,
            number: 0,
            path: &[],
            data: &[0; size_of::<u64>()],
            named: None,
        };
        match self.run(command, DEFAULT_TIMEOUT) {
            Ok(answer) => {
                let mut bits = [0; 8];
                bits.copy_from_slice(&answer.data);
                Ok(Some(Features::from_bits_retain(u64::from_ne_bytes(bits))))
            }
            // An older driver takes the number for a command about device -1.
            Err(Error::Command { errno: Errno::ENODEV | Errno::EOPNOTSUPP, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `ADD_DEV` (since 6.0): makes a char device and answers what was granted: the number, the
    /// features that the driver knows, the queues that there are CPUs for, the rounded size.
    ///
    /// # Errors
    ///
    /// `EEXIST`: the number is taken. `EINVAL`: queues or depth are not 1 to 4096, or the features
    /// exclude each other ([`Features::conflict`] says how, and so does the error). `EPERM`: no
    /// `CAP_SYS_ADMIN`. `EACCES`: too many unprivileged devices.
    pub fn add(&mut self, wish: &DeviceInfo, timeout: Duration) -> Result<DeviceInfo, Error> {
        let info = wish.to_sys();
        let command = Command {
            name: ("ADD_DEV", sys::UBLK_U_CMD_ADD_DEV),
            device: info.dev_id,
            number: 0,
            path: &[],
            data: as_bytes(&info),
            named: None,
        };
        let answer = self.run(command, timeout).map_err(|error| match error {
            Error::Command { command, device, errno: errno @ Errno::EINVAL, .. } => {
                let why = wish.features.conflict(true);
                Error::Command { command, device, errno, why }
            }
            other => other,
        })?;
        Ok(DeviceInfo::from_sys(&decode(&answer)))
    }

    /// The commands about device `id`.
    pub fn device(&mut self, id: u32) -> DeviceControl<'_, K> {
        DeviceControl { control: self, id, path: None, timeout: DEFAULT_TIMEOUT }
    }
}

/// The commands about one device.
///
/// All of them block until the driver's answer or the timeout. Besides the errors that each lists:
/// `ENODEV` (no such device), `EPERM` (no `CAP_SYS_ADMIN`, or another's unprivileged device),
/// `EOPNOTSUPP` (an older kernel), and [`Error::Timeout`]. Sources: `ublk_ctrl_*` in
/// `drivers/block/ublk_drv.c`.
#[derive(Debug)]
pub struct DeviceControl<'a, K: Kernel> {
    control: &'a mut Control<K>,
    id: u32,
    path: Option<CString>,
    timeout: Duration,
}

/// The payload that the driver filled.
fn decode<T: Abi>(answer: &Answer) -> T {
    from_bytes(&answer.data).expect("the answer is as long as the question, which held a T")
}

impl<K: Kernel> DeviceControl<'_, K> {
    /// Names the device by `path` too, its char device. An unprivileged device answers nobody, not
    /// even root, who does not. At most 4,096 bytes.
    #[must_use]
    pub fn by_path(mut self, path: CString) -> Self {
        self.path = Some(path);
        self
    }

    /// Waits for the answer for `timeout` at the most, instead of
    /// [`DEFAULT_TIMEOUT`](super::DEFAULT_TIMEOUT).
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn run(self, name: Name, number: u64, data: &[u8]) -> Result<Answer, Error> {
        self.run_naming(None, name, number, data)
    }

    fn run_naming(
        self,
        named: Option<Arc<SharedMapping>>,
        name: Name,
        number: u64,
        data: &[u8],
    ) -> Result<Answer, Error> {
        let path = self.path.as_ref().map_or(&[][..], |path| path.as_bytes_with_nul());
        let command = Command { name, device: self.id, number, path, data, named };
        self.control.run(command, self.timeout)
    }

    /// `GET_DEV_INFO` (since 6.0).
    pub fn info(self) -> Result<DeviceInfo, Error> {
        let asked = ublksrv_ctrl_dev_info::default();
        let name = ("GET_DEV_INFO", sys::UBLK_U_CMD_GET_DEV_INFO);
        let answer = self.run(name, 0, as_bytes(&asked))?;
        Ok(DeviceInfo::from_sys(&decode(&answer)))
    }

    /// `GET_DEV_INFO2` (since 6.3): the same, and always by path; `/dev/ublkcN` if none was given.
    pub fn info_by_path(mut self) -> Result<DeviceInfo, Error> {
        if self.path.is_none() {
            self.path = CString::new(format!("/dev/ublkc{}", self.id)).ok();
        }
        let asked = ublksrv_ctrl_dev_info::default();
        let name = ("GET_DEV_INFO2", sys::UBLK_U_CMD_GET_DEV_INFO2);
        let answer = self.run(name, 0, as_bytes(&asked))?;
        Ok(DeviceInfo::from_sys(&decode(&answer)))
    }

    /// `GET_QUEUE_AFFINITY` (since 6.0): the CPUs whose requests go to `queue`.
    ///
    /// `EINVAL`: there is no such queue.
    pub fn queue_cpus(self, queue: u16) -> Result<Vec<u32>, Error> {
        let name = ("GET_QUEUE_AFFINITY", sys::UBLK_U_CMD_GET_QUEUE_AFFINITY);
        let answer = self.run(name, u64::from(queue), &[0; CPU_MASK_BYTES])?;
        // The mask is an array of native words; on little-endian machines bit n is CPU n.
        let bit = |cpu: u32| answer.data[cpu as usize / 8] >> (cpu % 8) & 1 == 1;
        let count = u32::try_from(answer.data.len() * 8).unwrap_or(u32::MAX);
        Ok((0..count).filter(|cpu| bit(*cpu)).collect())
    }

    /// `SET_PARAMS` (since 6.0): what the disk is to be. Before the first start only.
    ///
    /// `EACCES`: a disk is or was attached. `EINVAL`: a value that the driver does not take, and
    /// then all parameters are gone.
    pub fn set_params(self, params: &ublk_params) -> Result<(), Error> {
        let name = ("SET_PARAMS", sys::UBLK_U_CMD_SET_PARAMS);
        self.run(name, 0, as_bytes(params)).map(drop)
    }

    /// `GET_PARAMS` (since 6.0). The type `DEVT` is in every answer and must not be sent back.
    pub fn params(self) -> Result<ublk_params, Error> {
        #[expect(clippy::cast_possible_truncation, reason = "152 bytes")]
        let asked = ublk_params { len: size_of::<ublk_params>() as u32, ..Default::default() };
        let answer = self.run(("GET_PARAMS", sys::UBLK_U_CMD_GET_PARAMS), 0, as_bytes(&asked))?;
        Ok(decode(&answer))
    }

    /// `START_DEV` (since 6.0): attaches the disk, served by process `server_pid`, which opened the
    /// char device. Waits until every slot of every queue was fetched; I/O comes before the answer.
    ///
    /// `EINVAL`: no parameters were set, or another process opened the char device. `EEXIST`: the
    /// disk is attached. `EBUSY`: stopped meanwhile. `EINTR`.
    pub fn start(self, server_pid: u32) -> Result<(), Error> {
        self.run(("START_DEV", sys::UBLK_U_CMD_START_DEV), u64::from(server_pid), &[]).map(drop)
    }

    /// `STOP_DEV` (since 6.0): takes the disk away. Waits until its dirty pages are written and its
    /// requests answered, so the server must go on serving. A dead device is stopped already.
    pub fn stop(self) -> Result<(), Error> {
        self.run(("STOP_DEV", sys::UBLK_U_CMD_STOP_DEV), 0, &[]).map(drop)
    }

    /// `TRY_STOP_DEV` (since 7.0): the same, if nobody has the disk open.
    ///
    /// `EBUSY`: somebody has. `ENODEV`: there is no disk.
    pub fn try_stop(self) -> Result<(), Error> {
        self.run(("TRY_STOP_DEV", sys::UBLK_U_CMD_TRY_STOP_DEV), 0, &[]).map(drop)
    }

    /// `DEL_DEV` (since 6.0): stops the device, removes it and waits until its number is free, that
    /// is until nobody holds the char device: no descriptor, mapping, or ring with it.
    ///
    /// `EINTR`.
    pub fn delete(self) -> Result<(), Error> {
        self.run(("DEL_DEV", sys::UBLK_U_CMD_DEL_DEV), 0, &[]).map(drop)
    }

    /// `DEL_DEV_ASYNC` (since 6.9): the same without waiting for the number. Not for unprivileged
    /// devices, which answer `EINVAL`.
    pub fn delete_async(self) -> Result<(), Error> {
        self.run(("DEL_DEV_ASYNC", sys::UBLK_U_CMD_DEL_DEV_ASYNC), 0, &[]).map(drop)
    }

    /// `START_USER_RECOVERY` (since 6.1): asks whether a new server may take over.
    ///
    /// `EINVAL`: the device cannot be recovered. `EBUSY`: the old server is not gone yet.
    pub fn start_recovery(self) -> Result<(), Error> {
        let name = ("START_USER_RECOVERY", sys::UBLK_U_CMD_START_USER_RECOVERY);
        self.run(name, 0, &[]).map(drop)
    }

    /// `END_USER_RECOVERY` (since 6.1): the new server `server_pid` has taken over; waits until
    /// every slot was fetched.
    ///
    /// `EINVAL`: the device cannot be recovered, or another process opened the char device.
    /// `EBUSY`: the device does not wait for a server. `EINTR`.
    pub fn end_recovery(self, server_pid: u32) -> Result<(), Error> {
        let name = ("END_USER_RECOVERY", sys::UBLK_U_CMD_END_USER_RECOVERY);
        self.run(name, u64::from(server_pid), &[]).map(drop)
    }

    /// `UPDATE_SIZE` (since 6.16): changes the disk's size. The driver checks nothing: requests
    /// beyond a smaller size may be under way.
    ///
    /// `ENODEV`: there is no disk. It is looked for first, with `GET_DEV_INFO`: without one, the
    /// driver of 6.18 and older crashes. [`Error::Refused`]: no multiple of 512 bytes.
    pub fn update_size(mut self, size_bytes: u64) -> Result<(), Error> {
        if !size_bytes.is_multiple_of(SECTOR_BYTES) {
            return Err(Error::Refused(format!(
                "a size of {size_bytes} bytes is no whole sectors: choose a multiple of \
                 {SECTOR_BYTES}"
            )));
        }
        let name = ("UPDATE_SIZE", sys::UBLK_U_CMD_UPDATE_SIZE);
        if !self.has_disk()? {
            let (command, device, errno) = (name.0, Some(self.id), Errno::ENODEV);
            let why = Some("the device has no disk: start it first");
            return Err(Error::Command { command, device, errno, why });
        }
        self.run(name, size_bytes / SECTOR_BYTES, &[]).map(drop)
    }

    fn has_disk(&mut self) -> Result<bool, Error> {
        let (id, path, timeout) = (self.id, self.path.clone(), self.timeout);
        let info = DeviceControl { control: &mut *self.control, id, path, timeout }.info()?;
        Ok(info.state != DeviceState::Dead)
    }

    /// `QUIESCE_DEV` (since 6.16): parks new I/O and aborts idle slots, so that the server can end
    /// in order. Waits until each queue has an idle slot, for `patience` at the most (0: for ever).
    ///
    /// `EOPNOTSUPP`: the device was made without the feature. `ENODEV`: there is no disk. `EBUSY`:
    /// patience ended, and I/O stays parked until the next try or server. `EINTR`: likewise.
    pub fn quiesce(self, patience: Duration) -> Result<(), Error> {
        let ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX).min(u64::from(u32::MAX));
        self.run(("QUIESCE_DEV", sys::UBLK_U_CMD_QUIESCE_DEV), ms, &[]).map(drop)
    }

    /// `REG_BUF` (since 7.1): lets the driver recognise `buffer` in clients' requests; answers its
    /// index. Its pages stay pinned until [`unregister_buffer`](Self::unregister_buffer) or the
    /// device's end. A started device serves its requests in flight first.
    ///
    /// `EOPNOTSUPP`: the device was made without `SHMEM_ZC`. `EEXIST`: a page is registered
    /// already.
    /// `ENOSPC`: 65,536 are.
    pub fn register_buffer(self, buffer: &SharedBuffer, read_only: bool) -> Result<u16, Error> {
        let asked = ublk_shmem_buf_reg {
            addr: buffer.address(),
            len: buffer.len_bytes() as u64,
            flags: if read_only { sys::UBLK_SHMEM_BUF_READ_ONLY } else { 0 },
            reserved: 0,
        };
        let name = ("REG_BUF", sys::UBLK_U_CMD_REG_BUF);
        let answer = self.run_naming(Some(buffer.mapping()), name, 0, as_bytes(&asked))?;
        u16::try_from(answer.result).map_err(|_| odd_index(answer.result))
    }

    /// `UNREG_BUF` (since 7.1): forgets the buffer with this index.
    ///
    /// `ENOENT`: there is none.
    pub fn unregister_buffer(self, index: u16) -> Result<(), Error> {
        self.run(("UNREG_BUF", sys::UBLK_U_CMD_UNREG_BUF), u64::from(index), &[]).map(drop)
    }
}

/// The driver has no such index.
pub(crate) fn odd_index(index: u32) -> Error {
    Error::Impossible(format!("REG_BUF gave index {index}"))
}
