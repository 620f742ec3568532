//! Copies to the GPU from host memory that is not pinned: a thread brings it through pinned buffers.

use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use candle_core::{Error, Result};

use super::copy_stream::{CopyStream, Event, PIECE};
use super::pinned::Pinned;
use crate::nn::stream::{HostBytes, PinnedBytes};

/// Buffers that copies take turns in: one is read by the GPU while the next one is filled.
const BUFFERS: usize = 4;

/// Bytes of a page to copy.
pub struct Part {
    /// Address on the GPU.
    pub to: u64,
    /// Where the bytes are.
    pub bytes: Arc<dyn HostBytes>,
    /// The first of them.
    pub from: usize,
    /// How many.
    pub len: usize,
}

/// Copies of one page.
struct Work {
    used: Arc<Event>,
    parts: Vec<Part>,
    filled: Arc<Event>,
    done: Sender<Result<()>>,
}

/// The thread and its buffers.
pub struct Staging {
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

struct Buffer {
    memory: Pinned,
    /// Recorded when the GPU has read it.
    read: Event,
}

impl Staging {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread or no memory to pin.
    pub fn new(stream: &Arc<CopyStream>) -> Result<Self> {
        stream.bind()?;
        let buffer = |_| {
            Ok(Buffer {
                memory: Pinned::new(PIECE)?,
                read: Event::new()?,
            })
        };
        let mut buffers: Vec<Buffer> = (0..BUFFERS).map(buffer).collect::<Result<_>>()?;
        let (sender, work) = channel::<Work>();
        let stream = stream.clone();
        let run = move || {
            let mut next = 0;
            for work in work {
                let copied = copy(&stream, &work, &mut buffers, &mut next);
                // Nobody waits for a copy that was given up.
                let _ = work.done.send(copied);
            }
            // The buffers are freed when nothing reads them any more.
            let _ = stream.wait();
        };
        let thread = thread::Builder::new().name("weights".into()).spawn(run);
        Ok(Self {
            work: Some(sender),
            thread: Some(thread.map_err(Error::wrap)?),
        })
    }

    /// Copies parts once `used` is reached, and then records `filled`. The receiver gets the result
    /// when all copies are given to the stream.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn begin(
        &self,
        used: &Arc<Event>,
        parts: Vec<Part>,
        filled: &Arc<Event>,
    ) -> Result<Receiver<Result<()>>> {
        let (done, result) = channel();
        let work = Work {
            used: used.clone(),
            parts,
            filled: filled.clone(),
            done,
        };
        let sent = self
            .work
            .as_ref()
            .is_some_and(|thread| thread.send(work).is_ok());
        match sent {
            true => Ok(result),
            false => Err(Error::Msg(
                "the thread that copies weights has ended".into(),
            )),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn copy(stream: &CopyStream, work: &Work, buffers: &mut [Buffer], next: &mut usize) -> Result<()> {
    stream.bind()?;
    // SAFETY: the stream is alive.
    unsafe { work.used.delay(stream.raw())? };
    stream.begin()?;
    for part in &work.parts {
        for start in (0..part.len).step_by(PIECE) {
            let len = PIECE.min(part.len - start);
            let buffer = &mut buffers[*next % BUFFERS];
            *next += 1;
            buffer.read.wait()?;
            let bytes = &mut buffer.memory.bytes_mut()[..len];
            part.bytes.read(part.from + start, bytes)?;
            // SAFETY: the buffer is not written before `read` is reached; the slot is free after
            // `used` and not used before `filled`.
            unsafe {
                stream.copy(part.to + start as u64, bytes)?;
                buffer.read.record(stream.raw())?;
            }
        }
    }
    // SAFETY: the stream is alive.
    unsafe { work.filled.record(stream.raw()) }
}
