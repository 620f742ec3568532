//! Tokens, roles and refusals over real sockets.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ovis_protocol::{encode, ClientHello, ClientMessage, ErrorCode, WorkerMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::client::*;
use super::fake::*;
use crate::server::context::Context;
use crate::server::serve::connection;
use crate::server::{Options, Token, Tokens};

const FILE: &str = "user submit user-token-1\n\
                    watcher observe watcher-token-1\n\
                    boss administer boss-token-1\n";

/// A server with a file of tokens.
struct Guarded {
    server: TestServer,
    folder: tempfile::TempDir,
}

impl Guarded {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, FILE);
        let options = Options {
            tokens: Tokens::from_file(&path(&folder)).unwrap(),
            ..options()
        };
        Self {
            server: server_with(options, 8, 30).await,
            folder,
        }
    }

    async fn connect(&self, token: &str) -> Client {
        let mut client = self.greeted(Some(token)).await;
        assert!(matches!(client.next().await, WorkerMessage::Hello(_)));
        client
    }

    /// A client that has said hello and has read no answer.
    async fn greeted(&self, token: Option<&str>) -> Client {
        let mut client = Client::raw(&self.server).await;
        let token = token.map(str::to_owned);
        client
            .send(&ClientMessage::Hello(ClientHello { token, ..hello() }))
            .await;
        client
    }

    async fn ask(&self, request: &str, token: Option<&str>) -> String {
        let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        ask(&self.server, request, &authorization.unwrap_or_default()).await
    }
}

fn path(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("tokens")
}

/// Replaces the file, as an editor does.
fn write(folder: &tempfile::TempDir, text: &str) {
    let new = folder.path().join("new");
    std::fs::write(&new, text).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o600)).unwrap();
    }
    std::fs::rename(new, path(folder)).unwrap();
}

pub async fn ask(server: &TestServer, request: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn every_route_needs_its_role() {
    let guarded = Guarded::start().await;
    let job = "DELETE /jobs/123e4567-e89b-42d3-a456-426614174000";
    // Without a token, with `submit`, with `observe`, with `administer`.
    let cases = [
        ("GET /healthz", [200, 200, 200, 200]),
        ("GET /readyz", [200, 200, 200, 200]),
        ("GET /health", [401, 403, 200, 200]),
        ("HEAD /metrics", [401, 403, 200, 200]),
        ("GET /jobs", [401, 403, 200, 200]),
        (job, [401, 403, 403, 404]),
        ("POST /free", [401, 403, 403, 200]),
        ("POST /models/other/unload", [401, 403, 403, 200]),
        ("POST /models/none/unload", [401, 403, 403, 404]),
        ("POST /drain", [401, 403, 403, 200]),
        ("GET /nowhere", [404, 404, 404, 404]),
        ("GET /drain", [405, 405, 405, 405]),
    ];
    for (request, wanted) in cases {
        let tokens = [None, Some("user"), Some("watcher"), Some("boss")];
        for (token, wanted) in tokens.into_iter().zip(wanted) {
            let token = token.map(|name| format!("{name}-token-1"));
            let answer = guarded.ask(request, token.as_deref()).await;
            assert_eq!(status(&answer), wanted, "{request} {token:?}: {answer}");
            let has_challenge = answer.contains("www-authenticate: Bearer realm=");
            assert_eq!(has_challenge, [401, 403].contains(&wanted), "{answer}");
            if wanted == 403 {
                assert!(answer.contains("insufficient_scope"), "{answer}");
            }
            assert!(!answer.contains("-token-1"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_wrong_authorization_is_refused() {
    let guarded = Guarded::start().await;
    for (header, is_token) in [
        ("Bearer wrong", true),
        ("Bearer boss-token-1 boss-token-1", true),
        ("Bearer \u{e9}", true),
        ("Bearer", false),
        ("boss-token-1", false),
        ("Basic boss-token-1", false),
        ("", false),
    ] {
        let header = format!("Authorization: {header}\r\n");
        let answer = ask(&guarded.server, "GET /health", &header).await;
        assert_eq!(status(&answer), 401, "{header}: {answer}");
        let is_wrong = answer.contains("error=\"invalid_token\"");
        assert_eq!(is_wrong, is_token, "{header}: {answer}");
    }
    write(&guarded.folder, "boss administer пароль 密码\n");
    let spoken = "Authorization: Bearer пароль 密码\r\n";
    assert_eq!(
        status(&ask(&guarded.server, "GET /health", spoken).await),
        200
    );
    write(&guarded.folder, FILE);
    let lower = "authorization: bearer boss-token-1\r\n";
    assert_eq!(
        status(&ask(&guarded.server, "GET /health", lower).await),
        200
    );
}

#[tokio::test]
async fn without_tokens_nobody_administers() {
    let server = server().await;
    assert_eq!(status(&ask(&server, "GET /jobs", "").await), 200);
    for headers in ["", "Authorization: Bearer anything\r\n"] {
        let answer = ask(&server, "POST /drain", headers).await;
        assert_eq!(status(&answer), 403, "{answer}");
        assert!(answer.contains("start it with --token"), "{answer}");
    }
    assert!(!server.jobs.is_draining());
}

#[tokio::test]
async fn a_web_page_cannot_administer() {
    let guarded = Guarded::start().await;
    let headers = "Authorization: Bearer boss-token-1\r\nOrigin: http://localhost\r\n";
    let answer = ask(&guarded.server, "POST /drain", headers).await;
    assert_eq!(status(&answer), 403, "{answer}");
    assert!(!guarded.server.jobs.is_draining());
}

#[tokio::test]
async fn roles_hold_on_a_websocket() {
    let guarded = Guarded::start().await;
    let mut watcher = guarded.connect("watcher-token-1").await;
    watcher.denoise(1, 2).await;
    watcher.cancel(2).await;
    watcher
        .send(&ClientMessage::Claim {
            job: id(3),
            received: 0,
        })
        .await;
    watcher
        .send(&ClientMessage::Acknowledge { job: id(4) })
        .await;
    for job in 1..=4 {
        let WorkerMessage::Failed { job: failed, error } = watcher.next().await else {
            panic!("not refused");
        };
        assert_eq!((failed, error.code), (id(job), ErrorCode::Forbidden));
        assert!(error.message.contains("`observe`"), "{error}");
    }
    watcher.send(&ClientMessage::Status).await;
    let WorkerMessage::Status(status) = watcher.next().await else {
        panic!("no status");
    };
    assert_eq!(status.finished, 0);
    for token in ["user-token-1", "boss-token-1"] {
        let mut client = guarded.connect(token).await;
        client.denoise(1, 1).await;
        assert!(matches!(client.end(1).await.0, End::Done(..)));
    }
}

#[tokio::test]
async fn a_changed_file_ends_the_connections_of_removed_tokens() {
    let guarded = Guarded::start().await;
    let mut user = guarded.connect("user-token-1").await;
    let mut boss = guarded.connect("boss-token-1").await;
    // A broken edit changes nothing.
    write(&guarded.folder, "user submit\n");
    let mut watcher = guarded.connect("watcher-token-1").await;
    write(
        &guarded.folder,
        &FILE.replace("user-token-1", "user-token-2"),
    );
    // Found out without anyone connecting.
    let error = tokio::time::timeout(Duration::from_secs(10), user.refusal())
        .await
        .expect("the connection goes on");
    assert_eq!(error.code, ErrorCode::Unauthorized);
    assert!(error.message.contains("removed or changed"), "{error}");
    for other in [&mut watcher, &mut boss] {
        other.send(&ClientMessage::Status).await;
        assert!(matches!(other.next().await, WorkerMessage::Status(_)));
    }
    let mut old = guarded.greeted(Some("user-token-1")).await;
    assert_eq!(old.refusal().await.code, ErrorCode::Unauthorized);
    guarded.connect("user-token-2").await;
    assert_eq!(
        status(&guarded.ask("GET /jobs", Some("user-token-1")).await),
        401
    );
    assert_eq!(
        status(&guarded.ask("GET /jobs", Some("watcher-token-1")).await),
        200
    );
}

#[tokio::test]
async fn an_operator_lists_and_cancels_anybodys_jobs() {
    let guarded = Guarded::start().await;
    let mut user = guarded.connect("user-token-1").await;
    user.denoise(1, 1000).await;
    user.denoise(2, 1000).await;
    user.denoise(3, 1000).await;
    guarded.server.until("step 1 2").await;
    // The last: an upload that stands still is given up after a while.
    let (header, _) = positive();
    user.send(&submit(4, denoise_request(4, 1), vec![header, latent(2).0]))
        .await;
    for _ in 0..1000 {
        if guarded.server.jobs.list().len() == 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let list = guarded.ask("GET /jobs", Some("watcher-token-1")).await;
    let body = list.split_once("\r\n\r\n").unwrap().1;
    let list: serde_json::Value = serde_json::from_str(body).unwrap();
    let uuid = |job: u8| uuid::Uuid::from_bytes(id(job)).to_string();
    let found: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|job| {
            let is_known = job["state"] != "uploading";
            assert_eq!(job["operation"].as_str(), is_known.then_some("denoise"));
            let text = |field: &str| job[field].as_str().unwrap_or_default().to_owned();
            assert_eq!(text("owner").len(), 8, "{job}");
            let is_running = text("state") == "running";
            assert_eq!(job["steps"].as_u64(), is_running.then_some(1000), "{job}");
            (text("job"), text("state"), job["position"].as_u64())
        })
        .collect();
    assert_eq!(
        found,
        [
            (uuid(1), "running".into(), None),
            (uuid(2), "queued".into(), Some(0)),
            (uuid(3), "queued".into(), Some(1)),
            (uuid(4), "uploading".into(), None),
        ]
    );
    for job in [2, 1] {
        let request = format!("DELETE /jobs/{}", uuid(job));
        let answer = guarded.ask(&request, Some("boss-token-1")).await;
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.ends_with("{\"cancelled\":1}\n"), "{answer}");
        assert!(matches!(user.end(job).await.0, End::Cancelled));
        let again = guarded.ask(&request, Some("boss-token-1")).await;
        assert_eq!(status(&again), 404, "{again}");
    }
    for wrong in ["DELETE /jobs/", "DELETE /jobs/1", "DELETE /jobs/../drain"] {
        assert_eq!(status(&guarded.ask(wrong, Some("boss-token-1")).await), 404);
    }
    // The third goes on.
    guarded.server.until("step 3 2").await;
}

#[tokio::test]
async fn a_drained_worker_finishes_what_it_has_and_takes_nothing_new() {
    let guarded = Guarded::start().await;
    let mut user = guarded.connect("user-token-1").await;
    user.denoise(1, 20).await;
    user.denoise(2, 2).await;
    guarded.server.until("step 1 1").await;
    let answer = guarded.ask("POST /drain", Some("boss-token-1")).await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(answer.contains("\"status\":\"draining\""), "{answer}");
    user.denoise(3, 1).await;
    let (End::Failed(error), _) = user.end(3).await else {
        panic!("a new job is accepted");
    };
    assert_eq!(error.code, ErrorCode::ShuttingDown);
    assert!(error.message.contains("drained"), "{error}");
    assert_eq!(status(&guarded.ask("GET /readyz", None).await), 503);
    assert_eq!(status(&guarded.ask("GET /healthz", None).await), 200);
    let health = guarded.ask("GET /health", Some("watcher-token-1")).await;
    assert_eq!(status(&health), 503);
    assert!(health.contains("\"status\":\"draining\""), "{health}");
    for job in [1, 2] {
        assert!(matches!(user.end(job).await.0, End::Done(..)));
    }
    // Clients still connect, to learn what became of their jobs.
    guarded.connect("user-token-1").await;
}

/// A server's side of connections that seem to come from any address.
struct From {
    listener: TcpListener,
    context: Arc<Context>,
    _server: TestServer,
    leaving: watch::Sender<Option<&'static str>>,
}

impl From {
    async fn start() -> Self {
        let server = server().await;
        let options = Options {
            tokens: Tokens::one(Token::given("right")),
            ..options()
        };
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            context: Arc::new(Context::new(server.jobs.clone(), options)),
            _server: server,
            leaving: watch::Sender::new(None),
        }
    }

    async fn connect(&self, address: &str) -> TcpStream {
        let local = self.listener.local_addr().unwrap();
        let client = TcpStream::connect(local).await.unwrap();
        let (stream, _) = self.listener.accept().await.unwrap();
        let address: IpAddr = address.parse().unwrap();
        let leaving = self.leaving.subscribe();
        tokio::spawn(connection(stream, address, self.context.clone(), leaving));
        client
    }

    async fn ask(&self, address: &str, headers: &str) -> String {
        let mut stream = self.connect(address).await;
        let head = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// The status of a hello with this token: 101, or what the upgrade was answered.
    async fn hello(&self, address: &str, token: &str) -> u16 {
        let stream = self.connect(address).await;
        match tokio_tungstenite::client_async("ws://localhost/", stream).await {
            Ok((socket, _)) => {
                let mut client = Client::over(socket);
                let token = Some(token.to_owned());
                let hello = ClientMessage::Hello(ClientHello { token, ..hello() });
                client.send_bytes(encode(&hello).unwrap()).await;
                while client.try_next().await.is_some() {
                    if token_is_right(&hello) {
                        break;
                    }
                }
                101
            }
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => {
                let retry = answer.headers().get("retry-after").unwrap();
                let seconds: u64 = retry.to_str().unwrap().parse().unwrap();
                assert!((1..=60).contains(&seconds), "{seconds}");
                answer.status().as_u16()
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn token_is_right(hello: &ClientMessage) -> bool {
    matches!(hello, ClientMessage::Hello(hello) if hello.token.as_deref() == Some("right"))
}

#[tokio::test]
async fn an_address_with_ten_failures_is_kept_out() {
    let from = From::start().await;
    let right = "Authorization: Bearer right\r\n";
    let wrong = "Authorization: Bearer wrong\r\n";
    for _ in 0..5 {
        // A request without a token is no attempt, and neither is one with the right token.
        assert_eq!(status(&from.ask("192.0.2.1", "").await), 401);
        assert_eq!(status(&from.ask("192.0.2.1", right).await), 200);
        assert_eq!(status(&from.ask("192.0.2.1", wrong).await), 401);
        assert_eq!(from.hello("192.0.2.1", "wrong").await, 101);
    }
    let refused = from.ask("192.0.2.1", right).await;
    assert_eq!(status(&refused), 429, "{refused}");
    assert!(refused.contains("retry-after: "), "{refused}");
    assert_eq!(from.hello("192.0.2.1", "right").await, 429);
    let metrics = from.context.jobs.metrics().render();
    for line in ["reason=\"failures\"} 2", "reason=\"token\"} 5"] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    // Other addresses are not concerned, and loopback never is.
    assert_eq!(status(&from.ask("192.0.2.2", right).await), 200);
    assert_eq!(from.hello("192.0.2.2", "right").await, 101);
    for _ in 0..12 {
        assert_eq!(status(&from.ask("127.0.0.1", wrong).await), 401);
    }
    assert_eq!(status(&from.ask("127.0.0.1", right).await), 200);
}
