//! [`Lines`]: writes a trace, without making anybody wait for it.

use super::event::{Event, What};
use super::voice::Sink;
use core::fmt::Write as _;
use core::time::Duration;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// How events become lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A line of text for people.
    #[default]
    Text,
    /// A JSON object for each, which can be replayed.
    Json,
}

/// How many events may wait to be written; what comes on top is lost.
const WAITING: usize = 1 << 16;

/// How many lines are written at one time at the most.
const BATCH: usize = 256;

/// Writes a line for each event, whole lines only. A thread of its own does that: who serves never
/// waits for it. Events that come faster than they can be written are lost, and so are all after a
/// failure; they are counted. A clone is the same writer.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Until the end.
    events: Mutex<Option<SyncSender<Event>>>,
    lost: Arc<AtomicU64>,
    ended: Mutex<Receiver<Option<io::Error>>>,
}

/// How a trace ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ending {
    /// Events that were not written.
    pub lost: u64,
    /// Why, where writing failed.
    pub error: Option<io::Error>,
}

impl Lines {
    /// Lines of this format go to `writer` from now on.
    ///
    /// # Errors
    ///
    /// No thread can be made.
    pub fn new(format: Format, writer: impl Write + Send + 'static) -> io::Result<Self> {
        let (events, received) = sync_channel(WAITING);
        let (end, ended) = channel();
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        std::thread::Builder::new().name("trace".into()).spawn(move || {
            let error = write_all(format, writer, &received, &counter);
            let _ = end.send(error); // nobody may be waiting any more
        })?;
        let (events, ended) = (Mutex::new(Some(events)), Mutex::new(ended));
        Ok(Self(Arc::new(Shared { events, lost, ended })))
    }

    /// Ends the trace, and waits until all of it was written, for `patience` at the most. Events
    /// that come later are lost.
    pub fn finish(&self, patience: Duration) -> Ending {
        drop(self.0.events.lock().unwrap_or_else(PoisonError::into_inner).take());
        let ended = self.0.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let error = match ended.recv_timeout(patience) {
            Ok(error) => error,
            Err(RecvTimeoutError::Timeout) => Some(io::ErrorKind::TimedOut.into()),
            Err(RecvTimeoutError::Disconnected) => None, // it ended before
        };
        Ending { lost: self.0.lost.load(Ordering::Relaxed), error }
    }
}

impl Sink for Lines {
    fn take(&self, event: Event) {
        let events = self.0.events.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = events.as_ref().is_some_and(|events| events.try_send(event).is_ok());
        self.0.lost.fetch_add(u64::from(!sent), Ordering::Relaxed);
    }
}

/// The writer's life.
fn write_all(
    format: Format,
    mut writer: impl Write,
    events: &Receiver<Event>,
    lost: &AtomicU64,
) -> Option<io::Error> {
    let mut failed = None;
    let mut text = String::new();
    let mut last: Option<Event> = None;
    while let Ok(first) = events.recv() {
        let mut count = 0;
        text.clear();
        for event in std::iter::once(first).chain(events.try_iter().take(BATCH - 1)) {
            count += 1;
            add_line(&mut text, format, &event);
            last = Some(event);
        }
        if failed.is_none() {
            failed = writer.write_all(text.as_bytes()).and_then(|()| writer.flush()).err();
        }
        if failed.is_some() {
            lost.fetch_add(count, Ordering::Relaxed);
        }
    }
    if failed.is_none()
        && let Some(last) = last
    {
        let what = What::End { lost: lost.load(Ordering::Relaxed) };
        text.clear();
        add_line(&mut text, format, &Event { what, task: "trace".into(), ..last });
        failed = writer.write_all(text.as_bytes()).and_then(|()| writer.flush()).err();
    }
    failed
}

fn add_line(text: &mut String, format: Format, event: &Event) {
    let _ = match format {
        Format::Text => writeln!(text, "{event}"),
        Format::Json => writeln!(text, "{}", event.json()),
    }; // a String takes all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::Sender;

    fn event(number: u32) -> Event {
        let what = What::Missed { completions: number };
        Event { at: Duration::from_secs(number.into()), task: "t".into(), what }
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Writes into a vector; a write waits until it is let go.
    struct Gate(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated(format: Format) -> (Lines, Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (open, gate) = channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let lines = Lines::new(format, Gate(gate, Arc::clone(&written))).unwrap();
        (lines, open, written)
    }

    #[test]
    fn whole_lines_in_order_and_an_end() {
        let (lines, open, written) = gated(Format::Json);
        drop(open); // no write waits
        (0..1000).for_each(|number| lines.take(event(number)));
        let ending = lines.finish(PATIENCE);
        assert_eq!((ending.lost, ending.error.is_none()), (0, true));
        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let kept: Vec<&str> = written.lines().collect();
        assert_eq!(kept.len(), 1001);
        for (number, line) in kept[..1000].iter().enumerate() {
            assert!(line.ends_with(&format!("\"completions\":{number}}}")), "{line}");
        }
        let end = "{\"at_ns\":999000000000,\"task\":\"trace\",\"what\":\"end\",\"lost\":0}";
        assert_eq!(kept[1000], end);
        lines.take(event(0));
        assert_eq!(lines.finish(PATIENCE).lost, 1, "what comes later is lost");
    }

    #[test]
    fn nobody_waits_for_a_writer_that_is_stuck() {
        let (lines, open, written) = gated(Format::Text);
        // One batch may have been taken out of the queue.
        let sent = u32::try_from(WAITING + BATCH).unwrap() + 10;
        (0..sent).for_each(|number| lines.take(event(number)));
        let ending = lines.finish(Duration::from_millis(10));
        assert!(ending.lost >= 10, "{ending:?}");
        assert_eq!(ending.error.map(|error| error.kind()), Some(io::ErrorKind::TimedOut));
        drop(open);
        let lost = lines.finish(PATIENCE).lost;
        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(written.lines().count() as u64 + lost, u64::from(sent) + 1);
        assert!(written.ends_with(&format!("END lost={lost}\n")));
    }

    #[test]
    fn a_failure_is_told_and_the_rest_is_counted() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::new(Format::Text, Closed).unwrap();
        (0..500).for_each(|number| lines.take(event(number)));
        let ending = lines.finish(PATIENCE);
        assert_eq!(ending.lost, 500);
        assert_eq!(ending.error.map(|error| error.kind()), Some(io::ErrorKind::BrokenPipe));
    }
}
