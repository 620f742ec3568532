//! The messages of the golden vectors. Their floats have exact decimal forms, so that JSON
//! preserves every bit.

use ovis_protocol::limits::{MAGIC, PROTOCOL_VERSION};
use ovis_protocol::{
    Capabilities, Chunk, ClientHello, ClientMessage, DType, DenoiseRequest, EncodeRequest,
    ErrorCode, GuidanceInterval, JobId, JobOptions, Keeping, Outcome, Preview, PreviewKind,
    PreviewRequest, Priority, Progress, PromptCut, Request, SamplerOptions, Schedule,
    StateInterval, StatePart, Status, StepCaching, TensorHeader, WireError, WorkerHello,
    WorkerMessage,
};

/// A message of either direction.
#[derive(Debug, PartialEq)]
pub enum Message {
    Client(ClientMessage),
    Worker(WorkerMessage),
}

const JOB: JobId = [
    0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x42, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0x00,
];

/// All vectors: the name of the file without its suffix, and the message.
pub fn vectors() -> Vec<(String, Message)> {
    let client = client_messages()
        .into_iter()
        .map(|(name, m)| (format!("client-{name}"), Message::Client(m)));
    let worker = worker_messages()
        .into_iter()
        .map(|(name, m)| (format!("worker-{name}"), Message::Worker(m)));
    let errors = error_codes()
        .into_iter()
        .map(|(name, m)| (format!("worker-failed-{name}"), Message::Worker(m)));
    client.chain(worker).chain(errors).collect()
}

fn submit(request: Request, tensors: Vec<TensorHeader>) -> ClientMessage {
    ClientMessage::Submit {
        job: JOB,
        request,
        tensors,
        options: JobOptions::default(),
    }
}

fn denoise(schedule: Schedule) -> DenoiseRequest {
    DenoiseRequest {
        schedule,
        denoise: 0.75,
        ..DenoiseRequest::new(u64::MAX, 20, 5.0)
    }
}

fn client_messages() -> Vec<(&'static str, ClientMessage)> {
    let hello = ClientHello {
        magic: MAGIC,
        protocol: PROTOCOL_VERSION,
        client: "golden 1.0".into(),
        token: None,
        secret: None,
    };
    vec![
        ("hello", ClientMessage::Hello(hello.clone())),
        (
            "hello-token",
            ClientMessage::Hello(ClientHello {
                token: Some("s3cret ☂".into()),
                ..hello.clone()
            }),
        ),
        (
            "hello-secret",
            ClientMessage::Hello(ClientHello {
                secret: Some(std::array::from_fn(|at| at as u8)),
                ..hello
            }),
        ),
        (
            "submit-encode",
            submit(
                Request::Encode(EncodeRequest {
                    prompts: vec!["A poster saying “Öl”".into(), String::new()],
                    max_sequence_length: 256,
                }),
                vec![],
            ),
        ),
        (
            "submit-denoise-auto",
            submit(
                Request::Denoise(Box::new(denoise(Schedule::Auto))),
                vec![
                    TensorHeader::new("positive", DType::F32, [1, 256, 2048]),
                    TensorHeader::new("negative", DType::Bf16, [1, 256, 2048]),
                    TensorHeader::new("latent", DType::F32, [2, 16, 128, 128]),
                    TensorHeader::new("noise_mask", DType::F16, [1, 128, 128]),
                ],
            ),
        ),
        (
            "submit-denoise-shift",
            submit(
                Request::Denoise(Box::new(DenoiseRequest {
                    batch_index: Some(vec![0, 3, 1 << 40]),
                    ..denoise(Schedule::Shift(3.0))
                })),
                vec![],
            ),
        ),
        (
            "submit-denoise-sigmas",
            submit(
                Request::Denoise(Box::new(DenoiseRequest {
                    seed: 0,
                    steps: 2,
                    cfg: 1.0,
                    denoise: 1.0,
                    ..denoise(Schedule::Sigmas(vec![1.0, 0.625, 0.0]))
                })),
                vec![],
            ),
        ),
        (
            "submit-denoise-named",
            submit(
                Request::Denoise(Box::new(DenoiseRequest {
                    sampler: "dpmpp_sde".into(),
                    options: SamplerOptions {
                        eta: Some(0.5),
                        s_noise: Some(1.25),
                        r: Some(0.75),
                        order: Some(3),
                        solver_type: Some("midpoint".into()),
                    },
                    shift: Some(3.0),
                    start_step: 4,
                    end_step: Some(12),
                    add_noise: false,
                    leftover_noise: true,
                    preview: Some(PreviewRequest {
                        kind: PreviewKind::Vae,
                        max_side: 512,
                    }),
                    ..denoise(Schedule::Named("karras".into()))
                })),
                vec![],
            ),
        ),
        (
            "submit-denoise-preview",
            submit(
                Request::Denoise(Box::new(DenoiseRequest {
                    preview: Some(PreviewRequest {
                        kind: PreviewKind::Linear,
                        max_side: 256,
                    }),
                    ..denoise(Schedule::Auto)
                })),
                vec![],
            ),
        ),
        (
            "submit-denoise-quick",
            submit(
                Request::Denoise(Box::new(DenoiseRequest {
                    guided: Some(GuidanceInterval {
                        start: 0.875,
                        end: 0.25,
                    }),
                    cache: StepCaching::Fast,
                    ..denoise(Schedule::Auto)
                })),
                vec![],
            ),
        ),
        (
            "submit-decode",
            submit(
                Request::Decode,
                vec![TensorHeader::new("latent", DType::F32, [1, 16, 8, 8])],
            ),
        ),
        (
            "submit-vae-encode",
            submit(
                Request::VaeEncode,
                vec![TensorHeader::new("image", DType::U8, [1, 64, 64, 3])],
            ),
        ),
        (
            "chunk",
            ClientMessage::Chunk(Chunk {
                job: JOB,
                tensor: 1,
                offset: 1 << 20,
                data: (0..=255).collect(),
            }),
        ),
        ("cancel", ClientMessage::Cancel { job: JOB }),
        ("status", ClientMessage::Status),
        (
            "claim",
            ClientMessage::Claim {
                job: JOB,
                received: 0,
            },
        ),
        (
            "claim-rest",
            ClientMessage::Claim {
                job: JOB,
                received: 3 << 20,
            },
        ),
        ("acknowledge", ClientMessage::Acknowledge { job: JOB }),
        (
            "submit-options",
            ClientMessage::Submit {
                job: JOB,
                request: Request::Denoise(Box::new(denoise(Schedule::Auto))),
                tensors: vec![
                    TensorHeader::new("positive", DType::F32, [1, 256, 2048]),
                    TensorHeader::new("latent", DType::F32, [1, 16, 128, 128]),
                    TensorHeader::new("state", DType::U8, [123_456]),
                ],
                options: JobOptions {
                    priority: Priority::High,
                    deadline: Some(600.0),
                    state: Some(StateInterval {
                        steps: 0,
                        seconds: 15.0,
                    }),
                    trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
                },
            },
        ),
    ]
}

fn worker_messages() -> Vec<(&'static str, WorkerMessage)> {
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
                    "The client speaks protocol 1 and this worker speaks protocol 4.",
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
    ]
}

fn error_codes() -> Vec<(&'static str, WorkerMessage)> {
    [
        ErrorCode::VersionMismatch,
        ErrorCode::Unauthorized,
        ErrorCode::BadMessage,
        ErrorCode::InvalidRequest,
        ErrorCode::QueueFull,
        ErrorCode::MissingModel,
        ErrorCode::OutOfMemory,
        ErrorCode::ShuttingDown,
        ErrorCode::Internal,
        ErrorCode::UnknownJob,
        ErrorCode::Conflict,
        ErrorCode::DeadlineExceeded,
        ErrorCode::Forbidden,
        ErrorCode::Expired,
    ]
    .into_iter()
    .map(|code| {
        let error = WireError::new(code, format!("An error of code {}.", code.name()), "");
        (code.name(), WorkerMessage::Failed { job: JOB, error })
    })
    .collect()
}
