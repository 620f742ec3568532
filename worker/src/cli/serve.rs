//! `serve`: a model kept on the device, for clients on a websocket.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::net::{lookup_host, TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

use super::loading;
use super::model_args::{DeviceArgs, ModelArgs};
use super::CliError;
use crate::engine::{self, EngineHandle};
use crate::server::{self, Hosts, Options};
use crate::weights::Checkpoint;

/// Connections the system holds while they wait to be accepted.
const BACKLOG: u32 = 1024;

/// What to serve, and where.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Address and port to listen on. Only this machine can reach the default.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7867")]
    listen: String,
    /// Places for jobs that wait. A client that is alone may take a third of them.
    #[arg(long, value_name = "N", default_value_t = engine::DEFAULT_QUEUE)]
    queue: usize,
    /// Secret that clients must send.
    #[arg(
        long,
        value_name = "TEXT",
        env = "OVIS_WORKER_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// A host name that clients reach this worker by, besides that of --listen. Loopback names
    /// and IP addresses need none. May be repeated.
    #[arg(
        long,
        value_name = "NAME",
        env = "OVIS_WORKER_ALLOWED_HOSTS",
        value_delimiter = ','
    )]
    allowed_host: Vec<String>,
    /// Seconds that the running step may still take when the worker is told to stop.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds)]
    grace: f64,
    /// How the log is written. `OVIS_WORKER_LOG` says how much of it: `debug`,
    /// `info` (the default), `warn`, or a filter of the tracing library.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// Forms of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// A line for reading.
    Text,
    /// A JSON object a line.
    Json,
}

/// Serves until SIGTERM or Ctrl-C, which finish the running step first; a second one ends the
/// process at once.
///
/// # Errors
/// An argument, the address, a file or the device is at fault.
pub fn run(args: &ServeArgs) -> Result<(), CliError> {
    start_log(args.log_format)?;
    let runtime = runtime()?;
    let result = runtime.block_on(serve(args));
    // A model that is still loading when the worker is told to stop is not
    // waited for.
    runtime.shutdown_background();
    result
}

/// The server's threads.
///
/// # Errors
/// The system has none to give.
pub(super) fn runtime() -> Result<Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| CliError::new(format!("the server's threads cannot start: {e}"), ""))
}

fn start_log(format: LogFormat) -> Result<(), CliError> {
    let filter = EnvFilter::builder()
        .with_env_var("OVIS_WORKER_LOG")
        .with_default_directive(tracing::Level::INFO.into())
        .from_env()
        .map_err(|e| {
            CliError::new(
                format!("OVIS_WORKER_LOG is not a log filter: {e}"),
                "Use debug, info or warn.",
            )
        })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

async fn serve(args: &ServeArgs) -> Result<(), CliError> {
    let shutdown = stop_signal()?;
    tokio::pin!(shutdown);
    // Bound before the model is loaded, so that a taken port is told at once;
    // listening only afterwards, so that clients see no worker until it can
    // answer.
    let (socket, address) = bind(&args.listen).await?;
    if !address.ip().is_loopback() && args.token.is_none() {
        tracing::warn!(
            %address,
            "other machines can reach this worker and no --token is set: anyone there can use it"
        );
    }
    let engine = tokio::select! {
        () = &mut shutdown => {
            tracing::info!("stopped while loading");
            return Ok(());
        }
        engine = load(args) => engine?,
    };
    let listener = socket
        .listen(BACKLOG)
        .map_err(|e| cannot_listen(address, &e))?;
    announce(&listener, &engine);
    let listened = args.listen.rsplit_once(':').map(|(name, _)| name);
    let names = args.allowed_host.iter().map(String::as_str);
    let options = Options {
        token: args.token.clone(),
        hosts: Hosts::new(names.chain(listened)),
        grace: Duration::from_secs_f64(args.grace),
        ..Options::default()
    };
    server::serve(listener, engine, options, shutdown)
        .await
        .map_err(|e| CliError::new(e, "The log above says why."))
}

async fn load(args: &ServeArgs) -> Result<EngineHandle, CliError> {
    let (model, device, queue) = (args.model.clone(), args.device.clone(), args.queue);
    tokio::task::spawn_blocking(move || {
        engine::start(queue, move || {
            let checkpoint = Checkpoint::open(&model.checkpoint_or_demo())?;
            let say = |line: &str| tracing::info!("{line}");
            let pipeline = loading::load(&checkpoint, &device.placement()?, say)?;
            loading::warm_up(&pipeline, say)?;
            say(&loading::paths(&pipeline)?);
            Ok::<_, CliError>(pipeline)
        })
    })
    .await
    .unwrap_or_else(|e| Err(CliError::new(format!("loading the model failed: {e}"), "")))
}

async fn bind(listen: &str) -> Result<(TcpSocket, SocketAddr), CliError> {
    let address = lookup_host(listen)
        .await
        .ok()
        .and_then(|mut all| all.next());
    let address = address.ok_or_else(|| {
        CliError::new(
            format!("`{listen}` is not an address to listen on"),
            "Use HOST:PORT, such as 127.0.0.1:7867, or 0.0.0.0:7867 for every network.",
        )
    })?;
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let bound = socket.and_then(|socket| {
        // A worker started again must not wait for its old connections' ends.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(socket)
    });
    bound
        .map(|socket| (socket, address))
        .map_err(|e| cannot_listen(address, &e))
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> CliError {
    CliError::new(
        format!("the worker cannot listen on {address}: {error}"),
        "Is another worker running there? Choose another port with --listen.",
    )
}

fn announce(listener: &TcpListener, engine: &EngineHandle) {
    let can = engine.capabilities();
    match listener.local_addr() {
        Ok(address) => tracing::info!(
            %address,
            model = can.model,
            device = can.device,
            precision = can.precision,
            operations = can.operations.join(" "),
            "ready"
        ),
        Err(error) => tracing::warn!(%error, "ready, at an address the system does not tell"),
    }
}

/// A number of seconds, from none to a day.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("it is a number of seconds from 0 to 86400".into()),
    }
}

/// Status of a process that a signal has ended: 128 and the signal's number.
const ENDED_BY_SIGNAL: i32 = 128;

/// Ready when the process is asked to end. From then on, being asked once more ends it at once.
#[cfg(unix)]
fn stop_signal() -> Result<impl Future<Output = ()>, CliError> {
    use tokio::signal::unix::{signal, SignalKind};
    let cannot = |e| CliError::new(format!("signals cannot be watched: {e}"), "");
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = interrupt.recv() => SignalKind::interrupt(),
        }
    };
    Ok(async move {
        next().await;
        tokio::spawn(async move {
            let kind = next().await;
            tracing::warn!("told to stop a second time: ending at once");
            std::process::exit(ENDED_BY_SIGNAL + kind.as_raw_value());
        });
    })
}

/// Ready when the process is asked to end. From then on, being asked once more ends it at once.
#[cfg(not(unix))]
fn stop_signal() -> Result<impl Future<Output = ()>, CliError> {
    /// The number of Ctrl-C's signal where there are signals.
    const INTERRUPT: i32 = 2;
    async fn next() {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!(%error, "Ctrl-C cannot be watched");
            std::future::pending::<()>().await;
        }
    }
    Ok(async {
        next().await;
        tokio::spawn(async {
            next().await;
            tracing::warn!("told to stop a second time: ending at once");
            std::process::exit(ENDED_BY_SIGNAL + INTERRUPT);
        });
    })
}
