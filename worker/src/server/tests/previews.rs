//! Previews: when they come, and which are refused.

use ovis_protocol::{PreviewKind, PreviewRequest, Request, WorkerMessage};

use super::client::*;
use super::fake::*;

#[tokio::test]
async fn a_preview_comes_before_its_steps_progress() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    let with_preview = |kind| {
        let Request::Denoise(mut request) = denoise_request(1, 3) else {
            unreachable!();
        };
        request.preview = Some(PreviewRequest { kind, max_side: 2 });
        Request::Denoise(request)
    };
    let tensors = || vec![positive(), latent(2)];
    let linear = with_preview(PreviewKind::Linear);
    client.submit(1, linear, tensors()).await;
    let (end, before) = client.end(1).await;
    assert!(matches!(end, End::Done(..)));
    let steps: Vec<_> = before[2..]
        .iter()
        .map(|message| match message {
            WorkerMessage::Preview(p) => {
                assert_eq!((p.width, p.height, p.data.len()), (2, 2, 12));
                (p.step, "preview")
            }
            WorkerMessage::Progress(p) => (p.step, "progress"),
            other => panic!("{other:?}"),
        })
        .collect();
    let wanted = (1..=3).flat_map(|step| [(step, "preview"), (step, "progress")]);
    assert_eq!(steps, wanted.collect::<Vec<_>>());

    let vae = with_preview(PreviewKind::Vae);
    client.submit(2, vae, tensors()).await;
    let (End::Failed(error), _) = client.end(2).await else {
        panic!("the fake makes no previews by a VAE");
    };
    assert!(error.message.contains("kind `vae`"), "{error}");
}
