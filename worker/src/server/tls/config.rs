//! A certificate ready for connections.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{Error, ServerConfig};

use super::pem::{self, TlsError};
use super::self_made;
use super::validity::{self, Validity};
use crate::server::stamp::Stamp;

/// The worker's certificate with its key, for TLS 1.2 and 1.3. Clones stand for the same one.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    certificate: PathBuf,
    key: PathBuf,
    /// Which versions of the two files were read last.
    stamps: Mutex<Stamps>,
    loaded: RwLock<Loaded>,
}

type Stamps = [Option<Stamp>; 2];

/// What connections need of a certificate.
#[derive(Clone)]
struct Loaded {
    config: Arc<ServerConfig>,
    fingerprint: String,
}

impl Tls {
    /// The operator's certificate and key, in the PEM format. A certificate that is not valid
    /// at this time is only warned of: clients that pin its fingerprint accept it.
    ///
    /// # Errors
    /// A file cannot be read, is no certificate or no key, or the two do not belong together.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(Shared {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            stamps: Mutex::new([certificate, key].map(Stamp::of)),
            loaded: RwLock::new(load(certificate, key)?),
        })))
    }

    /// The worker's own certificate in `folder`, which is made for `names`, host names or IP
    /// addresses, if there is none yet.
    ///
    /// # Errors
    /// The folder cannot be read or written, or its certificate is damaged.
    pub fn self_made(folder: &Path, names: &[String]) -> Result<Self, TlsError> {
        let path = self_made::find_or_make(folder, names)?;
        Self::from_files(&path, &path)
    }

    /// Reads certificate and key again if a file has changed, for the connections from then on.
    /// If they cannot be used, or do not yet belong together, the earlier ones stay.
    pub fn reload(&self) {
        let Shared {
            certificate, key, ..
        } = &*self.0;
        let mut stamps = self.0.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let present = [certificate, key].map(|path| Stamp::of(path));
        if *stamps == present {
            return;
        }
        *stamps = present;
        match load(certificate, key) {
            Ok(loaded) => {
                let fingerprint = loaded.fingerprint.clone();
                *self
                    .0
                    .loaded
                    .write()
                    .unwrap_or_else(PoisonError::into_inner) = loaded;
                tracing::info!(fingerprint, "certificate read again");
            }
            Err(error) => {
                let hint = error.hint();
                tracing::error!(%error, hint, "the certificate stays as it was");
            }
        }
    }

    fn loaded(&self) -> Loaded {
        let loaded = self.0.loaded.read();
        loaded.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What connections need.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.loaded().config
    }

    /// The SHA-256 digest of the certificate, in pairs of hexadecimal digits with colons, as
    /// `openssl x509 -fingerprint -sha256` prints it.
    pub fn fingerprint(&self) -> String {
        self.loaded().fingerprint
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

fn load(certificate: &Path, key: &Path) -> Result<Loaded, TlsError> {
    let chain = pem::certificates(certificate, &pem::read(certificate)?)?;
    let secret = pem::key(key, &pem::read(key)?)?;
    if let Some(mode) = self_made::readable_by_all(key) {
        let path = key.display();
        tracing::warn!(%path, mode, "every user of this machine can read the private key");
    }
    let digest: [u8; 32] = Sha256::digest(&chain[0]).into();
    if let Some(validity) = validity::of(&chain[0]) {
        warn_unless_valid(certificate, validity);
    }
    let builder = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_protocol_versions(&[&TLS13, &TLS12]);
    let mut config = builder
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, secret)
        })
        .map_err(|error| match error {
            Error::InconsistentKeys(_) => TlsError::Mismatch {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            },
            error => TlsError::Unusable {
                certificate: certificate.to_owned(),
                error,
            },
        })?;
    // A client that can choose must not choose HTTP/2.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Loaded {
        config: Arc::new(config),
        fingerprint: digest.map(|byte| format!("{byte:02X}")).join(":"),
    })
}

fn warn_unless_valid(certificate: &Path, validity: Validity) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs() as i64);
    let path = certificate.display();
    let days = |seconds: i64| seconds / 86_400;
    if now > validity.ends {
        let days = days(now - validity.ends);
        tracing::warn!(%path, days, "the certificate has expired: renew it");
    } else if now < validity.begins {
        let days = days(validity.begins - now);
        tracing::warn!(%path, days, "the certificate is not yet valid: check this machine's clock");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { folder }
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        }
    }

    fn made() -> (String, String) {
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_certificate_and_its_key_are_read() {
        let files = Files::new();
        let (certificate, key) = made();
        let certificate = files.write("certificate", &certificate);
        let tls = Tls::from_files(&certificate, &files.write("key", &key)).unwrap();
        let fingerprint = tls.fingerprint();
        let digits: Vec<_> = fingerprint.split(':').collect();
        assert_eq!(digits.len(), 32);
        assert!(digits.iter().all(|d| u8::from_str_radix(d, 16).is_ok()));
        // Both may be in one file.
        let (certificate, key) = made();
        let both = files.write("both", &(certificate + &key));
        let other = Tls::from_files(&both, &both).unwrap();
        assert_ne!(tls.fingerprint(), other.fingerprint());
        assert!(format!("{other:?}").contains(&other.fingerprint()));
    }

    #[test]
    fn a_renewed_certificate_is_read_again() {
        let files = Files::new();
        let (certificate, key) = made();
        let paths = [
            files.write("certificate", &certificate),
            files.write("key", &key),
        ];
        let tls = Tls::from_files(&paths[0], &paths[1]).unwrap();
        let first = tls.fingerprint();
        let (certificate, key) = made();
        // Between the two, they do not belong together.
        files.write("certificate", &certificate);
        tls.reload();
        assert_eq!(tls.fingerprint(), first);
        files.write("key", &key);
        tls.clone().reload();
        let second = tls.fingerprint();
        assert_ne!(second, first);
        std::fs::remove_file(&paths[0]).unwrap();
        tls.reload();
        assert_eq!(tls.fingerprint(), second);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let files = Files::new();
        let (certificate, key) = made();
        let (other_certificate, other_key) = made();
        let cut = &certificate[..certificate.len() / 2];
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let not_a_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let huge = "x".repeat(2 << 20);
        let cases: &[(&str, &str, &str)] = &[
            (
                &certificate,
                &other_key,
                "does not belong to the certificate",
            ),
            (
                &other_certificate,
                &key,
                "does not belong to the certificate",
            ),
            (&key, &key, "has no certificate"),
            ("", &key, "has no certificate"),
            (cut, &key, "has no certificate"),
            (not_a_certificate, &key, "cannot be used"),
            (&certificate, &certificate, "has no private key"),
            (&certificate, "", "has no private key"),
            (&certificate, encrypted, "is encrypted with a passphrase"),
            (&huge, &key, "more than 1048576 bytes"),
        ];
        for (certificate, key, wanted) in cases {
            let certificate = files.write("certificate", certificate);
            let key = files.write("key", key);
            let error = Tls::from_files(&certificate, &key).unwrap_err();
            assert!(error.to_string().contains(wanted), "{wanted}: {error}");
            assert!(!error.hint().is_empty());
        }
        let missing = files.folder.path().join("missing");
        let error = Tls::from_files(&missing, &missing).unwrap_err();
        assert!(error.to_string().contains("cannot be read"), "{error}");
    }
}
