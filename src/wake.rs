//! [`Wakers`]: how other threads tell a queue that its requests can go on.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

/// Wakes requests of one queue, from any thread. Cloned, it wakes the same queue.
///
/// A request that is [parked](crate::Io::park) is resumed once for any number of wakes; one that is
/// not parked any more is not. Many wakes cost the queue one. After the queue's end they do
/// nothing.
#[derive(Clone)]
pub struct Wakers(Arc<Shared>);

struct Shared {
    /// A bit for each tag that was woken.
    woken: Box<[AtomicU64]>,
    /// Whether the queue was told and has not looked yet.
    is_told: AtomicBool,
    tell: Box<dyn Fn() + Send + Sync>,
}

impl Wakers {
    /// Those of a queue with so many slots, which `tell` makes look.
    pub(crate) fn new(depth: u16, tell: impl Fn() + Send + Sync + 'static) -> Self {
        let woken = (0..depth.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Shared { woken, is_told: AtomicBool::new(false), tell: Box::new(tell) }))
    }

    /// Of a queue that does not listen.
    pub(crate) fn deaf() -> Self {
        Self::new(0, || ())
    }

    /// Has the queue resume the request with this tag, if it is parked. Never blocks; a tag that
    /// does not exist is nobody's.
    pub fn wake(&self, tag: u16) {
        let Some(word) = self.0.woken.get(usize::from(tag / 64)) else { return };
        // Release: whoever takes the bit sees what was done before.
        word.fetch_or(1 << (tag % 64), Ordering::Release);
        if !self.0.is_told.swap(true, Ordering::AcqRel) {
            (self.0.tell)();
        }
    }

    /// The queue looks: what is woken from here on tells it anew.
    pub(crate) fn begin_look(&self) {
        // Acquires what those saw who found it told already.
        self.0.is_told.swap(false, Ordering::AcqRel);
    }

    /// The tags that were woken, and are not any more: each once, also if it is woken meanwhile.
    pub(crate) fn take(&self) -> impl Iterator<Item = u16> {
        (0_u16..).zip(&self.0.woken).flat_map(|(index, word)| {
            let mut bits = match word.load(Ordering::Relaxed) {
                0 => 0,
                // Acquire: what was done before it was woken is seen.
                _ => word.swap(0, Ordering::AcqRel),
            };
            core::iter::from_fn(move || {
                let bit = u16::try_from(bits.trailing_zeros()).expect("up to 64");
                bits &= bits.wrapping_sub(1);
                (bit < 64).then_some(index * 64 + bit)
            })
        })
    }
}

impl fmt::Debug for Wakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakers").finish_non_exhaustive()
    }
}

/// The same queue's.
impl PartialEq for Wakers {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Wakers {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn many_wakes_tell_once_and_none_is_lost() {
        let told = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&told);
        let wakers = Wakers::new(130, move || _ = count.fetch_add(1, Ordering::Relaxed));
        for tag in [129, 3, 64, 3, 200, u16::MAX] {
            wakers.wake(tag);
        }
        assert_eq!(told.load(Ordering::Relaxed), 1);
        wakers.begin_look();
        assert_eq!(wakers.take().collect::<Vec<u16>>(), [3, 64, 129]);
        wakers.clone().wake(0);
        assert_eq!(told.load(Ordering::Relaxed), 2);
        assert_eq!(wakers.take().collect::<Vec<u16>>(), [0]);
        assert_eq!(wakers.take().next(), None);
    }

    /// Who wakes himself while he is looked at is looked at the next time.
    #[test]
    fn each_is_taken_once() {
        let wakers = Wakers::new(70, || ());
        (0..70).step_by(23).for_each(|tag| wakers.wake(tag));
        let again = wakers.take().inspect(|tag| wakers.wake(*tag));
        let all: Vec<u16> = again.collect();
        assert_eq!(all, [0, 23, 46, 69]);
        assert_eq!(wakers.take().collect::<Vec<u16>>(), all);
    }

    #[test]
    fn threads_that_wake_are_heard() {
        const ROUNDS: u64 = 2000;
        let (tell, told) = std::sync::mpsc::channel();
        let wakers = Wakers::new(128, move || _ = tell.send(()));
        let counts: Arc<[AtomicU64; 2]> = Arc::default();
        let wake = |tag: u16| {
            let (wakers, counts) = (wakers.clone(), Arc::clone(&counts));
            std::thread::spawn(move || {
                for _ in 0..ROUNDS {
                    counts[usize::from(tag / 64)].fetch_add(1, Ordering::Relaxed);
                    wakers.wake(tag);
                }
            })
        };
        let threads = [wake(1), wake(65)];
        // Whoever was woken last has counted to the end: a lost wake would never be heard.
        let mut seen = [0; 2];
        while seen != [ROUNDS; 2] {
            told.recv_timeout(core::time::Duration::from_secs(60)).expect("a wake was lost");
            wakers.begin_look();
            for tag in wakers.take() {
                let index = usize::from(tag / 64);
                seen[index] = counts[index].load(Ordering::Relaxed);
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
