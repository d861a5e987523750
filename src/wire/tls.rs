//! TLS as a client: who is trusted, and what is shown.

use std::io;
use std::path::Path;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, RootCertStore,
};

use super::CredentialFiles;

/// What the files hold.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct TlsFiles {
    pub ca: Option<Vec<u8>>,
    pub cert: Option<Vec<u8>>,
    pub key: Option<Vec<u8>>,
}

/// Why TLS cannot be spoken with these files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// No certificate in it.
    #[error(
        "--{flag} {path}: holds no certificate: PEM was expected, with -----BEGIN CERTIFICATE-----"
    )]
    NoCertificate {
        /// The flag that names it.
        flag: &'static str,
        /// Which file.
        path: String,
    },
    /// No key in it.
    #[error("--key-file {0}: holds no private key: PEM was expected, without a passphrase")]
    NoKey(String),
    /// One of the two is missing.
    #[error("--cert-file and --key-file belong together: give both or neither")]
    Half,
    /// Between peers nothing of it can be left out.
    #[error(
        "peers prove to each other who they are: --ca-file, --cert-file and --key-file belong \
         together, give all three or none"
    )]
    Partial,
    /// They are not a pair.
    #[error("--cert-file {cert} and --key-file {key}: {reason}")]
    NoPair {
        /// The certificate.
        cert: String,
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// An authority that cannot be used.
    #[error("--ca-file {path}: {reason}")]
    BadAuthority {
        /// Which file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// This machine trusts nobody.
    #[error(
        "this machine has no certificate authorities that could vouch for the store: give \
         --ca-file, or install the ca-certificates package"
    )]
    NobodyTrusted,
    /// The library refuses.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// The configuration of a connection.
pub(super) fn config(
    read: &TlsFiles,
    files: &CredentialFiles,
    protocols: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    let setup = |error: Error| TlsError::Setup(error.to_string());
    let builder = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .with_root_certificates(trusted(read, files)?);
    let mut config = match (&read.cert, &read.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = certificates(cert, "cert-file", files.cert.as_deref())?;
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|_| TlsError::NoKey(name(files.key.as_deref())))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| no_pair(&error, files))?
        }
        _ => return Err(TlsError::Half),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

pub(super) fn no_pair(error: &Error, files: &CredentialFiles) -> TlsError {
    TlsError::NoPair {
        cert: name(files.cert.as_deref()),
        key: name(files.key.as_deref()),
        reason: match error {
            Error::InconsistentKeys(_) => "the key is not the one of the certificate".to_owned(),
            other => other.to_string(),
        },
    }
}

pub(super) fn name(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |path| path.display().to_string())
}

/// The authority that was named, and nobody else; without one, the system's.
pub(super) fn trusted(read: &TlsFiles, files: &CredentialFiles) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    let Some(pem) = &read.ca else {
        let found = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(found.certs);
        return if store.is_empty() {
            Err(TlsError::NobodyTrusted)
        } else {
            Ok(store)
        };
    };
    for authority in certificates(pem, "ca-file", files.ca.as_deref())? {
        store
            .add(authority)
            .map_err(|error| TlsError::BadAuthority {
                path: name(files.ca.as_deref()),
                reason: error.to_string(),
            })?;
    }
    Ok(store)
}

pub(super) fn certificates(
    pem: &[u8],
    flag: &'static str,
    path: Option<&Path>,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = || TlsError::NoCertificate {
        flag,
        path: name(path),
    };
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| none())?;
    if found.is_empty() {
        return Err(none());
    }
    Ok(found)
}

/// What a failure on a TLS connection means and what to do, where it is one of TLS.
pub(super) fn meaning(error: &io::Error, host: &str) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidCertificate(why) => certificate(why, host),
        Error::AlertReceived(alert) => refusal(*alert),
        Error::InvalidMessage(_) => {
            "what answers there does not speak TLS: use the scheme without TLS, or the port that \
             speaks it"
                .to_owned()
        }
        other => format!("TLS failed: {other}"),
    })
}

fn certificate(why: &CertificateError, host: &str) -> String {
    match why {
        CertificateError::UnknownIssuer => {
            "nobody who is trusted here vouches for its certificate: give the authority that \
             signed it with --ca-file"
                .to_owned()
        }
        CertificateError::NotValidForName => named_otherwise(host, &[]),
        CertificateError::NotValidForNameContext { presented, .. } => {
            named_otherwise(host, presented)
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: renew it (and check this machine's clock)".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: check this machine's clock".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is for another use: have it signed for serverAuth, and for clientAuth \
             where it is shown to a server (extended key usage)"
                .to_owned()
        }
        other => format!("its certificate is not accepted: {other}"),
    }
}

fn named_otherwise(host: &str, presented: &[String]) -> String {
    let names = match presented {
        [] => String::new(),
        names => format!(" (it is for {})", names.join(", ")),
    };
    format!(
        "its certificate is not for the name {host}{names}: use a name that is in it, or have it \
         signed for {host} as a subject alternative name"
    )
}

fn refusal(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "it asks for a client certificate: give --cert-file and --key-file".to_owned()
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnknownCA
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateExpired
        | AlertDescription::AccessDenied
        | AlertDescription::HandshakeFailure => format!(
            "it refuses this node's certificate ({alert:?}): give one with --cert-file and \
             --key-file that its own authority signed and that has not expired"
        ),
        other => format!("it ended TLS with the alert {other:?}"),
    }
}
