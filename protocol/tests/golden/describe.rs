//! Messages as JSON: fields by name, bytes as hex, an enum as an object whose
//! `type` is the variant and whose other members are its fields (`value` for a
//! variant that holds one bare value).

use ovis_protocol::{
    AdapterInfo, AdapterUse, Chunk, ClientMessage, DType, ErrorCode, JobId, JobOptions, ModelInfo,
    ModelState, PromptCut, Request, SamplerOptions, Schedule, SigmaInterval, TensorHeader,
    WireError, WorkerMessage,
};
use serde_json::{json, Value};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn job(id: &JobId) -> Value {
    json!(hex(id))
}

/// What a client sends.
pub fn client(message: &ClientMessage) -> Value {
    match message {
        ClientMessage::Hello(h) => json!({
            "type": "Hello", "magic": h.magic, "protocol": h.protocol,
            "client": h.client, "token": h.token, "secret": h.secret.map(|s| hex(&s)),
        }),
        ClientMessage::Submit {
            job: id,
            request: r,
            tensors: t,
            options: o,
        } => json!({
            "type": "Submit", "job": job(id), "request": request(r), "tensors": tensors(t),
            "options": job_options(o),
        }),
        ClientMessage::Chunk(c) => chunk(c),
        ClientMessage::Cancel { job: id } => json!({"type": "Cancel", "job": job(id)}),
        ClientMessage::Status => json!({"type": "Status"}),
        ClientMessage::Claim { job: id, received } => json!({
            "type": "Claim", "job": job(id), "received": received,
        }),
        ClientMessage::Acknowledge { job: id } => {
            json!({"type": "Acknowledge", "job": job(id)})
        }
        ClientMessage::ListAdapters => json!({"type": "ListAdapters"}),
    }
}

/// What a worker sends.
pub fn worker(message: &WorkerMessage) -> Value {
    match message {
        WorkerMessage::Hello(h) => {
            let c = &h.capabilities;
            json!({
                "type": "Hello", "magic": h.magic, "protocol": h.protocol, "worker": h.worker,
                "capabilities": {
                    "operations": c.operations, "samplers": c.samplers, "model": c.model,
                    "device": c.device, "precision": c.precision,
                    "latent_channels": c.latent_channels,
                    "conditioning_width": c.conditioning_width,
                    "size_multiple": c.size_multiple, "max_pixels": c.max_pixels,
                    "schedulers": c.schedulers, "previews": c.previews,
                    "models": c.models.iter().map(model).collect::<Value>(),
                },
                "keeping": {
                    "seconds": h.keeping.seconds, "bytes": h.keeping.bytes,
                    "is_durable": h.keeping.is_durable,
                },
            })
        }
        WorkerMessage::Refused {
            magic,
            protocol,
            error: e,
        } => json!({
            "type": "Refused", "magic": magic, "protocol": protocol, "error": error(e),
        }),
        WorkerMessage::Queued { job: id, position } => {
            json!({"type": "Queued", "job": job(id), "position": position})
        }
        WorkerMessage::Started { job: id } => json!({"type": "Started", "job": job(id)}),
        WorkerMessage::Progress(p) => json!({
            "type": "Progress", "job": job(&p.job), "step": p.step, "total": p.total,
            "sigma": p.sigma, "seconds_left": p.seconds_left,
        }),
        WorkerMessage::Done {
            job: id,
            outcome: o,
            tensors: t,
        } => json!({
            "type": "Done", "job": job(id), "tensors": tensors(t),
            "outcome": {
                "seconds_queued": o.seconds_queued, "seconds_running": o.seconds_running,
                "cuts": o.cuts.iter().map(cut).collect::<Value>(),
            },
        }),
        WorkerMessage::Chunk(c) => chunk(c),
        WorkerMessage::Failed { job: id, error: e } => {
            json!({"type": "Failed", "job": job(id), "error": error(e)})
        }
        WorkerMessage::Cancelled { job: id } => json!({"type": "Cancelled", "job": job(id)}),
        WorkerMessage::Status(s) => json!({
            "type": "Status", "queued": s.queued, "running": s.running, "finished": s.finished,
            "uptime_seconds": s.uptime_seconds, "device_bytes_used": s.device_bytes_used,
            "device_bytes_total": s.device_bytes_total,
            "models": s.models.iter().map(state).collect::<Value>(),
        }),
        WorkerMessage::ShuttingDown { reason } => {
            json!({"type": "ShuttingDown", "reason": reason})
        }
        WorkerMessage::Preview(p) => json!({
            "type": "Preview", "job": job(&p.job), "step": p.step, "width": p.width,
            "height": p.height, "data": hex(&p.data),
        }),
        WorkerMessage::State(s) => json!({
            "type": "State", "job": job(&s.job), "step": s.step, "size": s.size,
            "offset": s.offset, "data": hex(&s.data),
        }),
        WorkerMessage::Adapters(list) => json!({
            "type": "Adapters", "more": list.more,
            "adapters": list.adapters.iter().map(adapter).collect::<Value>(),
        }),
    }
}

fn request(request: &Request) -> Value {
    match request {
        Request::Encode(r) => json!({
            "type": "Encode", "prompts": r.prompts, "max_sequence_length": r.max_sequence_length,
            "adapters": adapters(&r.adapters),
        }),
        Request::Denoise(r) => json!({
            "type": "Denoise", "seed": r.seed, "steps": r.steps, "cfg": r.cfg,
            "sampler": r.sampler, "schedule": schedule(&r.schedule), "denoise": r.denoise,
            "batch_index": r.batch_index, "options": options(&r.options), "shift": r.shift,
            "start_step": r.start_step, "end_step": r.end_step, "add_noise": r.add_noise,
            "leftover_noise": r.leftover_noise,
            "preview": r.preview.map(|p| json!({
                "kind": {"type": format!("{:?}", p.kind)}, "max_side": p.max_side,
            })),
            "guided": r.guided.map(interval),
            "cache": {"type": format!("{:?}", r.cache)},
            "adapters": adapters(&r.adapters),
        }),
        Request::Decode => json!({"type": "Decode"}),
        Request::VaeEncode => json!({"type": "VaeEncode"}),
    }
}

fn job_options(o: &JobOptions) -> Value {
    json!({
        "priority": {"type": format!("{:?}", o.priority)}, "deadline": o.deadline,
        "state": o.state.map(|s| json!({"steps": s.steps, "seconds": s.seconds})),
        "trace": o.trace, "model": o.model,
    })
}

fn interval(at: SigmaInterval) -> Value {
    json!({"start": at.start, "end": at.end})
}

fn adapters(uses: &[AdapterUse]) -> Value {
    uses.iter()
        .map(|a| {
            json!({
                "name": a.name, "hash": a.hash.map(|h| hex(&h)), "transformer": a.transformer,
                "text_encoder": a.text_encoder, "interval": a.interval.map(interval),
                "blocks": a.blocks,
            })
        })
        .collect()
}

fn adapter(a: &AdapterInfo) -> Value {
    json!({
        "name": a.name, "bytes": a.bytes, "hash": hex(&a.hash), "kind": a.kind, "rank": a.rank,
        "title": a.title, "triggers": a.triggers, "parts": a.parts,
        "preview": a.preview.as_ref().map(|p| hex(p)),
    })
}

fn model(m: &ModelInfo) -> Value {
    json!({
        "name": m.name, "model": m.model, "precision": m.precision, "operations": m.operations,
        "latent_channels": m.latent_channels, "conditioning_width": m.conditioning_width,
    })
}

fn state(m: &ModelState) -> Value {
    json!({"name": m.name, "state": {"type": format!("{:?}", m.state)}, "bytes": m.bytes})
}

fn schedule(schedule: &Schedule) -> Value {
    match schedule {
        Schedule::Auto => json!({"type": "Auto"}),
        Schedule::Shift(shift) => json!({"type": "Shift", "value": shift}),
        Schedule::Sigmas(sigmas) => json!({"type": "Sigmas", "value": sigmas}),
        Schedule::Named(name) => json!({"type": "Named", "value": name}),
    }
}

fn options(o: &SamplerOptions) -> Value {
    json!({
        "eta": o.eta, "s_noise": o.s_noise, "r": o.r, "order": o.order,
        "solver_type": o.solver_type,
    })
}

fn tensors(headers: &[TensorHeader]) -> Value {
    headers
        .iter()
        .map(|h| json!({"name": h.name, "dtype": dtype(h.dtype), "shape": h.shape}))
        .collect()
}

fn dtype(dtype: DType) -> Value {
    json!({"type": match dtype {
        DType::F32 => "F32",
        DType::F16 => "F16",
        DType::Bf16 => "Bf16",
        DType::U8 => "U8",
    }})
}

fn chunk(c: &Chunk) -> Value {
    json!({
        "type": "Chunk", "job": job(&c.job), "tensor": c.tensor, "offset": c.offset,
        "data": hex(&c.data),
    })
}

fn cut(c: &PromptCut) -> Value {
    json!({
        "prompt": c.prompt, "lost_tokens": c.lost_tokens,
        "lost_template_tokens": c.lost_template_tokens,
    })
}

fn error(e: &WireError) -> Value {
    json!({"code": code(e.code), "message": e.message, "hint": e.hint, "retry_after": e.retry_after})
}

fn code(code: ErrorCode) -> Value {
    json!({"type": format!("{code:?}")})
}
