//! TLS between equals: each side shows a certificate, and asks the other for one.

use std::io;
use std::sync::Arc;

use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::{
    NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier,
};
use tokio_rustls::rustls::{ClientConfig, Error, ServerConfig, version};

use super::CredentialFiles;
use super::tls::{self, TlsError, TlsFiles, certificates, name, no_pair, trusted};

/// Both sides' configurations.
pub(super) struct Mutual {
    pub dials: ClientConfig,
    pub serves: ServerConfig,
}

/// Only the authority of the files is trusted: the system's vouch for anybody.
pub(super) fn configs(read: &TlsFiles, files: &CredentialFiles) -> Result<Mutual, TlsError> {
    let (Some(_), Some(cert), Some(key)) = (&read.ca, &read.cert, &read.key) else {
        return Err(TlsError::Partial);
    };
    let setup = |error: Error| TlsError::Setup(error.to_string());
    let provider = Arc::new(ring::default_provider());
    let roots = Arc::new(trusted(read, files)?);
    let asks = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
    let asks = asks.map_err(|error| TlsError::BadAuthority {
        path: name(files.ca.as_deref()),
        reason: error.to_string(),
    })?;
    let chain = certificates(cert, "cert-file", files.cert.as_deref())?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| TlsError::NoKey(name(files.key.as_deref())))?;
    let mut serves = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(setup)?
        .with_client_cert_verifier(asks)
        .with_single_cert(chain, key)
        .map_err(|error| no_pair(&error, files))?;
    let mut dials = tls::config(read, files, &[])?;
    // A session that is taken up again shows no certificate again.
    serves.session_storage = Arc::new(NoServerSessionStorage {});
    serves.send_tls13_tickets = 0;
    dials.resumption = Resumption::disabled();
    Ok(Mutual { dials, serves })
}

/// Whether a certificate is for this host.
#[cfg_attr(not(feature = "peers"), allow(dead_code))]
pub(crate) fn vouches(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Ok(name) = ServerName::try_from(host) else {
        return false;
    };
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|certificate| verify_server_name(&certificate, &name).is_ok())
}

/// What a failure between peers means and what to do, where it is one of TLS.
#[cfg_attr(not(feature = "peers"), allow(dead_code))]
pub(crate) fn meaning_for_peers(error: &io::Error, host: &str) -> Option<String> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidMessage(_) => Some(
            "it does not speak TLS, and this node does: give --ca-file, --cert-file and \
             --key-file to all members, or to none"
                .to_owned(),
        ),
        Error::NoCertificatesPresented => Some(
            "it shows no certificate: give it --ca-file, --cert-file and --key-file as this node \
             has"
            .to_owned(),
        ),
        _ => tls::meaning(error, host),
    }
}
