//! The messages of a client.

use ovis_protocol::limits::{MAGIC, PROTOCOL_VERSION};
use ovis_protocol::{
    AdapterUse, Chunk, ClientHello, ClientMessage, DType, DenoiseRequest, EncodeRequest,
    JobOptions, PreviewKind, PreviewRequest, Priority, Request, SamplerOptions, Schedule,
    SigmaInterval, StateInterval, StepCaching, TensorHeader,
};

use crate::vectors::JOB;

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

pub fn client_messages() -> Vec<(&'static str, ClientMessage)> {
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
                    adapters: vec![],
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
                    guided: Some(SigmaInterval {
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
                    model: Some("fast-fp8".into()),
                },
            },
        ),
        (
            "submit-encode-adapters",
            submit(
                Request::Encode(EncodeRequest {
                    prompts: vec!["a neon sign".into()],
                    max_sequence_length: 256,
                    adapters: vec![AdapterUse::new("styles/霓虹.safetensors", 0.75)],
                }),
                vec![],
            ),
        ),
        (
            "submit-denoise-adapters",
            submit(
                Request::Denoise(Box::new(DenoiseRequest {
                    adapters: vec![
                        AdapterUse {
                            hash: Some(std::array::from_fn(|at| 255 - at as u8)),
                            text_encoder: 0.0,
                            interval: Some(SigmaInterval {
                                start: 1.0,
                                end: 0.5,
                            }),
                            blocks: vec![1.0, 0.0, -0.25],
                            ..AdapterUse::new("neon.safetensors", 1.5)
                        },
                        AdapterUse::new("slant.safetensors", -2.0),
                    ],
                    ..denoise(Schedule::Auto)
                })),
                vec![],
            ),
        ),
        ("list-adapters", ClientMessage::ListAdapters),
    ]
}
