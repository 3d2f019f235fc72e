//! A disk that becomes larger while it is served.

use super::server::Server;
use crate::error::Error;
use crate::kernel::Kernel;
use std::sync::atomic::Ordering;

impl<K: Kernel> Server<K> {
    /// Lets the disk be larger: the backend can serve requests up to `size_bytes`. Clients may send
    /// them once the driver has been told, by [`update_size`](crate::DeviceControl::update_size);
    /// best by another process, for the same reason as at a [`stop`](Self::stop).
    ///
    /// A disk that is to be smaller needs the driver's word alone. Requests may be under way beyond
    /// its new end, so this server goes on to serve all that it ever did.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: no whole blocks.
    pub fn grow(&self, size_bytes: u64) -> Result<(), Error> {
        let block_bytes = u64::from(self.block_bytes.max(1));
        if !size_bytes.is_multiple_of(block_bytes) || size_bytes > i64::MAX as u64 {
            return Err(Error::Refused(format!(
                "a size of {size_bytes} bytes is no multiple of the block size of {block_bytes}: \
                 choose one that is"
            )));
        }
        self.size_bytes.fetch_max(size_bytes, Ordering::Relaxed);
        Ok(())
    }
}
