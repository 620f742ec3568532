//! `serve`: loads a model once and serves clients over a websocket until it is told to stop.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Args;
use opentelemetry_sdk::trace::SdkTracer;
use ovis_protocol::limits::MAX_JOBS_PER_OWNER;
use tokio::net::TcpListener;

use super::error::{CliError, DEVICE_FAILED};
use super::keeping_args::KeepingArgs;
use super::listening::{Bound, ListenArgs};
use super::lora_dir_args::{read_ahead, LoraDirArgs};
use super::model_args::{DeviceArgs, ModelArgs};
use super::otlp::OtlpArgs;
use super::served_models::ServedModels;
use super::service_manager::ServiceManager;
use super::tls_args::{Reach, TlsArgs};
use super::token_args::{TokenArgs, MAKE_A_TOKEN};
use super::values::{parsed, seconds, text, whole_within};
use super::vram_args::VramArgs;
use super::watchdog::Watchdog;
use super::{runtime, signals};
use crate::device::{self, StartError};
use crate::jobs::{Jobs, DEFAULT_QUEUE};
use crate::logging::{self, LogFormat};
use crate::pipeline::AdapterLibrary;
use crate::server::{self, ConnectionLimits, Hosts, Options, ServeError, Tls};

/// Largest queue.
const MAX_QUEUE: usize = 1 << 16;

/// Most connections.
const MAX_CONNECTIONS: usize = 1 << 16;

/// What to serve, where, and to whom.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Serve the demo model if --model has no transformer of Ovis-Image yet.
    #[arg(long)]
    or_demo: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    vram: VramArgs,
    #[command(flatten)]
    models: ServedModels,
    #[command(flatten)]
    listen: ListenArgs,
    /// Most jobs that may wait in the queue. One client can take at most a third of them.
    #[arg(
        long,
        value_name = "N",
        default_value_t = DEFAULT_QUEUE,
        value_parser = whole_within(1, MAX_QUEUE),
        allow_hyphen_values = true
    )]
    queue: usize,
    /// Most jobs of one client that may wait in the queue.
    #[arg(
        long,
        value_name = "N",
        default_value_t = MAX_JOBS_PER_OWNER,
        value_parser = whole_within(1, MAX_QUEUE),
        allow_hyphen_values = true
    )]
    queue_per_owner: usize,
    /// Most clients that may be connected. One address can hold no more of these places than
    /// are free.
    #[arg(
        long,
        value_name = "N",
        default_value_t = ConnectionLimits::default().clients,
        value_parser = whole_within(1, MAX_CONNECTIONS),
        allow_hyphen_values = true
    )]
    connections: usize,
    #[command(flatten)]
    lora: LoraDirArgs,
    #[command(flatten)]
    keeping: KeepingArgs,
    #[command(flatten)]
    token: TokenArgs,
    #[command(flatten)]
    tls: TlsArgs,
    /// Allow other machines to connect without a token and without encryption: everyone who can
    /// reach the address can use the worker, and the network can read everything.
    #[arg(long)]
    insecure: bool,
    /// A host name that clients may use for this worker, besides the one in --listen; requests
    /// for other names are refused. Loopback names and IP addresses are always allowed. May be
    /// repeated.
    #[arg(
        long,
        value_name = "NAME",
        env = "OVIS_WORKER_ALLOWED_HOSTS",
        value_delimiter = ',',
        value_parser = text(),
        allow_hyphen_values = true
    )]
    allowed_host: Vec<String>,
    /// Seconds to wait for the running step to finish when the worker is told to stop.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 30.0,
        value_parser = parsed(seconds),
        allow_hyphen_values = true
    )]
    grace: f64,
    /// Seconds that an operation of the device may take. After a longer one, the device counts as
    /// hanging, and the worker ends with exit status 75 so that a supervisor starts it again.
    /// `auto` is 300 on a GPU and off on a CPU.
    #[arg(
        long,
        value_name = "auto|off|SECONDS",
        default_value = "auto",
        value_parser = parsed(Watchdog::parse),
        allow_hyphen_values = true
    )]
    watchdog: Watchdog,
    /// Format of the log on standard error. `OVIS_WORKER_LOG` sets its level: `debug`, `info`
    /// (the default), `warn`, `error`, `off`, or a level for one module, as in
    /// `warn,ovis_worker::server=debug`. `NO_COLOR` turns colours off. While nothing reads
    /// standard error, lines are dropped and counted.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    #[command(flatten)]
    otlp: OtlpArgs,
}

/// Serves until SIGTERM, Ctrl-C or SIGHUP. The first such signal lets the running step finish;
/// a second one ends the process at once.
///
/// # Errors
/// An argument is out of range, the address is taken, the model cannot be loaded, or the device
/// fails while serving.
pub fn run(args: &ServeArgs) -> Result<(), CliError> {
    logging::start(args.log_format);
    let runtime = runtime::start()?;
    let traces = args.otlp.start(runtime.handle())?;
    let result = runtime.block_on(serve(args, traces.tracer()));
    traces.end();
    // Do not wait for a model that is still loading when the worker is told to stop.
    runtime.shutdown_background();
    result
}

async fn serve(args: &ServeArgs, tracer: Option<SdkTracer>) -> Result<(), CliError> {
    let stop = signals::stop_signal()?;
    let shutdown = async move {
        let (signal, _) = stop.await;
        tracing::info!(signal, "asked to stop");
        signals::exit_on_second_signal();
    };
    let tokens = args.token.tokens()?;
    args.lora.check()?;
    tokio::pin!(shutdown);
    // The address is bound before the model is loaded, so that a conflict is reported at once.
    // It is listened on only afterwards, so that clients cannot connect before the worker can
    // answer them.
    let bound = Bound::bind(&args.listen.address).await?;
    let address = bound.address;
    let reach = Reach {
        address,
        is_local: is_this_machine(address.ip()),
        is_insecure: args.insecure,
    };
    if !args.insecure {
        check_guarded(address, tokens.is_none())?;
    } else if tokens.is_none() && !reach.is_local {
        tracing::warn!(%address, "other machines can use this worker: there is no token, and --insecure is given");
    }
    let listened = args.listen.address.rsplit_once(':').map(|(name, _)| name);
    let names = args.allowed_host.iter().map(String::as_str);
    let names: Vec<_> = names.chain(listened).collect();
    let tls = args
        .tls
        .tls(reach, &names, args.keeping.state_dir.as_deref())?;
    let (jobs, adapters) = tokio::select! {
        () = &mut shutdown => {
            tracing::info!("stopped while loading");
            return Ok(());
        }
        loaded = load(args, tracer) => loaded?,
    };
    let listener = bound.listen()?;
    announce(&listener, &jobs, tls.as_ref());
    let options = Options {
        tokens,
        tls,
        adapters: Some(adapters),
        hosts: Hosts::new(names),
        connections: ConnectionLimits {
            clients: args.connections,
            ..ConnectionLimits::default()
        },
        grace: Duration::from_secs_f64(args.grace),
        ..Options::default()
    };
    let manager = ServiceManager::of_this_process().ready();
    let shutdown = async {
        shutdown.await;
        manager.say_stopping();
    };
    let served = server::serve(listener, jobs, options, shutdown).await;
    served.map_err(|why| {
        let hint = "The log above says why. Start the worker again.";
        let error = CliError::new(why.to_string(), hint).with_status(DEVICE_FAILED);
        if matches!(why, ServeError::DeviceHangs) {
            // A library's exit handler could wait for the operation that does not come back.
            error.say();
            logging::flush();
            signals::exit_now(DEVICE_FAILED.into());
        }
        error
    })
}

/// Checks that a token is asked for where other machines can reach the worker.
///
/// # Errors
/// They can, and `is_open` says that there is no token.
pub fn check_guarded(address: SocketAddr, is_open: bool) -> Result<(), CliError> {
    match is_open && !is_this_machine(address.ip()) {
        false => Ok(()),
        true => Err(CliError::new(
            format!("other machines can reach {address}, and there is no token to keep them out"),
            format!(
                "Set one, for the clients too: {MAKE_A_TOKEN}; or give --insecure if everyone there may use this worker."
            ),
        )),
    }
}

impl From<StartError<CliError>> for CliError {
    fn from(error: StartError<CliError>) -> Self {
        match error {
            StartError::Load(error) => error,
            StartError::Thread(error) => Self::new(error.to_string(), ""),
        }
    }
}

async fn load(
    args: &ServeArgs,
    tracer: Option<SdkTracer>,
) -> Result<(Jobs, Arc<AdapterLibrary>), CliError> {
    let (files, device, or_demo) = (args.model.clone(), args.device.clone(), args.or_demo);
    let models = args.models.clone();
    let limits = args.keeping.limits(args.queue, args.queue_per_owner);
    let (journal, watchdog) = (args.keeping.journal()?, args.watchdog);
    let vram = args.vram.budget();
    let (lora, opened) = (args.lora.clone(), Arc::new(OnceLock::new()));
    tokio::task::spawn_blocking(move || {
        let found = opened.clone();
        let load = move || {
            let (models, budget, adapters) =
                models.load(&files, or_demo, (&device, vram), &lora)?;
            found.get_or_init(|| adapters);
            Ok::<_, CliError>((models, budget))
        };
        let make = move |models, budget| {
            let jobs = match journal {
                Some(journal) => Jobs::with_journal(limits, journal, models, budget),
                None => Jobs::new(limits, models, budget),
            };
            jobs.with_tracer(tracer)
        };
        let jobs = device::start_with(load, make)?;
        if let Some(limit) = watchdog.limit(jobs.capabilities().device == "cpu") {
            device::watch(jobs.clone(), limit)
                .map_err(|e| CliError::new(format!("the watchdog cannot start: {e}"), ""))?;
        }
        server::restore(&jobs, jobs.recorder().recover());
        let Some(adapters) = opened.get().cloned() else {
            return Err(CliError::new("the model was not loaded", ""));
        };
        read_ahead(adapters.clone());
        Ok((jobs, adapters))
    })
    .await
    .unwrap_or_else(|e| Err(CliError::new(format!("loading the model failed: {e}"), "")))
}

fn announce(listener: &TcpListener, jobs: &Jobs, tls: Option<&Tls>) {
    let can = jobs.capabilities();
    let models: Vec<_> = can.models.iter().map(|model| &*model.name).collect();
    match listener.local_addr() {
        Ok(address) => tracing::info!(
            %address,
            model = can.model,
            device = can.device,
            precision = can.precision,
            operations = can.operations.join(" "),
            models = models.join(" "),
            fingerprint = tls.map(Tls::fingerprint),
            "ready"
        ),
        Err(error) => tracing::warn!(%error, "ready, at an address the system does not tell"),
    }
}

/// Whether an address is loopback, which only programs on this machine can reach.
fn is_this_machine(address: IpAddr) -> bool {
    // An IPv4 address may be mapped to an IPv6 one.
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
