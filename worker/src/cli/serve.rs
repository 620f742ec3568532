//! `serve`: a model kept on the device, for clients on a websocket.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::Args;
use tokio::net::{lookup_host, TcpListener, TcpSocket};
use tokio::runtime::Runtime;

use super::model_args::{DeviceArgs, ModelArgs};
use super::values::{text, whole_within};
use super::{loading, signals, CliError};
use crate::engine::{self, EngineHandle};
use crate::logging::{self, LogFormat};
use crate::server::{self, Options, Token};
use crate::weights::Checkpoint;

/// Connections the system holds while they wait to be accepted.
const BACKLOG: u32 = 1024;

/// Most jobs that `--queue` lets wait.
const MAX_QUEUE: usize = 1 << 16;

/// How to make a token.
const MAKE_A_TOKEN: &str = "export OVIS_WORKER_TOKEN=\"$(head -c 24 /dev/urandom | base64)\"";

/// What to serve, and where.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Address and port to listen on. Only this machine can reach the default; others take
    /// a token.
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:7867",
        value_parser = text(),
        allow_hyphen_values = true
    )]
    listen: String,
    /// Most jobs that may wait.
    #[arg(
        long,
        value_name = "N",
        default_value_t = engine::DEFAULT_QUEUE,
        value_parser = whole_within(1, MAX_QUEUE),
        allow_hyphen_values = true
    )]
    queue: usize,
    /// Secret that clients must send; a blank one is none. Better set in the environment:
    /// a command line can be read by every user of the machine.
    #[arg(
        long,
        value_name = "TEXT",
        env = "OVIS_WORKER_TOKEN",
        hide_env_values = true,
        value_parser = OsStringValueParser::new().map(GivenToken),
        allow_hyphen_values = true
    )]
    token: Option<GivenToken>,
    /// Serve other machines although there is no token: whoever reaches the address can use
    /// the worker.
    #[arg(long)]
    insecure: bool,
    /// How the log is written. `OVIS_WORKER_LOG` says how much of it: `debug`, `info` (the
    /// default), `warn`, `error`, `off`, or such a level for a part, as in
    /// `warn,ovis_worker::server=debug`. It has no colours where `NO_COLOR` is set. Lines
    /// that nothing takes are dropped and counted.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// The token as it was given, not yet looked at, so that no error of the command line
/// shows it.
#[derive(Clone)]
struct GivenToken(OsString);

impl fmt::Debug for GivenToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GivenToken")
    }
}

impl ServeArgs {
    /// The token to ask clients for, if any.
    ///
    /// # Errors
    /// It cannot be one.
    fn token(&self) -> Result<Option<Token>, CliError> {
        let Some(GivenToken(given)) = &self.token else {
            return Ok(None);
        };
        let token = match given.to_str() {
            Some(text) => Token::new(text),
            None => Err("the token is not UTF-8 text".into()),
        };
        let token =
            token.map_err(|why| CliError::new(why, format!("Make another: {MAKE_A_TOKEN}")))?;
        if token.is_none() {
            tracing::warn!("the token of --token or OVIS_WORKER_TOKEN is blank, which is no token");
        }
        Ok(token)
    }
}

/// Serves until SIGTERM, Ctrl-C or SIGHUP, which finish the running step first.
///
/// # Errors
/// An argument, the address, a file or the device is at fault.
pub fn run(args: &ServeArgs) -> Result<(), CliError> {
    logging::start(args.log_format);
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

async fn serve(args: &ServeArgs) -> Result<(), CliError> {
    let stop = signals::when_asked_to_stop()?;
    let shutdown = async move {
        let (signal, _) = stop.await;
        tracing::info!(signal, "asked to stop");
    };
    let token = args.token()?;
    tokio::pin!(shutdown);
    // Bound before the model is loaded, so that a taken port is told at once;
    // listening only afterwards, so that clients see no worker until it can
    // answer.
    let (socket, address) = bind(&args.listen).await?;
    if token.is_none() && !is_this_machine(address.ip()) {
        if !args.insecure {
            return Err(CliError::new(
                format!("other machines can reach {address}, and there is no token to keep them out"),
                format!(
                    "Set one, for the clients too: {MAKE_A_TOKEN}; or give --insecure if everyone there may use this worker."
                ),
            ));
        }
        tracing::warn!(%address, "other machines can use this worker: there is no token, and --insecure is given");
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
    let options = Options {
        token,
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

/// Whether only programs of this machine can reach an address.
fn is_this_machine(address: IpAddr) -> bool {
    // An IPv4 address may be written as an IPv6 one.
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_known() {
        for address in ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"] {
            assert!(is_this_machine(address.parse().unwrap()), "{address}");
        }
        for address in ["0.0.0.0", "::", "::ffff:10.0.0.1", "192.168.0.1"] {
            assert!(!is_this_machine(address.parse().unwrap()), "{address}");
        }
    }
}
