//! `POST /adapters`: an adapter's file from a client, checked and kept under its hash.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{header, Request, StatusCode};
use serde_json::json;
use tokio::time::timeout;

use super::routes::{json, text, Answer};
use crate::pipeline::{AdapterLibrary, Error};

/// Most bytes of a file. An adapter of rank 128 for every projection of the 7 B model has about
/// 0.6 GiB in bf16.
const MAX_BYTES: u64 = 2 << 30;

/// How long the whole upload may take.
pub const TIMEOUT: Duration = Duration::from_secs(3600);

/// How long the next bytes may take.
const PATIENCE: Duration = Duration::from_secs(30);

type Refusal = (StatusCode, String);

/// Reads the file and says where it is kept, or why it is not.
pub async fn receive(request: Request<Incoming>, library: Option<Arc<AdapterLibrary>>) -> Answer {
    match kept(request, library).await {
        Ok(body) => json(StatusCode::CREATED, body),
        Err((status, sentence)) => text(status, &sentence),
    }
}

async fn kept(
    request: Request<Incoming>,
    library: Option<Arc<AdapterLibrary>>,
) -> Result<String, Refusal> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let length = length.ok_or_else(|| {
        let sentence = "An adapter is sent with its Content-Length.";
        (StatusCode::LENGTH_REQUIRED, sentence.to_owned())
    })?;
    if length > MAX_BYTES {
        let sentence = format!("The file has {length} bytes, the most is {MAX_BYTES}.");
        return Err((StatusCode::PAYLOAD_TOO_LARGE, sentence));
    }
    let library = library.filter(|library| library.takes_uploads()).ok_or((
        StatusCode::FORBIDDEN,
        "This worker takes no adapters: start it with --lora-uploads FOLDER.".to_owned(),
    ))?;
    let receiver = library.clone();
    let mut file = blocking(move || receiver.receive(length)).await?;
    let mut body = request.into_body();
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.map_err(|_| late())? {
        let frame = frame.map_err(|_| late())?;
        if let Ok(bytes) = frame.into_data() {
            file = blocking(move || {
                file.write(&bytes)?;
                Ok(file)
            })
            .await?;
        }
    }
    let info = blocking(move || library.keep(file)).await?;
    let hash: String = info.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    tracing::info!(name = info.name, bytes = info.bytes, "adapter uploaded");
    Ok(json!({ "name": info.name, "hash": hash, "bytes": info.bytes }).to_string())
}

/// Runs work that waits for the disk on a thread for such work.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> crate::pipeline::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| {
        let sentence = "Reading the file failed unexpectedly; the worker's log says where.";
        (StatusCode::INTERNAL_SERVER_ERROR, sentence.to_owned())
    })?;
    done.map_err(|error| {
        let status = match &error {
            Error::TooLarge { .. } => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        (status, error.with_hint())
    })
}

fn late() -> Refusal {
    let sentence = "The file did not arrive whole. Send it again.";
    (StatusCode::REQUEST_TIMEOUT, sentence.to_owned())
}
