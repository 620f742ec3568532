//! `serve`: a model kept on the device, for clients on a websocket.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::Args;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::listening::Bound;
use super::model_args::{DeviceArgs, ModelArgs};
use super::values::{parsed, text, whole_within};
use super::{loading, signals, CliError};
use crate::checkpoint::Checkpoint;
use crate::device::{self, StartError, DEFAULT_MODEL};
use crate::jobs::{Jobs, Limits, DEFAULT_QUEUE};
use crate::logging::{self, LogFormat};
use crate::server::{self, Hosts, Options, Token};

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
    /// Places for jobs that wait. A client that is alone may take a third of them.
    #[arg(
        long,
        value_name = "N",
        default_value_t = DEFAULT_QUEUE,
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
    /// A host name that clients reach this worker by, besides that of --listen. Loopback names
    /// and IP addresses need none. May be repeated.
    #[arg(
        long,
        value_name = "NAME",
        env = "OVIS_WORKER_ALLOWED_HOSTS",
        value_delimiter = ',',
        value_parser = text(),
        allow_hyphen_values = true
    )]
    allowed_host: Vec<String>,
    /// Seconds that the running step may still take when the worker is told to stop.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 30.0,
        value_parser = parsed(seconds),
        allow_hyphen_values = true
    )]
    grace: f64,
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
        let hint = || format!("Make another: {MAKE_A_TOKEN}");
        let text = given
            .to_str()
            .ok_or_else(|| CliError::new("the token is not UTF-8 text", hint()))?;
        let token = Token::new(text).map_err(|why| CliError::new(why.to_string(), hint()))?;
        if token.is_none() {
            tracing::warn!("the token of --token or OVIS_WORKER_TOKEN is blank, which is no token");
        }
        Ok(token)
    }
}

/// Serves until SIGTERM, Ctrl-C or SIGHUP, which finish the running step first; a second one
/// ends the process at once.
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
        signals::end_when_asked_again();
    };
    let token = args.token()?;
    tokio::pin!(shutdown);
    // Bound before the model is loaded, so that a taken port is told at once;
    // listening only afterwards, so that clients see no worker until it can
    // answer.
    let bound = Bound::take(&args.listen).await?;
    let address = bound.address;
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
    let jobs = tokio::select! {
        () = &mut shutdown => {
            tracing::info!("stopped while loading");
            return Ok(());
        }
        jobs = load(args) => jobs?,
    };
    let listener = bound.listen()?;
    announce(&listener, &jobs);
    let listened = args.listen.rsplit_once(':').map(|(name, _)| name);
    let names = args.allowed_host.iter().map(String::as_str);
    let options = Options {
        token,
        hosts: Hosts::new(names.chain(listened)),
        grace: Duration::from_secs_f64(args.grace),
        ..Options::default()
    };
    server::serve(listener, jobs, options, shutdown)
        .await
        .map_err(|e| CliError::new(e.to_string(), "The log above says why."))
}

impl From<StartError<CliError>> for CliError {
    fn from(error: StartError<CliError>) -> Self {
        match error {
            StartError::Load(error) => error,
            StartError::Thread(error) => Self::new(error.to_string(), ""),
        }
    }
}

async fn load(args: &ServeArgs) -> Result<Jobs, CliError> {
    let (model, device) = (args.model.clone(), args.device.clone());
    let limits = Limits {
        queue: args.queue,
        ..Limits::default()
    };
    tokio::task::spawn_blocking(move || {
        let jobs = device::start(limits, DEFAULT_MODEL, move || {
            let checkpoint = Checkpoint::open(&model.checkpoint_or_demo())?;
            let say = |line: &str| tracing::info!("{line}");
            let pipeline = loading::load(&checkpoint, &device.placement()?, say)?;
            loading::warm_up(&pipeline, say)?;
            say(&loading::paths(&pipeline)?);
            Ok::<_, CliError>(pipeline.with_host_memory(device.host_memory()))
        })?;
        Ok(jobs)
    })
    .await
    .unwrap_or_else(|e| Err(CliError::new(format!("loading the model failed: {e}"), "")))
}

fn announce(listener: &TcpListener, jobs: &Jobs) {
    let can = jobs.capabilities();
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
