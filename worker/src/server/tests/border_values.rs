//! Which values and tensors a request may have, and that others are refused early.

use ovis_protocol::{
    chunks, ClientMessage, DType, EncodeRequest, ErrorCode, Request, SamplerOptions, Schedule,
    TensorHeader,
};

use super::client::*;
use super::fake::*;

fn denoise_with(change: impl FnOnce(&mut ovis_protocol::DenoiseRequest)) -> Request {
    let Request::Denoise(mut request) = denoise_request(1, 4) else {
        unreachable!();
    };
    change(&mut request);
    Request::Denoise(request)
}

/// Everything that is wrong with a `Submit` is reported at once: no tensor byte is sent here.
#[tokio::test]
async fn every_value_is_checked_before_the_upload() {
    let server = server_with(options(), 99, 1).await;
    let header =
        |name: &str, shape: &[u64]| TensorHeader::new(name, DType::F32, shape.iter().copied());
    let encode = |prompts: Vec<String>, max_sequence_length| {
        Request::Encode(EncodeRequest {
            prompts,
            max_sequence_length,
            adapters: vec![],
        })
    };
    let denoise_tensors = || vec![positive().0, latent(2).0];
    let image = |h, w| vec![header("image", &[1, h, w, 3])];
    let latent_of = |shape: &[u64]| vec![header("latent", shape)];
    let options = |options| denoise_with(|r| r.options = options);
    let sized = |h, w| vec![positive().0, header("latent", &[1, 16, h, w])];
    let most = u64::MAX;
    let plain = || denoise_with(|_| {});
    let named = |name: &str| {
        let name = name.to_owned();
        denoise_with(|r| r.sampler = name)
    };
    let cases: Vec<(Request, Vec<TensorHeader>, &str)> = vec![
        (encode(vec![], 256), vec![], "1 to 64 prompts"),
        (encode(vec!["a".into(); 65], 256), vec![], "1 to 64 prompts"),
        (
            encode(vec!["a".into()], 0),
            vec![],
            "max_sequence_length is 0",
        ),
        (encode(vec!["a".repeat(49_153)], 256), vec![], "49153 bytes"),
        (
            encode(vec!["a".into()], 256),
            latent_of(&[1, 16, 2, 2]),
            "no tensor `latent`",
        ),
        (
            Request::VaeEncode,
            image(56, 72),
            "72 x 56 pixels is not a multiple of 16",
        ),
        (Request::VaeEncode, image(1, 16), "multiple of 16"),
        (
            Request::VaeEncode,
            vec![header("image", &[1, 16, 16, 4])],
            "[B, H, W, 3]",
        ),
        (
            Request::VaeEncode,
            vec![header("image", &[16, 16, 3])],
            "[B, H, W, 3]",
        ),
        (Request::VaeEncode, image(16, 1 << 20), "the most is"),
        (
            Request::VaeEncode,
            vec![header("image", &[1, most, most, 3])],
            "larger than",
        ),
        (
            Request::VaeEncode,
            vec![header("image", &[0, 16, 16, 3])],
            "dimension is zero",
        ),
        (
            Request::Decode,
            latent_of(&[1, 16, most, most]),
            "larger than",
        ),
        (
            Request::Decode,
            latent_of(&[1 << 62, 16, 1 << 62, 4]),
            "larger than",
        ),
        (Request::Decode, latent_of(&[1; 9]), "8 dimensions"),
        (Request::Decode, latent_of(&[]), "[B, 16, H/8, W/8]"),
        (plain(), sized(2, 10), "longer than 4 to 1"),
        (plain(), sized(3, 2), "multiple of 16"),
        (
            denoise_with(|r| r.steps = 0),
            denoise_tensors(),
            "steps is 0",
        ),
        (
            denoise_with(|r| r.steps = 1001),
            denoise_tensors(),
            "outside 1 to 1000",
        ),
        (
            denoise_with(|r| r.cfg = f64::NAN),
            denoise_tensors(),
            "`negative`",
        ),
        (
            denoise_with(|r| r.denoise = 0.0),
            denoise_tensors(),
            "denoise is 0",
        ),
        (
            denoise_with(|r| r.denoise = f64::NAN),
            denoise_tensors(),
            "denoise is NaN",
        ),
        (
            denoise_with(|r| r.shift = Some(0.0)),
            denoise_tensors(),
            "shift is 0",
        ),
        (
            denoise_with(|r| r.shift = Some(f64::INFINITY)),
            denoise_tensors(),
            "shift is inf",
        ),
        (
            denoise_with(|r| r.batch_index = Some(vec![0, 1])),
            denoise_tensors(),
            "2 entries",
        ),
        (
            denoise_with(|r| r.batch_index = Some(vec![4096])),
            denoise_tensors(),
            "past 4095",
        ),
        (
            denoise_with(|r| r.schedule = Schedule::Sigmas(vec![1.0, f32::NAN, 0.0, 0.0, 0.0])),
            denoise_tensors(),
            "sigmas",
        ),
        (
            denoise_with(|r| r.schedule = Schedule::Named("x\n\u{1b}[2J".into())),
            denoise_tensors(),
            "`x\\n\\u{1b}[2J`",
        ),
        (
            options(SamplerOptions {
                eta: Some(1.0),
                ..SamplerOptions::default()
            }),
            denoise_tensors(),
            "no option `eta`",
        ),
        (
            named(&"s".repeat(1 << 19)),
            denoise_tensors(),
            "no sampler `sss",
        ),
        (
            named("a\r\nERROR forged"),
            denoise_tensors(),
            "`a\\r\\nERROR forged`",
        ),
        (
            plain(),
            vec![header(&"t".repeat(1 << 19), &[1])],
            "no tensor `ttt",
        ),
        (plain(), vec![header("a\nb", &[1])], "`a\\nb`"),
        (plain(), vec![positive().0, positive().0], "is there twice"),
        (
            plain(),
            vec![header("latent", &[1]); 9],
            "9 tensors, the most is 8",
        ),
    ];
    let mut client = Client::connect(&server).await;
    for (n, (request, tensors, words)) in cases.into_iter().enumerate() {
        client.send(&submit(n as u8, request, tensors)).await;
        let (End::Failed(error), before) = client.end(n as u8).await else {
            panic!("{words}: it was accepted");
        };
        assert!(before.is_empty(), "{words}: {before:?}");
        assert_eq!(error.code, ErrorCode::InvalidRequest, "{words}");
        assert!(error.message.contains(words), "{words}: {error}");
        assert!(error.message.len() < 1500 && !error.message.contains('\n'));
    }
}

/// A tensor with a value that is not finite is refused once its bytes have arrived, by name.
#[tokio::test]
async fn values_that_are_not_finite_are_refused_before_the_job_is_queued() {
    let server = server_with(options(), 99, 1).await;
    let mut client = Client::connect(&server).await;
    let f32s = |header: &TensorHeader, value: f32| {
        let count = header.byte_len().unwrap() as usize / 4;
        let mut values = vec![0.25_f32; count];
        values[count - 1] = value;
        values
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let mask = || TensorHeader::new("noise_mask", DType::F32, [1, 2, 2]);
    let image = || TensorHeader::new("image", DType::F32, [1, 16, 16, 3]);
    let mut job = 0;
    for (value, is_finite) in [
        (f32::NAN, false),
        (f32::INFINITY, false),
        (f32::NEG_INFINITY, false),
        (-3.0, true),
        (7.5, true),
    ] {
        let cases = [
            (Request::Decode, vec![latent(2).0], "latent"),
            (Request::VaeEncode, vec![image()], "image"),
            (
                denoise_request(1, 1),
                vec![latent(2).0, positive().0],
                "positive",
            ),
            (
                denoise_request(1, 1),
                vec![positive().0, latent(2).0],
                "latent",
            ),
            (
                denoise_request(1, 1),
                vec![positive().0, latent(2).0, mask()],
                "noise_mask",
            ),
        ];
        for (request, headers, name) in cases {
            job += 1;
            let data: Vec<_> = headers
                .iter()
                .map(|h| f32s(h, if h.name == name { value } else { 0.5 }))
                .collect();
            client.send(&submit(job, request, headers)).await;
            for chunk in chunks(id(job), data.iter().map(Vec::as_slice)) {
                client.send(&ClientMessage::Chunk(chunk)).await;
            }
            match client.end(job).await {
                (End::Done(..), _) => assert!(is_finite, "{name} {value}"),
                (End::Failed(error), before) => {
                    assert!(!is_finite, "{error}");
                    assert!(before.is_empty(), "{before:?}");
                    assert_eq!(error.code, ErrorCode::InvalidRequest);
                    assert!(error.message.contains(&format!("`{name}`")), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
