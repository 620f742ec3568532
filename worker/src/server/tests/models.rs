//! Jobs for models by name, adapters, and what unloads models.

use ovis_protocol::{
    AdapterList, AdapterUse, ClientMessage, DenoiseRequest, ErrorCode, JobOptions, Request,
    Residence, WorkerMessage,
};

use super::client::{encode_request, id, latent, positive, submit, Client, End};
use super::fake::{server, server_with, TestServer};
use super::tokens::{ask, status};
use crate::server::Options;

/// A `Submit` for a model.
fn for_model(job: u8, request: Request, model: &str) -> ClientMessage {
    ClientMessage::Submit {
        job: id(job),
        request,
        tensors: vec![],
        options: JobOptions {
            model: Some(model.into()),
            ..JobOptions::default()
        },
    }
}

async fn refusal(client: &mut Client, job: u8) -> ovis_protocol::WireError {
    match client.next_of(id(job)).await {
        WorkerMessage::Failed { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

/// Waits until a model is loaded, or not.
async fn until_loaded(server: &TestServer, name: &str, loaded: bool) {
    for _ in 0..1000 {
        if server.jobs.models().find(Some(name)).unwrap().is_loaded() == loaded {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("`{name}` is still loaded, or not");
}

#[tokio::test]
async fn a_job_runs_on_the_model_it_names() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    let states = |server: &TestServer| {
        let states = server.jobs.status().models;
        states.iter().map(|model| model.state).collect::<Vec<_>>()
    };
    assert_eq!(states(&server), [Residence::Resident, Residence::Unloaded]);
    for (job, model) in [(1, "other"), (2, "default")] {
        let request = encode_request("cat", 4);
        client.send(&for_model(job, request, model)).await;
        assert!(matches!(client.end(job).await.0, End::Done(..)));
    }
    assert_eq!(server.log(), ["load other", "encode cat", "encode cat"]);
    assert_eq!(states(&server), [Residence::Resident; 2]);
    let listed = ask(&server, "GET /health", "").await;
    let body: serde_json::Value =
        serde_json::from_str(listed.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["models"][1]["name"], "other");
    assert_eq!(body["models"][1]["state"], "resident");
}

#[tokio::test]
async fn a_model_that_is_not_there_is_named_with_those_that_are() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    client.send(&for_model(1, Request::Decode, "fast")).await;
    let error = refusal(&mut client, 1).await;
    assert_eq!(error.code, ErrorCode::MissingModel);
    assert_eq!(error.message, "This worker has no model `fast`.");
    assert_eq!(error.hint, "It has: default, other.");
    let long = "x".repeat(1 << 16);
    for (job, name) in [(2, ""), (3, "a/b"), (4, &long)] {
        client.send(&for_model(job, Request::Decode, name)).await;
        let error = refusal(&mut client, job).await;
        assert_eq!(error.code, ErrorCode::InvalidRequest, "{job}");
        assert!(error.message.len() < 200);
    }
}

/// The same request for another model is another job.
#[tokio::test]
async fn a_repeated_submit_names_the_same_model() {
    let server = server_with(Options::default(), 24, 100).await;
    let mut client = Client::lasting(&server, 7).await;
    let request = encode_request("cat", 4);
    client.send(&for_model(1, request.clone(), "other")).await;
    assert!(matches!(
        client.end_unacknowledged(1).await.0,
        End::Done(..)
    ));
    let mut again = Client::lasting(&server, 7).await;
    again.send(&for_model(1, request.clone(), "other")).await;
    assert!(matches!(again.end_unacknowledged(1).await.0, End::Done(..)));
    again.send(&submit(1, request, vec![])).await;
    assert_eq!(again.refusal().await.code, ErrorCode::Conflict);
}

#[tokio::test]
async fn without_a_library_no_adapters_are_listed_or_applied() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    client.send(&ClientMessage::ListAdapters).await;
    let list = client.next().await;
    assert_eq!(list, WorkerMessage::Adapters(AdapterList::default()));
    let request = Request::Denoise(Box::new(DenoiseRequest {
        adapters: vec![AdapterUse::new("neon.safetensors", 1.0)],
        ..DenoiseRequest::new(1, 2, 1.0)
    }));
    let headers = vec![positive().0, latent(2).0];
    client.send(&submit(1, request, headers)).await;
    let error = refusal(&mut client, 1).await;
    assert_eq!(error.code, ErrorCode::Unsupported);
    assert!(error.message.contains("`neon.safetensors`"), "{error}");
}

#[tokio::test]
async fn programs_on_this_machine_unload_idle_models() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    client
        .send(&for_model(1, encode_request("cat", 4), "other"))
        .await;
    assert!(matches!(client.end(1).await.0, End::Done(..)));
    let answer = ask(&server, "POST /models/other/unload", "").await;
    assert!(
        answer.ends_with("{\"model\":\"other\",\"state\":\"unloading\"}\n"),
        "{answer}"
    );
    until_loaded(&server, "other", false).await;
    until_loaded(&server, "default", true).await;
    let again = ask(&server, "POST /models/other/unload", "").await;
    assert!(again.ends_with("\"state\":\"unloaded\"}\n"), "{again}");
    // The next job loads it again.
    client
        .send(&for_model(2, encode_request("dog", 4), "other"))
        .await;
    assert!(matches!(client.end(2).await.0, End::Done(..)));
    let freed = ask(&server, "POST /free", "").await;
    assert!(
        freed.ends_with("{\"busy\":[],\"unloading\":[\"default\",\"other\"]}\n"),
        "{freed}"
    );
    until_loaded(&server, "default", false).await;
    until_loaded(&server, "other", false).await;
    for (request, headers, wanted) in [
        ("POST /models/none/unload", "", 404),
        ("POST /models/a%20b/unload", "", 404),
        ("POST /models/other", "", 404),
        ("GET /models/other/unload", "", 405),
        ("GET /free", "", 405),
        ("POST /free", "Origin: http://localhost\r\n", 403),
        ("POST /drain", "", 403),
    ] {
        let answer = ask(&server, request, headers).await;
        assert_eq!(status(&answer), wanted, "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_model_with_a_running_job_is_not_unloaded() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    client.denoise(1, 1000).await;
    server.until("step 1 1").await;
    let refused = ask(&server, "POST /models/default/unload", "").await;
    assert_eq!(status(&refused), 409, "{refused}");
    let freed = ask(&server, "POST /free", "").await;
    assert!(
        freed.ends_with("{\"busy\":[\"default\"],\"unloading\":[]}\n"),
        "{freed}"
    );
    server.until("step 1 5").await;
    until_loaded(&server, "default", true).await;
    client.cancel(1).await;
}
