//! The messages of a worker.

use ovis_protocol::limits::{MAGIC, PROTOCOL_VERSION};
use ovis_protocol::{
    AdapterInfo, AdapterList, Capabilities, Chunk, DType, ErrorCode, Keeping, ModelInfo,
    ModelState, Outcome, Preview, Progress, PromptCut, Residence, StatePart, Status, TensorHeader,
    WireError, WorkerHello, WorkerMessage,
};

use crate::vectors::JOB;

pub fn worker_messages() -> Vec<(&'static str, WorkerMessage)> {
    vec![
        (
            "hello",
            WorkerMessage::Hello(WorkerHello {
                magic: MAGIC,
                protocol: PROTOCOL_VERSION,
                worker: "ovis-worker 0.1.0".into(),
                capabilities: Capabilities {
                    operations: ["encode", "denoise", "decode", "vae-encode"]
                        .map(String::from)
                        .to_vec(),
                    samplers: ["euler", "dpmpp_2m"].map(String::from).to_vec(),
                    model: "Ovis-Image-7B".into(),
                    device: "cuda:0 NVIDIA H200".into(),
                    precision: "bf16".into(),
                    latent_channels: 16,
                    conditioning_width: 2048,
                    size_multiple: 16,
                    max_pixels: 1 << 26,
                    schedulers: ["flux", "simple"].map(String::from).to_vec(),
                    previews: ["linear", "vae"].map(String::from).to_vec(),
                    models: vec![
                        model("default", "bf16"),
                        ModelInfo {
                            operations: vec!["denoise".into()],
                            ..model("fast-fp8", "fp8")
                        },
                    ],
                },
                keeping: Keeping {
                    seconds: 3600.0,
                    bytes: 2 << 30,
                    is_durable: true,
                },
            }),
        ),
        (
            "refused",
            WorkerMessage::Refused {
                magic: MAGIC,
                protocol: PROTOCOL_VERSION,
                error: WireError::new(
                    ErrorCode::VersionMismatch,
                    "The client speaks protocol 1 and this worker speaks protocol 5.",
                    "Update the older of the two.",
                ),
            },
        ),
        (
            "queued",
            WorkerMessage::Queued {
                job: JOB,
                position: 3,
            },
        ),
        ("started", WorkerMessage::Started { job: JOB }),
        (
            "progress",
            WorkerMessage::Progress(Progress {
                job: JOB,
                step: 5,
                total: 20,
                sigma: 0.90625,
                seconds_left: 12.5,
            }),
        ),
        (
            "done-encode",
            WorkerMessage::Done {
                job: JOB,
                outcome: Outcome {
                    seconds_queued: 0.25,
                    seconds_running: 1.5,
                    cuts: vec![PromptCut {
                        prompt: 1,
                        lost_tokens: 17,
                        lost_template_tokens: 9,
                    }],
                },
                tensors: vec![TensorHeader::new(
                    "conditioning",
                    DType::F32,
                    [2, 256, 2048],
                )],
            },
        ),
        (
            "done-image",
            WorkerMessage::Done {
                job: JOB,
                outcome: Outcome {
                    seconds_queued: 0.0,
                    seconds_running: 0.5,
                    cuts: vec![],
                },
                tensors: vec![TensorHeader::new("image", DType::F32, [1, 64, 64, 3])],
            },
        ),
        (
            "chunk",
            WorkerMessage::Chunk(Chunk {
                job: JOB,
                tensor: 0,
                offset: 0,
                data: vec![0, 0, 0x80, 0x3f],
            }),
        ),
        ("cancelled", WorkerMessage::Cancelled { job: JOB }),
        (
            "status",
            WorkerMessage::Status(Status {
                queued: 2,
                running: 1,
                finished: 1 << 33,
                uptime_seconds: 3600.5,
                device_bytes_used: 20 << 30,
                device_bytes_total: 139 << 30,
                models: states(),
            }),
        ),
        (
            "shutting-down",
            WorkerMessage::ShuttingDown {
                reason: "The worker was asked to stop.".into(),
            },
        ),
        (
            "preview",
            WorkerMessage::Preview(Preview {
                job: JOB,
                step: 5,
                width: 2,
                height: 1,
                data: vec![255, 0, 0, 16, 32, 64],
            }),
        ),
        (
            "state",
            WorkerMessage::State(StatePart {
                job: JOB,
                step: 12,
                size: 1 << 21,
                offset: 1 << 20,
                data: vec![1, 2, 3, 4],
            }),
        ),
        (
            "failed-retry",
            WorkerMessage::Failed {
                job: JOB,
                error: WireError::new(ErrorCode::QueueFull, "The queue is full.", "Wait.")
                    .retry_after(12.5),
            },
        ),
        (
            "adapters",
            WorkerMessage::Adapters(AdapterList {
                adapters: vec![
                    AdapterInfo {
                        name: "styles/霓虹.safetensors".into(),
                        bytes: 39_842_112,
                        hash: std::array::from_fn(|at| at as u8),
                        kind: "lora".into(),
                        rank: 16,
                        title: Some("Neon".into()),
                        triggers: vec!["neon".into(), "霓虹".into()],
                        parts: vec!["transformer".into(), "text_encoder".into()],
                        preview: Some(vec![0xff, 0xd8, 0xff, 0xe0]),
                    },
                    AdapterInfo {
                        name: "slant.safetensors".into(),
                        bytes: 1 << 20,
                        hash: [0; 32],
                        kind: "lokr".into(),
                        rank: 0,
                        title: None,
                        triggers: vec![],
                        parts: vec!["transformer".into()],
                        preview: None,
                    },
                ],
                more: true,
            }),
        ),
        (
            "adapters-none",
            WorkerMessage::Adapters(AdapterList::default()),
        ),
    ]
}

fn model(name: &str, precision: &str) -> ModelInfo {
    ModelInfo {
        name: name.into(),
        model: "Ovis-Image-7B".into(),
        precision: precision.into(),
        operations: ["encode", "denoise", "decode", "vae-encode"]
            .map(String::from)
            .to_vec(),
        latent_channels: 16,
        conditioning_width: 2048,
    }
}

fn states() -> Vec<ModelState> {
    [
        ("default", Residence::Resident, 17 << 30),
        ("fast-fp8", Residence::Partly, 3 << 30),
        ("poster", Residence::Host, 0),
        ("old", Residence::Unloaded, 0),
    ]
    .into_iter()
    .map(|(name, state, bytes)| ModelState {
        name: name.into(),
        state,
        bytes,
    })
    .collect()
}

pub fn error_codes() -> Vec<(&'static str, WorkerMessage)> {
    ErrorCode::ALL
        .into_iter()
        .map(|code| {
            let error = WireError::new(code, format!("An error of code {}.", code.name()), "");
            (code.name(), WorkerMessage::Failed { job: JOB, error })
        })
        .collect()
}
