//! GGUF files: a header with metadata and tensor descriptions, then the tensors' data, each
//! at a multiple of the alignment.
//!
//! - `cursor`: reading numbers and strings without running past the file's end
//! - `metadata`: the values of the metadata, read and written
//! - `header`, `place`: the header of versions 2 and 3, and where each tensor lies
//! - `types`: ggml's types and their names
//! - `llama_names`: llama.cpp's names of a language model's tensors
//! - `writer`: writing a file
//!
//! Source: ggml `docs/gguf.md` and `src/gguf.cpp`.

mod cursor;
mod header;
pub mod llama_names;
mod metadata;
mod place;
mod types;
mod writer;

pub use header::{parse, Header};
pub use metadata::Value;
pub use writer::{write_header, Described, ALIGNMENT, MAGIC};
