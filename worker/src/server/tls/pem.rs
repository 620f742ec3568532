//! Certificate and key from files in the PEM format.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Most bytes of a file: a chain of certificates has a few thousand.
const MAX_BYTES: u64 = 1 << 20;

/// Why there is no TLS. No message shows a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file or folder cannot be read or written.
    #[error("`{}` cannot be {done}: {error}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a participle: `read`, `written`.
        done: &'static str,
        /// Why.
        error: io::Error,
    },
    /// A file is no certificate.
    #[error("`{}` has no certificate in the PEM format", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file is no private key.
    #[error("`{}` has no private key in the PEM format", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key needs a passphrase.
    #[error("the private key in `{}` is encrypted with a passphrase", path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is not the certificate's.
    #[error(
        "the private key in `{}` does not belong to the certificate in `{}`",
        key.display(),
        certificate.display()
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate or the key is of a kind that is not supported, or damaged.
    #[error("the certificate in `{}` cannot be used: {error}", certificate.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// Why.
        error: rustls::Error,
    },
    /// The worker's own certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    NotMade(#[from] rcgen::Error),
}

impl TlsError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File { .. } => {
                "Check the name and the permissions; --tls-dir names the folder of the worker's \
                 own certificate."
            }
            Self::NoCertificate { .. } => {
                "Give --tls-cert the certificate with its chain, beginning with \
                 `-----BEGIN CERTIFICATE-----`."
            }
            Self::NoKey { .. } => {
                "Give --tls-key the certificate's key, beginning with `-----BEGIN PRIVATE KEY-----`."
            }
            Self::EncryptedKey { .. } => {
                "Decrypt it: openssl pkey -in KEY -out DECRYPTED, in a folder that others cannot read."
            }
            Self::Mismatch { .. } => "Give the pair that was issued together.",
            Self::Unusable { .. } => "Use an ECDSA, RSA or Ed25519 certificate of X.509 version 3.",
            Self::NotMade(_) => "Give a certificate with --tls-cert and --tls-key.",
        }
    }

    /// An error of a file or folder; `done` is a participle.
    pub(super) fn file(path: &Path, done: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { path, done, error }
    }
}

/// A certificate with its chain, the certificate itself first.
pub type Chain = Vec<CertificateDer<'static>>;

/// The bytes of a file in the PEM format.
///
/// # Errors
/// It cannot be read, or it is too large.
pub fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || {
        let mut bytes = Vec::new();
        let file = File::open(path)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > MAX_BYTES {
            true => Err(io::Error::other(format!(
                "it has more than {MAX_BYTES} bytes"
            ))),
            false => Ok(bytes),
        }
    };
    read().map_err(TlsError::file(path, "read"))
}

/// The certificates in the bytes of a file.
///
/// # Errors
/// There is none, or one is damaged.
pub fn certificates(path: &Path, bytes: &[u8]) -> Result<Chain, TlsError> {
    let no_certificate = || TlsError::NoCertificate {
        path: path.to_owned(),
    };
    let all = CertificateDer::pem_slice_iter(bytes).collect::<Result<Chain, _>>();
    all.ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(no_certificate)
}

/// The first private key in the bytes of a file.
///
/// # Errors
/// There is none, or it is damaged or encrypted.
pub fn key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let path = || path.to_owned();
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| {
        let needle: &[u8] = b"ENCRYPTED";
        let is_encrypted = bytes.windows(needle.len()).any(|bytes| bytes == needle);
        match error {
            pem::Error::NoItemsFound if is_encrypted => TlsError::EncryptedKey { path: path() },
            _ => TlsError::NoKey { path: path() },
        }
    })
}
