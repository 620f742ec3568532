//! `ovis-worker`: a persistent server for the Ovis-Image text-to-image model.
//!
//! The crate is divided into modules that form layers. A module uses only modules further down
//! this list, and a test (`tests/rooms/`) checks that from the `use` lines:
//!
//! | module | responsibility |
//! |---|---|
//! | [`cli`] | the commands `serve`, `generate`, `bench`, `inspect` and `quantize` |
//! | [`server`] | sockets: HTTP, the handshake, websocket sessions; translates between frames and calls on `jobs` |
//! | [`device`] | the thread that owns a GPU: its models, and which job's step is next |
//! | [`jobs`] | a job's life: owner, queue, fairness, admission, stored events and results |
//! | [`pipeline`] | the operations of a job: encode prompts, denoise step by step, decode; what each of them costs |
//! | [`models`] | the three networks: the Qwen3 text encoder, the MMDiT transformer, the VAE |
//! | [`sampling`] | sigma schedules, solvers, and noise identical to PyTorch's |
//! | [`nn`] | layers, each as plain candle operations and as CUDA kernels; no other module asks which device it runs on |
//! | [`checkpoint`] | checkpoint files: recognises their layout and maps each model tensor to the file tensors that hold it |
//! | [`quants`] | number formats of stored weights: ggml's blocks, 8-bit floats |
//! | [`logging`], [`text`] | the log, and the escaping of untrusted text; every module may use them |
//!
//! # The path of a request
//!
//! A client submits a job in websocket frames, as the crate `ovis-protocol` defines them.
//! [`server`] decodes the frames, checks the request, and hands it to [`jobs`], which admits it
//! or refuses it by its cost in memory, and queues it. The thread in [`device`] takes the next
//! job from the queue and runs it in steps through [`pipeline`], which calls [`models`] and
//! [`sampling`]. Between two steps it may switch to another job, or drop a job that was
//! cancelled. Progress, previews and the result are stored with the job in [`jobs`]; the
//! client's session in [`server`] reads them there and sends them.
//!
//! Sockets are served by asynchronous tasks, the GPU by one thread. They share only the state
//! of [`jobs`], so a slow client never delays the device.
//!
//! # Where to add what
//!
//! - **A quantization or another weight format**: its products in [`nn`] (`nn/weight/`), how files
//!   store it in [`checkpoint`], and a value of `--precision` in [`cli`] (`model_args.rs`) if users
//!   select it.
//! - **A sampler or a sigma schedule**: a file in [`sampling`], and its name in the list of
//!   `sampler.rs` or `scheduler.rs`. Clients learn the name from the worker's capabilities.
//! - **A wire message**: `protocol/src/message.rs`, with a new protocol version, golden vectors and
//!   the specification in `protocol/README.md`; its handling in [`server`], and in the node pack
//!   under `comfy_node/`.
//! - **A node**: `comfy_node/nodes/`. It needs no change here unless it needs a new operation.
//! - **A limit**: `protocol/src/limits.rs` if clients must know it; [`jobs`] if it bounds queued
//!   jobs, memory or results; [`server`] if it bounds connections.
//! - **A log line**: a `tracing` macro where the event happens; [`logging`] formats it and has the
//!   rules. A job's lines carry the job's span with its id, operation and client.

pub mod checkpoint;
pub mod cli;
pub mod device;
pub mod jobs;
pub mod logging;
pub mod models;
pub mod nn;
pub mod pipeline;
pub mod quants;
pub mod sampling;
pub mod server;
pub mod text;
