//! Writes lines to a stream that may be slow, blocked or closed, without blocking the threads
//! that log them.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most bytes of lines that wait to be written. Further lines are dropped.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// Pause before the next attempt to write to a non-blocking stream that is not ready.
const RETRY: Duration = Duration::from_millis(10);

/// Writes lines on a thread of its own. A line that the stream does not accept is dropped and
/// counted. No method but [`flush`](Self::flush) waits for the stream, and none fails.
pub struct LineWriter {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The thread is writing a line.
    is_writing: bool,
    /// Lines dropped since a line last reported how many.
    unreported: u64,
    /// The thread could not be started.
    is_gone: bool,
    /// The last line has been queued.
    is_closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Poisoning is ignored: every change to the state is complete before a panic could
        // happen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_line(&self, state: &mut State) {
        state.unreported += 1;
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl LineWriter {
    /// Starts the thread. `report` returns the line that reports how many lines were dropped.
    pub fn start(
        out: impl Write + Send + 'static,
        report: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = std::thread::Builder::new().name("log".into());
        let started = thread.spawn(move || write_lines(&theirs, out, &report));
        shared.lock().is_gone = started.is_err();
        Self { shared }
    }

    /// Queues a line, which must end with a newline, or drops it.
    pub fn push(&self, line: Vec<u8>) {
        self.queue(line, false);
    }

    /// Queues the last line. Lines that other threads log afterwards are dropped.
    pub fn push_last(&self, line: Vec<u8>) {
        self.queue(line, true);
    }

    fn queue(&self, line: Vec<u8>, is_last: bool) {
        let mut state = self.shared.lock();
        let was_closed = state.is_closed;
        state.is_closed |= is_last;
        if state.is_gone || was_closed || state.bytes + line.len() > MAX_WAITING_BYTES {
            return self.shared.drop_line(&mut state);
        }
        state.bytes += line.len();
        state.waiting.push_back(line);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Waits until all lines are written, for at most `limit`.
    pub fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut state = self.shared.lock();
        while !state.is_gone && (state.is_writing || !state.waiting.is_empty()) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return;
            };
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Number of lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

/// The body of the thread: writes lines as they come, for the rest of the program.
fn write_lines(shared: &Shared, out: impl Write, report: &impl Fn(u64) -> Vec<u8>) {
    let mut out = Lines {
        out,
        is_partial: false,
    };
    let mut state = shared.lock();
    loop {
        let Some(line) = state.waiting.pop_front() else {
            state.is_writing = false;
            shared.changed.notify_all();
            let woken = shared.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        state.bytes -= line.len();
        state.is_writing = true;
        drop(state);
        let written = out.write(&line);
        state = shared.lock();
        match written {
            Err(_) => shared.drop_line(&mut state),
            // The stream accepts lines again: report those that were dropped.
            Ok(()) if state.unreported > 0 && state.waiting.is_empty() && !state.is_closed => {
                let count = std::mem::take(&mut state.unreported);
                drop(state);
                let written = out.write(&report(count));
                state = shared.lock();
                if written.is_err() {
                    state.unreported += count;
                }
            }
            Ok(()) => {}
        }
    }
}

/// A stream that, after a line was written only in part, starts the next on a new line.
struct Lines<W> {
    out: W,
    is_partial: bool,
}

impl<W: Write> Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_partial {
            self.write_all(b"\n")?;
        }
        self.is_partial = false;
        self.write_all(line)?;
        self.out.flush()
    }

    /// Like [`Write::write_all`], but waits for a non-blocking stream.
    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.is_partial = !bytes.is_empty();
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(RETRY),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, sync_channel, Receiver, Sender};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A stream that asks the test what to do with each write.
    struct Asking {
        asked: Sender<Vec<u8>>,
        answers: Receiver<io::Result<usize>>,
    }

    impl Write for Asking {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.asked.send(bytes.to_vec());
            // Once the test has hung up, all is taken.
            self.answers.recv().unwrap_or(Ok(bytes.len()))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start() -> (LineWriter, Receiver<Vec<u8>>, Sender<io::Result<usize>>) {
        let (asked, written) = channel();
        let (answer, answers) = channel();
        let tell = |count| format!("{count} dropped\n").into_bytes();
        let writer = LineWriter::start(Asking { asked, answers }, tell);
        (writer, written, answer)
    }

    fn next(written: &Receiver<Vec<u8>>) -> String {
        String::from_utf8(written.recv_timeout(LIMIT).unwrap()).unwrap()
    }

    #[test]
    fn a_stuck_stream_holds_nobody_and_is_told_what_it_missed() {
        let (writer, written, answer) = start();
        writer.push(b"first\n".to_vec());
        assert_eq!(next(&written), "first\n");
        // The thread is with the stream; these wait, then are too many.
        let line = vec![b'x'; MAX_WAITING_BYTES / 4];
        let begun = Instant::now();
        for _ in 0..7 {
            writer.push(line.clone());
        }
        writer.flush(Duration::from_millis(20));
        assert!(begun.elapsed() < LIMIT);
        assert_eq!(writer.dropped(), 3);
        drop(answer);
        writer.flush(LIMIT);
        let rest: Vec<_> = written.try_iter().collect();
        assert_eq!(rest[..4], vec![line; 4][..]);
        assert_eq!(rest[4..], [b"3 dropped\n".to_vec()]);
    }

    #[test]
    fn a_stream_that_fails_is_tried_again() {
        let (writer, written, answer) = start();
        writer.push(b"one\n".to_vec());
        assert_eq!(next(&written), "one\n");
        answer.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        writer.push(b"two\n".to_vec());
        assert_eq!(next(&written), "two\n");
        answer.send(Ok(4)).unwrap();
        assert_eq!(next(&written), "1 dropped\n");
        assert_eq!(writer.dropped(), 1);
    }

    #[test]
    fn nothing_follows_the_last_line() {
        let (writer, written, answer) = start();
        drop(answer);
        writer.push(b"one\n".to_vec());
        writer.push_last(b"last\n".to_vec());
        writer.push(b"late\n".to_vec());
        writer.flush(LIMIT);
        assert_eq!(
            (next(&written), next(&written)),
            ("one\n".into(), "last\n".into())
        );
        assert!(written.try_iter().all(|line| line != b"late\n"));
    }

    #[test]
    fn a_torn_line_does_not_run_into_the_next() {
        let (writer, written, answer) = start();
        writer.push(b"torn\n".to_vec());
        assert_eq!(next(&written), "torn\n");
        answer.send(Ok(2)).unwrap();
        assert_eq!(next(&written), "rn\n");
        answer.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        drop(answer);
        writer.push(b"next\n".to_vec());
        assert_eq!(next(&written), "\n");
        assert_eq!(next(&written), "next\n");
    }

    #[test]
    fn a_stream_that_would_block_is_waited_for() {
        let (writer, written, answer) = start();
        writer.push(b"line\n".to_vec());
        assert_eq!(next(&written), "line\n");
        answer.send(Err(io::ErrorKind::WouldBlock.into())).unwrap();
        assert_eq!(next(&written), "line\n");
        drop(answer);
        writer.flush(LIMIT);
        assert_eq!(writer.dropped(), 0);
    }

    #[test]
    fn lines_of_many_threads_stay_whole() {
        let (sent, received) = sync_channel(10_000);
        struct To(std::sync::mpsc::SyncSender<Vec<u8>>);
        impl Write for To {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.send(bytes.to_vec());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let writer = LineWriter::start(To(sent), |_| Vec::new());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let writer = &writer;
                scope.spawn(move || {
                    for line in 0..500 {
                        writer.push(format!("{thread} {line}\n").into_bytes());
                    }
                });
            }
        });
        writer.flush(LIMIT);
        assert_eq!(received.try_iter().count(), 2000);
    }
}
