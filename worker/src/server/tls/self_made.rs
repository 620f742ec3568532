//! A certificate of the worker's own, kept in a folder.
//!
//! Nobody vouches for it. Clients know it by its fingerprint, so it is kept for as long as
//! possible: a new one would be refused by all of them.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

use super::pem::TlsError;

/// The file of certificate and key. They are in one file, so that they always belong together.
const FILE: &str = "self-made.pem";

/// The path of the certificate and key in `folder`. If there are none, they are made for
/// `names`, host names or IP addresses.
///
/// # Errors
/// The folder or the file cannot be written.
pub fn find_or_make(folder: &Path, names: &[String]) -> Result<PathBuf, TlsError> {
    let path = folder.join(FILE);
    match path.symlink_metadata() {
        Ok(_) => return Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(TlsError::file(&path, "read")(error)),
    }
    let text = make(names)?;
    private_folder(folder).map_err(TlsError::file(folder, "made"))?;
    let new = folder.join(format!("{FILE}.{}", std::process::id()));
    let stored = write_private(&new, &text).and_then(|()| put(&new, &path));
    let _ = fs::remove_file(&new);
    stored.map_err(TlsError::file(&path, "written"))?;
    tracing::info!(path = %path.display(), "made a certificate");
    Ok(path)
}

/// The permissions of a file that every user of the machine can read.
#[cfg(unix)]
pub fn readable_by_all(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = path.metadata().ok()?.permissions().mode() & 0o777;
    (mode & 0o004 != 0).then(|| format!("{mode:03o}"))
}

/// The permissions of a file that every user of the machine can read.
#[cfg(not(unix))]
pub fn readable_by_all(_: &Path) -> Option<String> {
    None
}

/// A certificate for `names` and its key, in the PEM format.
fn make(names: &[String]) -> Result<String, TlsError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "ovis-worker");
    // Clients pin this certificate, so there is no point in an end before the machine's.
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2120, 1, 1);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    Ok(certificate.pem() + &key.serialize_pem())
}

/// Makes a folder, and those above it, that only this user can open.
fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Writes a new file that only this user can read, durably.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    // Left by a worker that was killed, whose process id this one now has.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Gives a written file its name, unless another worker was first: then that one's certificate
/// is used, because it may have been shown to its operator already.
fn put(new: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(new, path) {
        Ok(()) => Ok(()),
        Err(_) if path.exists() => Ok(()),
        // Some file systems have no links.
        Err(_) => fs::rename(new, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tls::Tls;

    fn names() -> Vec<String> {
        ["localhost", "127.0.0.1", "::1", "gpu-box"]
            .map(String::from)
            .to_vec()
    }

    #[test]
    fn a_certificate_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("state/tls");
        let first = Tls::self_made(&folder, &names()).unwrap();
        let second = Tls::self_made(&folder, &["other".into()]).unwrap();
        assert_eq!(first.fingerprint(), second.fingerprint());
        let entries: Vec<_> = fs::read_dir(&folder).unwrap().collect();
        assert_eq!(entries.len(), 1, "{entries:?}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&folder.join(FILE)), 0o600);
            assert_eq!(mode(&folder), 0o700);
            assert_eq!(mode(folder.parent().unwrap()), 0o700);
            assert_eq!(readable_by_all(&folder.join(FILE)), None);
        }
    }

    #[test]
    fn workers_that_start_together_use_one_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let one = folder.path().join("one");
        let two = folder.path().join("two");
        let path = folder.path().join(FILE);
        write_private(&one, "1").unwrap();
        write_private(&two, "2").unwrap();
        put(&one, &path).unwrap();
        put(&two, &path).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "1");
    }

    #[test]
    fn a_damaged_certificate_is_not_replaced_silently() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "nothing").unwrap();
        let error = Tls::self_made(folder.path(), &names()).unwrap_err();
        assert!(error.to_string().contains("has no certificate"), "{error}");
        let file = folder.path().join(FILE);
        let error = Tls::self_made(&file.join("below"), &names()).unwrap_err();
        assert!(error.to_string().contains("below"), "{error}");
    }

    #[test]
    fn names_of_every_kind_are_in_the_certificate() {
        let der = |names: &[String]| {
            let text = make(names).unwrap();
            let path = Path::new("made");
            super::super::pem::certificates(path, text.as_bytes()).unwrap()[0].to_vec()
        };
        let der = der(&names());
        let has = |bytes: &[u8]| der.windows(bytes.len()).any(|window| window == bytes);
        assert!(has(b"localhost") && has(b"gpu-box"));
        assert!(has(&[127, 0, 0, 1]) && has(&std::net::Ipv6Addr::LOCALHOST.octets()));
        assert!(make(&["nicht-ascii-ü".into()]).is_err());
    }
}
