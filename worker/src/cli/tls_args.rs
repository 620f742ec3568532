//! The certificate that `serve` shows to clients, and when it does.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::error::CliError;
use crate::server::{Tls, TlsError};

/// When connections are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TlsMode {
    /// If other machines can reach the address and --insecure is not given, or if a certificate
    /// is given.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Whether and how connections are encrypted.
#[derive(Clone, Debug, Args)]
pub struct TlsArgs {
    /// Encrypt connections.
    #[arg(long, value_enum, default_value_t = TlsMode::Auto)]
    tls: TlsMode,
    /// Certificate with its chain, in the PEM format, read again when it changes. Without one, the worker makes a
    /// certificate of its own, which clients pin by the fingerprint in the log.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert, in the PEM format, without a passphrase.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Folder of the worker's own certificate; by default `tls` in --state-dir or, without it,
    /// `ovis-worker/tls` in $XDG_STATE_HOME or ~/.local/state.
    #[arg(long, value_name = "DIR")]
    tls_dir: Option<PathBuf>,
}

/// What decides whether connections are encrypted, besides the options.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// The address that is listened on.
    pub address: SocketAddr,
    /// Whether only programs on this machine can reach it.
    pub is_local: bool,
    /// Whether `--insecure` is given.
    pub is_insecure: bool,
}

impl TlsArgs {
    /// The encryption of connections, if there is any. `names` are host names by which clients
    /// know the worker; `state_dir` is the folder of `--state-dir`.
    ///
    /// # Errors
    /// `--tls off` would let others read the token, or the certificate cannot be used.
    pub fn tls(
        &self,
        reach: Reach,
        names: &[&str],
        state_dir: Option<&Path>,
    ) -> Result<Option<Tls>, CliError> {
        let address = reach.address;
        if !self.is_wanted(reach)? {
            if !reach.is_local {
                tracing::warn!(%address, "connections are not encrypted: the network can read tokens and images");
            }
            return Ok(None);
        }
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Tls::from_files(certificate, key),
            _ => Tls::self_made(&self.folder(state_dir)?, &certified(address, names)),
        };
        tls.map(Some).map_err(explained)
    }

    fn is_wanted(&self, reach: Reach) -> Result<bool, CliError> {
        let is_given = self.tls_cert.is_some();
        let is_needed = !reach.is_local && !reach.is_insecure;
        match self.tls {
            TlsMode::On => Ok(true),
            TlsMode::Auto => Ok(is_given || is_needed),
            TlsMode::Off if is_given => Err(CliError::new(
                "--tls off is given with a certificate",
                "Leave out --tls, or --tls-cert and --tls-key.",
            )),
            TlsMode::Off if is_needed => Err(CliError::new(
                format!(
                    "other machines can reach {}, and with --tls off the network can read the \
                     token",
                    reach.address
                ),
                "Leave out --tls; or give --insecure if nobody else is on that network, such as \
                 between this worker and a proxy that terminates TLS.",
            )),
            TlsMode::Off => Ok(false),
        }
    }

    fn folder(&self, state_dir: Option<&Path>) -> Result<PathBuf, CliError> {
        if let Some(folder) = &self.tls_dir {
            return Ok(folder.clone());
        }
        if let Some(folder) = state_dir {
            return Ok(folder.join("tls"));
        }
        user_state(|name| env::var_os(name).map(PathBuf::from))
            .map(|folder| folder.join("ovis-worker").join("tls"))
            .ok_or_else(|| {
                CliError::new(
                    "this user has no home folder to keep the worker's own certificate in",
                    "Name a folder with --tls-dir, or give --tls-cert and --tls-key.",
                )
            })
    }
}

fn explained(error: TlsError) -> CliError {
    CliError::new(error.to_string(), error.hint())
}

/// The folder in which this user's programs keep their state. A relative path in a variable
/// counts as none, as the XDG Base Directory Specification says.
fn user_state(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    let home = || Some(absolute("HOME")?.join(".local").join("state"));
    match cfg!(windows) {
        true => absolute("LOCALAPPDATA"),
        false => absolute("XDG_STATE_HOME").or_else(home),
    }
}

/// The names and addresses in the worker's own certificate. Names that no certificate can have
/// are left out.
fn certified(address: SocketAddr, names: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
    let ip = address.ip().to_canonical();
    let ip = (!ip.is_unspecified()).then(|| ip.to_string());
    for name in names.iter().copied().chain(ip.as_deref()) {
        let name = name.trim().trim_matches(['[', ']']).to_ascii_lowercase();
        let is_unspecified = matches!(name.as_str(), "0.0.0.0" | "::");
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:".contains(&b);
        if !name.is_empty() && !is_unspecified && name.bytes().all(is_plain) && !all.contains(&name)
        {
            all.push(name);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(tls: TlsMode, certificate: Option<&str>) -> TlsArgs {
        TlsArgs {
            tls,
            tls_cert: certificate.map(PathBuf::from),
            tls_key: certificate.map(PathBuf::from),
            tls_dir: None,
        }
    }

    #[test]
    fn what_others_can_reach_is_encrypted_unless_insecure_is_said() {
        let wanted = |mode, certificate, is_local, is_insecure| {
            let reach = Reach {
                address: "192.0.2.1:7867".parse().unwrap(),
                is_local,
                is_insecure,
            };
            args(mode, certificate).is_wanted(reach).ok()
        };
        let file = Some("certificate");
        assert_eq!(wanted(TlsMode::Auto, None, true, false), Some(false));
        assert_eq!(wanted(TlsMode::Auto, None, false, false), Some(true));
        assert_eq!(wanted(TlsMode::Auto, None, false, true), Some(false));
        assert_eq!(wanted(TlsMode::Auto, file, true, false), Some(true));
        assert_eq!(wanted(TlsMode::Auto, file, false, true), Some(true));
        assert_eq!(wanted(TlsMode::On, None, true, false), Some(true));
        assert_eq!(wanted(TlsMode::On, None, false, true), Some(true));
        assert_eq!(wanted(TlsMode::Off, None, true, false), Some(false));
        assert_eq!(wanted(TlsMode::Off, None, false, true), Some(false));
        assert_eq!(wanted(TlsMode::Off, None, false, false), None);
        assert_eq!(wanted(TlsMode::Off, file, true, false), None);
    }

    #[test]
    fn the_certificate_has_every_name_of_the_worker_once() {
        let names = |address: &str, names: &[&str]| certified(address.parse().unwrap(), names);
        let own = ["localhost", "127.0.0.1", "::1"];
        assert_eq!(names("127.0.0.1:1", &["localhost", "127.0.0.1"]), own);
        assert_eq!(names("0.0.0.0:1", &["0.0.0.0"]), own);
        assert_eq!(names("[::]:1", &["[::]"]), own);
        assert_eq!(
            names(
                "[2001:db8::1]:1",
                &["GPU-Box", "[2001:db8::1]", "bücher.example", ""]
            )[3..],
            ["gpu-box", "2001:db8::1"]
        );
    }

    #[cfg(unix)]
    #[test]
    fn the_folder_is_the_users_own() {
        let folder = |variables: &[(&str, &str)]| {
            user_state(|name| {
                let value = variables.iter().find(|(other, _)| *other == name);
                value.map(|(_, value)| PathBuf::from(value))
            })
        };
        let state = ("XDG_STATE_HOME", "/state");
        let home = ("HOME", "/home/a");
        assert_eq!(folder(&[state, home]), Some("/state".into()));
        assert_eq!(folder(&[home]), Some("/home/a/.local/state".into()));
        let relative = ("XDG_STATE_HOME", "state");
        assert_eq!(
            folder(&[relative, home]),
            Some("/home/a/.local/state".into())
        );
        assert_eq!(folder(&[relative]), None);
        let args = args(TlsMode::On, None);
        let tls = args.folder(Some(Path::new("/var/lib/ovis")));
        assert_eq!(tls.unwrap(), Path::new("/var/lib/ovis/tls"));
    }
}
